"""A document: one table for each kind, so that none passes for another."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

from evit_cli import __version__
from evit_cli.bench.report import columns as of
from evit_cli.bench.report.columns import Column, bounds_ms, error_words, finite, short, used
from evit_cli.bench.report.environments import Environment, environments
from evit_cli.bench.report.words import PROTOCOL, TABLE_TITLES, count_words
from evit_cli.bench.row import Kind, Row

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#&~])")


def _latency(title: str, digits: int) -> Column:
    return Column(
        title, lambda row: short(finite(row.latency_ms), digits), lambda row: row.latency_ms
    )


def _bound(title: str, index: int) -> Column:
    return Column(
        title, lambda row: short(bounds_ms(row)[index]), lambda row: bounds_ms(row)[index]
    )


_MODEL = (*of.MODEL, of.ACCURACY)
_RATE = replace(of.RATE, title="images/s")
COLUMNS: dict[Kind, tuple[Column, ...]] = {
    Kind.MEASURED: (
        *of.NAMES, of.DEVICE, *of.HOST, *of.COMPUTE, *of.E2E, of.RATE, *_MODEL, *of.COST, of.RATIO,
        Column("tainted", lambda row: "; ".join(row.tainted)),
    ),
    Kind.PUBLISHED: (
        *of.NAMES, of.DEVICE, _latency("published host latency, ms", 3), _RATE, *_MODEL,
        Column("source", lambda row: row.source),
    ),
    Kind.ESTIMATE: (
        *of.NAMES, of.DEVICE, _latency("estimated host latency, ms", 2), _bound("low, ms", 0),
        _bound("high, ms", 1), Column("error", error_words),
        Column("method", lambda row: str(row.estimate.get("method", ""))), *_MODEL,
    ),
    Kind.FAILED: of.FAILED,
}  # fmt: skip


def render_markdown(rows: Sequence[Row], title: str) -> str:
    """The document."""
    machines = environments(rows)
    now = datetime.now(timezone.utc)
    parts = [
        f"# {escape(title)}",
        f"{count_words(rows).capitalize()}.",
        *kind_tables(rows, machines=machines),
    ]
    for machine in machines:
        parts += [f"## Machine {machine.number}: {escape(machine.title)}", machine_facts(machine)]
    parts += ["## Protocol", PROTOCOL]
    parts.append(f"Made by evit {__version__}, {now:%Y-%m-%d %H:%M} UTC.")
    return "\n\n".join(parts) + "\n"


def kind_tables(
    rows: Sequence[Row], *, level: int = 2, machines: Sequence[Environment] = ()
) -> list[str]:
    """A heading and a table for each kind that there is.

    Args:
        rows: of any kinds.
        level: of the headings.
        machines: to which the rows refer by number; none are named where there is but one.
    """
    numbers = {id(row): machine.number for machine in machines for row in machine.rows}
    number = Column("machine", lambda row: str(numbers.get(id(row), "")), lambda _: None)
    parts = []
    for kind, columns in COLUMNS.items():
        of_kind = [row for row in rows if row.kind is kind]
        if of_kind:
            parts.append(f"{'#' * level} {TABLE_TITLES[kind]}")
            shown = used(columns, of_kind)
            if kind is Kind.MEASURED and len(machines) > 1:
                shown.insert(1, number)
            parts.append(table(of_kind, shown))
    return parts


def table(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """One line per row; numbers to the right."""
    lines = [
        [escape(column.title) for column in columns],
        ["---" if column.number is None else "---:" for column in columns],
        *([escape(column.text(row)) for column in columns] for row in rows),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def machine_facts(machine: Environment) -> str:
    """What is known of a machine, a line each."""
    return "\n".join(f"- {escape(label)}: {escape(value)}" for label, value in machine.facts)


def escape(text: str) -> str:
    """Text that stands for itself, in a table too."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
