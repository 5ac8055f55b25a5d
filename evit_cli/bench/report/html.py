"""One self-contained page: plots, a table that can be sorted and filtered, machines, protocol.

The page asks the network for nothing, and its Content-Security-Policy forbids it to: style and
script are allowed by their hashes, all else is refused.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from html import escape
from importlib.resources import files
from string import Template

from evit_cli import __version__
from evit_cli.bench.report.charts import WORDS, figure, key_sample
from evit_cli.bench.report.columns import ALL, FAILED, Column, used
from evit_cli.bench.report.environments import Environment, environments
from evit_cli.bench.report.facets import facets
from evit_cli.bench.report.markup import Element, extend, node, write
from evit_cli.bench.report.words import KINDS, PROTOCOL, count_words
from evit_cli.bench.row import Kind, Row

Numbered = tuple[int, Row]


def render_html(rows: Sequence[Row], title: str) -> str:
    """The page."""
    folder = files("evit_cli.bench.report")
    template, style, script = (
        (folder / name).read_text("utf-8") for name in ("template.html", "report.css", "report.js")
    )
    numbered = list(enumerate(rows))
    timed = [(index, row) for index, row in numbered if row.kind is not Kind.FAILED]
    failed = [(index, row) for index, row in numbered if row.kind is Kind.FAILED]
    machines = environments(rows)
    now = datetime.now(timezone.utc).replace(microsecond=0)
    return Template(template).substitute(
        title=escape(title),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        counts=escape(count_words(rows)),
        key=_join(_key(rows)),
        plots=_join(_plots(rows)),
        filters=_join(_filters(timed)),
        table=_join(_results(timed, machines)),
        failed=_join(_failed(failed)),
        machines=_join(_machines(machines)),
        protocol=escape(PROTOCOL),
        time=now.isoformat(),
        time_words=now.strftime("%Y-%m-%d %H:%M UTC"),
        version=escape(__version__),
    )


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _join(elements: Iterable[Element]) -> str:
    return "\n".join(write(element) for element in elements)


def _key(rows: Sequence[Row]) -> Iterable[Element]:
    """What the shapes and words mean; of the kinds that there are."""
    for kind, meaning in KINDS.items():
        if any(row.kind is kind for row in rows):
            words = node("span", node("b", f"{WORDS[kind]}: "), meaning)
            yield node("li", key_sample(kind), words)
    if any(row.tainted for row in rows):
        sample = key_sample(Kind.MEASURED, tainted=True)
        words = node("span", node("b", "tainted: "), "measured, but something disturbed it.")
        yield node("li", sample, words)


def _plots(rows: Sequence[Row]) -> Iterable[Element]:
    made = [figure(facet) for facet in facets(rows)]
    return made or [
        node("p", "There is nothing to plot: that takes a latency with an accuracy or MACs.")
    ]


def _filters(rows: Sequence[Numbered]) -> Iterable[Element]:
    words = node(
        "input",
        type="search",
        id="words",
        autocomplete="off",
        placeholder="for example: seg-b0 int8",
    )
    yield node("label", "Rows with all of these words ", words)
    for kind in KINDS:
        if any(row.kind is kind for _, row in rows):
            box = node("input", type="checkbox", name="kind", value=kind.value, checked="checked")
            yield node("label", box, key_sample(kind), WORDS[kind], class_="check")
    if any(row.tainted for _, row in rows):
        box = node("input", type="checkbox", name="tainted", checked="checked")
        yield node("label", box, key_sample(Kind.MEASURED, tainted=True), "tainted", class_="check")


def _results(rows: Sequence[Numbered], machines: Sequence[Environment]) -> Iterable[Element]:
    if not rows:
        return [node("p", "There are no rows with a latency.")]
    return [_table("rows", "Results", rows, ALL, machines)]


def _failed(rows: Sequence[Numbered]) -> Iterable[Element]:
    if not rows:
        return []
    heading = node("h2", "Failed", id="failed")
    lead = node("p", "These could not be measured. They are in no plot.")
    return [node("section", heading, lead, _table("failures", "Failed rows", rows, FAILED, ()))]


def _table(
    name: str,
    caption: str,
    rows: Sequence[Numbered],
    columns: Sequence[Column],
    machines: Sequence[Environment],
) -> Element:
    shown = used(columns, [row for _, row in rows])
    numbers = {id(row): machine for machine in machines for row in machine.rows}
    head = node("tr", *(_heading(column) for column in shown))
    head.insert(1, node("th", "kind", scope="col"))
    if machines:
        head.insert(2, node("th", "machine", scope="col", class_="num"))
    body = node("tbody")
    for index, row in rows:
        line = node(
            "tr",
            *(_cell(column, row) for column in shown),
            id=f"row-{index}",
            data_row=index,
            data_kind=row.kind.value,
            class_=f"is-{row.kind.value}",
        )
        line.insert(1, _kind_cell(row))
        if machines:
            line.insert(2, _machine_cell(numbers.get(id(row))))
        extend(body, line)
    table = node("table", node("caption", caption), node("thead", head), body, id=name)
    return node("div", table, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _heading(column: Column) -> Element:
    numeric = column.number is not None
    kind = "num" if numeric else None
    return node("th", column.title, scope="col", class_=kind, title=column.hint or None)


def _cell(column: Column, row: Row) -> Element:
    text = column.text(row)
    if column.title == "model":
        return node("th", text, scope="row")
    if column.number is None:
        return node("td", text, class_="notes" if column.title in ("notes", "why") else None)
    return node("td", text, class_="num", data_value=column.number(row))


def _kind_cell(row: Row) -> Element:
    cell = node("td", class_="kind")
    if row.kind is not Kind.FAILED:
        extend(cell, key_sample(row.kind, tainted=bool(row.tainted)))
    extend(cell, WORDS[row.kind])
    if row.tainted:
        extend(cell, ", ", node("b", "tainted"))
        cell.set("data-tainted", "")
    return cell


def _machine_cell(machine: Environment | None) -> Element:
    if machine is None:
        return node("td", class_="num")
    link = node("a", str(machine.number), href=f"#machine-{machine.number}", title=machine.title)
    return node("td", link, class_="num", data_value=machine.number)


def _machines(machines: Sequence[Environment]) -> Iterable[Element]:
    if not machines:
        return [node("p", "No row here was measured, so there is no machine to describe.")]
    return [_machine(machine) for machine in machines]


def _machine(machine: Environment) -> Element:
    facts = node("dl")
    for label, value in machine.facts:
        extend(facts, node("div", node("dt", label), node("dd", value)))
    many = f"{len(machine.rows)} row{'s' if len(machine.rows) != 1 else ''}"
    heading = node("h3", f"{machine.number}. {machine.title}")
    return node(
        "section", heading, node("p", many), facts, class_="machine", id=f"machine-{machine.number}"
    )
