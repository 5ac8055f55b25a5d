"""Which plots a report has, and what stands in each.

Numbers share a plot only where they may be compared: one metric on one data set, one machine, one
batch size, and for dense tasks one input size. Published rows and estimates of a board stand beside
what was measured on that board, never beside another.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evit_cli.bench.report.columns import accuracy, bounds_ms, finite
from evit_cli.bench.report.environments import processor
from evit_cli.bench.row import Kind, Row
from evit_cli.types import Task

_KINDS = (Kind.MEASURED, Kind.PUBLISHED, Kind.ESTIMATE)
_VARIANT = re.compile(r"^(b|l|xl|s|m|n|t|w)?\d*$")
_RESOLUTION = re.compile(r"^r\d+$")
_UNITS = {"mIoU": "%", "top-1": "%", "mAP": "%", "PSNR": "dB"}
_WORDS = {
    Task.CLASSIFY: "classification",
    Task.SEGMENT: "segmentation",
    Task.SUPERRES: "super-resolution",
    Task.SAM: "SAM",
}


@dataclass(frozen=True)
class Mark:
    """One point of a plot.

    Attributes:
        index: of the row in the report.
        row: what it stands for.
        x: milliseconds per run.
        y: in the unit of the plot.
        low: where an estimate's error bar begins, milliseconds; None without one.
        high: where it ends.
    """

    index: int
    row: Row
    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Series:
    """Points of one family, run in one way: joined by a line.

    Attributes:
        family: what its models have in common.
        way: backend, precision and what else tells it from other series of the family.
        kind: of all its rows.
        marks: by rising latency.
    """

    family: str
    way: str
    kind: Kind
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Facet:
    """One plot.

    Attributes:
        title: what is plotted.
        where: machine, batch and size.
        x_title: with the unit.
        y_title: with the unit.
        y_log: whether the vertical axis is logarithmic.
        series: measured ones first.
        note: what must be said beside it, "" for nothing.
    """

    title: str
    where: str
    x_title: str
    y_title: str
    y_log: bool
    series: tuple[Series, ...]
    note: str = ""


def facets(rows: Sequence[Row]) -> list[Facet]:
    """Accuracy over latency, then multiply-accumulates over latency."""
    plotted = [
        (index, row)
        for index, row in enumerate(rows)
        if row.kind in _KINDS and (finite(row.latency_ms) or 0) > 0
    ]
    return [*_accuracy(plotted), *_macs(plotted)]


def _accuracy(rows: Sequence[tuple[int, Row]]) -> Iterator[Facet]:
    groups: dict[tuple[str, str], list[Mark]] = {}
    for index, row in rows:
        value = accuracy(row)
        if value is not None:
            names = str(row.metric.get("name", "accuracy")), str(row.metric.get("dataset", ""))
            groups.setdefault(names, []).append(_mark(index, row, value))
    for (name, dataset), marks in groups.items():
        title = f"{name} on {dataset}" if dataset else name
        y_title = ", ".join(filter(None, (name, _UNITS.get(name, ""))))
        yield from _facets(f"{title} over latency", y_title, marks, y_log=False)


def _macs(rows: Sequence[tuple[int, Row]]) -> Iterator[Facet]:
    groups: dict[Task, list[Mark]] = {}
    for index, row in rows:
        if row.macs:
            groups.setdefault(row.point.task, []).append(_mark(index, row, row.macs / 1e9))
    for task, marks in groups.items():
        title = f"MACs over latency: {_WORDS[task]}"
        yield from _facets(title, "MACs per image, 1e9", marks, y_log=True)


def _mark(index: int, row: Row, y: float) -> Mark:
    low, high = bounds_ms(row) if row.kind is Kind.ESTIMATE else (None, None)
    return Mark(index, row, float(row.latency_ms or 0), y, low, high)


def _facets(title: str, y_title: str, marks: Sequence[Mark], *, y_log: bool) -> Iterator[Facet]:
    sizes: dict[tuple[int, str], list[Mark]] = {}
    for mark in marks:
        point = mark.row.point
        dense = point.task in (Task.SEGMENT, Task.SUPERRES)
        sizes.setdefault((point.batch, str(point.size_hw) if dense else ""), []).append(mark)
    for (batch, size), group in sizes.items():
        per = "one image" if batch == 1 else f"a batch of {batch}"
        for where, there in _by_machine(group).items():
            words = ", ".join(filter(None, (where, per, size)))
            x_title = f"latency of {per}, ms (log)"
            note = "" if y_log else _accuracy_note(there)
            yield Facet(title, words, x_title, y_title, y_log, tuple(_series(there)), note)


def _accuracy_note(marks: Sequence[Mark]) -> str:
    """A latency of ours may stand over an accuracy that others obtained: then it is said."""
    sources = [str(mark.row.metric.get("source", "")) for mark in marks]
    ours = [mark.row.kind is Kind.MEASURED for mark in marks]
    if any(mine and source == "published" for mine, source in zip(ours, sources, strict=True)):
        return "Accuracy as published for the float model; only the latency was measured."
    return ""


def _by_machine(marks: Sequence[Mark]) -> dict[str, list[Mark]]:
    """Measured points by the machine they ran on, each with what is known of the same board."""
    known: dict[str, list[Mark]] = {}
    measured: dict[tuple[str, str], list[Mark]] = {}
    for mark in marks:
        row = mark.row
        if row.kind is Kind.MEASURED:
            machine = " at ".join(filter(None, (processor(row), row.host_name)))
            measured.setdefault((row.device, machine), []).append(mark)
        else:
            known.setdefault(row.device, []).append(mark)
    panels = {}
    for (device, machine), group in measured.items():
        name = f"{device} ({machine})" if device and machine else device or machine
        panels[name or "this machine"] = group + (known.get(device, []) if device else [])
    boards = {device for device, _ in measured if device}
    for device, group in known.items():
        if device not in boards:
            panels[device or "device not named"] = group
    return panels


def _series(marks: Sequence[Mark]) -> Iterator[Series]:
    groups: dict[tuple[Kind, str, str], list[Mark]] = {}
    for mark in marks:
        key = mark.row.kind, _way(mark.row), family(mark.row.point.model)
        groups.setdefault(key, []).append(mark)
    for kind, way, name in sorted(groups, key=lambda key: (_KINDS.index(key[0]), *key[1:])):
        group = sorted(groups[kind, way, name], key=lambda mark: (mark.x, mark.y))
        yield Series(name, way, kind, tuple(group))


def _way(row: Row) -> str:
    point = row.point
    parts = [point.backend.value, point.form, point.precision.value]
    parts += [f"{point.threads} threads"] if point.threads else []
    parts += ["without transfer"] if row.host is None else []
    mode = row.environment.get("power_mode") if row.kind is Kind.MEASURED else None
    parts += [str(mode)] if mode else []
    parts += ["peers"] if point.peer else []
    return " ".join(filter(None, parts))


def family(model: str) -> str:
    """Models that differ in size only have one: "seg-b0-cityscapes" is of "seg-b-cityscapes".

    >>> family("cls-b3-r288"), family("segformer-b5"), family("swinir")
    ('cls-b', 'segformer', 'swinir')
    """
    first, *rest = model.split("-")
    ours = first in ("cls", "seg", "sam", "sr")
    kept = [first]
    for part in rest:
        if _RESOLUTION.match(part):
            continue
        variant = _VARIANT.match(part)
        if variant is None:
            kept.append(part)
        elif ours and variant[1]:
            kept.append(variant[1])  # B and L are two families
    return "-".join(kept)


def short_name(model: str) -> str:
    """What tells a model from its family, for a label: "b3 r288" of "cls-b3-r288"."""
    first, *rest = model.split("-")
    parts = [part for part in rest if _VARIANT.match(part) or _RESOLUTION.match(part)]
    if first in ("cls", "seg", "sam", "sr") and parts:
        return " ".join(parts)
    return model if len(model) <= 16 else "-".join([first, *parts])
