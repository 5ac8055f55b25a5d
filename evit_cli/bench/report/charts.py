"""Plots as SVG: kinds differ in shape, in colour and in words; estimates have error bars.

Colours are the page's (report.css); nothing here needs a script.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from evit_cli.bench.report.axis import Axis, fit_axis, tick_texts
from evit_cli.bench.report.columns import accuracy, error_words, finite, short
from evit_cli.bench.report.facets import Facet, Mark, Series, short_name
from evit_cli.bench.report.markup import Element, extend, node
from evit_cli.bench.row import Kind, Row

WIDTH, HEIGHT = 480, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 14, 10, 48
_GLYPH_WIDTH, _LINE_HEIGHT = 8.4, 14.0  # of labels, at the larger size that narrow screens get
_NEAR = 40.0  # two marks with the same label are as good as one
_REACH = 7.0  # from the middle of a marker to its edge
_DASHES = (None, "7 4", "2 3", "9 3 2 3", "14 4")
WORDS = {
    Kind.MEASURED: "measured",
    Kind.PUBLISHED: "published",
    Kind.ESTIMATE: "estimate",
    Kind.FAILED: "failed",
}

Box = tuple[float, float, float, float]
Way = tuple[Kind, str]


def figure(facet: Facet) -> Element:
    """A plot with its caption and legend."""
    dashes = _dashes(facet.series)
    families: dict[Way, list[str]] = {}
    for series in facet.series:
        families.setdefault((series.kind, series.way), []).append(series.family)
    legend = node("ul", class_="legend")
    for (kind, way), names in families.items():
        word = node("b", f"{WORDS[kind]}, {way}")
        words = node("span", word, f": {', '.join(names)}")
        extend(legend, node("li", _sample(kind, dashes[kind, way]), words))
    caption = node("figcaption", node("strong", facet.title))
    for text in filter(None, (facet.where, facet.note)):
        extend(caption, node("span", text, class_="where"))
    return node("figure", caption, _plot(facet, dashes), legend, class_="plot")


def marker(kind: Kind, x: float, y: float, *, tainted: bool = False) -> Element:
    """The shape of a kind: a disc, a diamond or a triangle; a tainted one is an open ring."""
    if kind is Kind.MEASURED:
        ring = node("circle", cx=x, cy=y, r=6.5 if tainted else 5.5)
        if not tainted:
            return node("g", ring, class_="shape measured")
        sign = node("text", "!", x=x, y=y + 4, text_anchor="middle")
        return node("g", ring, sign, class_="shape measured tainted")
    corners: tuple[tuple[float, float], ...] = ((0, -7), (7, 0), (0, 7), (-7, 0))
    if kind is not Kind.PUBLISHED:
        corners = ((0, -7), (6.5, 5), (-6.5, 5))
    points = " ".join(f"{round(x + dx, 1)},{round(y + dy, 1)}" for dx, dy in corners)
    return node("g", node("polygon", points=points), class_=f"shape {kind.value}")


def key_sample(kind: Kind, *, tainted: bool = False) -> Element:
    """A marker alone, for words about it."""
    return _small(18, marker(kind, 9, 9, tainted=tainted))


def _sample(kind: Kind, dash: str | None) -> Element:
    line = node("path", d="M1 9H39", class_=f"line {kind.value}", stroke_dasharray=dash)
    return _small(40, line, marker(kind, 20, 9))


def _small(width: int, *shapes: Element) -> Element:
    return node(
        "svg",
        *shapes,
        class_="sample",
        viewBox=f"0 0 {width} 18",
        width=width,
        height=18,
        aria_hidden="true",
    )


def _dashes(series: Sequence[Series]) -> dict[Way, str | None]:
    """A kind has one colour; the ways in which its rows were run differ in their dashes."""
    dashes: dict[Way, str | None] = {}
    for one in series:
        before = sum(kind is one.kind for kind, _ in dashes)
        dashes.setdefault((one.kind, one.way), _DASHES[before % len(_DASHES)])
    return dashes


def _plot(facet: Facet, dashes: Mapping[Way, str | None]) -> Element:
    marks = [mark for series in facet.series for mark in series.marks]
    reach = [x for mark in marks for x in (mark.x, mark.low, mark.high) if x is not None and x > 0]
    across = fit_axis(reach, _LEFT, WIDTH - _RIGHT, log=True)
    up = fit_axis([mark.y for mark in marks], HEIGHT - _BOTTOM, _TOP, log=facet.y_log)
    name = f"{facet.title}, {facet.where}"
    svg = node("svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="group", aria_label=name)
    extend(svg, *_frame(facet, across, up))
    labels = _labels(marks, across, up)
    for series in reversed(facet.series):  # what was measured lies on top
        extend(svg, _series(series, dashes[series.kind, series.way], across, up))
    extend(svg, node("g", *labels, class_="labels", aria_hidden="true"))
    return svg


def _frame(facet: Facet, across: Axis, up: Axis) -> Iterator[Element]:
    """Grid, ticks and the names of the axes."""
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    group = node("g", class_="frame", aria_hidden="true")
    for value, words in zip(across.ticks, tick_texts(across), strict=True):
        x = across.place(value)
        text = node("text", words, x=x, y=bottom + 18, text_anchor="middle")
        extend(group, node("path", d=f"M{x} {_TOP}V{bottom}", class_="grid"), text)
    for value, words in zip(up.ticks, tick_texts(up), strict=True):
        y = up.place(value)
        text = node("text", words, x=_LEFT - 7, y=y + 4.5, text_anchor="end")
        extend(group, node("path", d=f"M{_LEFT} {y}H{right}", class_="grid"), text)
    extend(group, node("path", d=f"M{_LEFT} {_TOP}V{bottom}H{right}", class_="axis"))
    middle = (_LEFT + right) / 2
    extend(group, node("text", facet.x_title, x=middle, y=HEIGHT - 9, text_anchor="middle"))
    turned = f"translate(14 {(_TOP + bottom) / 2}) rotate(-90)"
    extend(group, node("text", facet.y_title, transform=turned, text_anchor="middle"))
    yield group


def _series(series: Series, dash: str | None, across: Axis, up: Axis) -> Element:
    group = node("g", class_="series", data_kind=series.kind.value)
    places = [(across.place(mark.x), up.place(mark.y)) for mark in series.marks]
    if len(places) > 1:
        path = "M" + "L".join(f"{x} {y}" for x, y in places)
        extend(
            group, node("path", d=path, class_=f"line {series.kind.value}", stroke_dasharray=dash)
        )
    for mark, (x, y) in zip(series.marks, places, strict=True):
        point = node(
            "g",
            class_="mark",
            role="img",
            tabindex=-1,
            data_row=mark.index,
            data_kind=series.kind.value,
        )
        extend(point, node("title", describe(mark.row)))
        extend(point, *_error_bar(mark, y, across))
        extend(point, marker(series.kind, x, y, tainted=bool(mark.row.tainted)))
        # What a finger can hit.
        extend(point, node("circle", cx=x, cy=y, r=14, class_="target"))
        extend(group, point)
    return group


def _error_bar(mark: Mark, y: float, across: Axis) -> Iterator[Element]:
    if mark.low is None or mark.high is None or not 0 < mark.low <= mark.high:
        return
    low, high = across.place(mark.low), across.place(mark.high)
    path = f"M{low} {y}H{high}M{low} {y - 4}V{y + 4}M{high} {y - 4}V{y + 4}"
    yield node("path", d=path, class_="error-bar")


def _labels(marks: Sequence[Mark], across: Axis, up: Axis) -> Iterator[Element]:
    """Short names beside their points, each where it covers nothing; left out if nowhere."""
    places = [(across.place(mark.x), up.place(mark.y)) for mark in marks]
    taken: list[Box] = [(x - _REACH, y - _REACH, x + _REACH, y + _REACH) for x, y in places]
    for mark, (_, y) in zip(marks, places, strict=True):
        if mark.low is not None and mark.high is not None and 0 < mark.low <= mark.high:
            taken.append((across.place(mark.low) - 2, y - 5, across.place(mark.high) + 2, y + 5))
    said: list[tuple[str, float, float]] = []
    for mark, (x, y) in zip(marks, places, strict=True):
        text = short_name(mark.row.point.model)
        if any(text == name and math.hypot(x - a, y - b) < _NEAR for name, a, b in said):
            continue  # kinds that agree need no second label
        for dx, dy, anchor in (
            (11, 4, "start"),
            (-11, 4, "end"),
            (0, -12, "middle"),
            (0, 21, "middle"),
            (8, -10, "start"),
            (8, 18, "start"),
            (-8, -10, "end"),
            (-8, 18, "end"),
        ):
            box = _box(text, x + dx, y + dy, anchor)
            inside = box[0] > _LEFT and box[2] < WIDTH - 2
            inside = inside and box[1] > 0 and box[3] < HEIGHT - _BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                said.append((text, x, y))
                yield node(
                    "text",
                    text,
                    x=round(x + dx, 1),
                    y=round(y + dy, 1),
                    text_anchor=anchor,
                    data_row=mark.index,
                    data_kind=mark.row.kind.value,
                )
                break


def _box(text: str, x: float, y: float, anchor: str) -> Box:
    width = _GLYPH_WIDTH * len(text)
    left = x - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, y - _LINE_HEIGHT + 3, left + width, y + 3


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def describe(row: Row) -> str:
    """What a point is, in lines: the words of its tooltip."""
    ms, value = finite(row.latency_ms), accuracy(row)
    lines = [row.point.label]
    if row.kind is Kind.ESTIMATE:
        lines.append(f"estimate, not measured: about {short(ms, 2)} ms, error {error_words(row)}")
    elif row.kind is Kind.PUBLISHED:
        lines.append(f"published, not measured by evit: {short(ms)} ms")
    else:
        part, name = (row.host, "host") if row.host else (row.compute, "compute")
        p95 = "" if part is None else f", p95 {short(finite(part.p95))} ms, {part.n} runs"
        lines.append(f"measured: {name} p50 {short(ms)} ms{p95}")
    if value is not None:
        named = f"{row.metric.get('name', 'accuracy')} {short(value, 4)}"
        lines.append(f"{named} ({row.metric.get('source', 'source unknown')})")
    if row.macs:
        lines.append(f"{short(row.macs / 1e9)} G MACs per image")
    lines += [f"tainted: {reason}" for reason in row.tainted]
    return "\n".join(lines)
