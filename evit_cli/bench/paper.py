"""A table of the paper beside what was measured here: are its speed-ups seen on this machine too?

A latency measured here is not the paper's latency: another device, runtime and precision. What can
be compared are ratios: how much longer a peer takes than the model of ours that reaches its
accuracy, there and here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from evit_cli.bench.peers.catalog import PEERS
from evit_cli.bench.published import PAPER
from evit_cli.bench.published.claims import CLAIMS
from evit_cli.bench.published.entry import Line, Table
from evit_cli.bench.row import Kind, Row
from evit_cli.errors import UsageError, suggest
from evit_cli.models.variants import VARIANTS
from evit_cli.types import ImageSize
from evit_cli.weights.catalog import find_entry

_SHORT = {"jetson-nano": "nano", "jetson-agx-orin": "orin", "a100": "a100"}


class PaperPoint(NamedTuple):
    """A model of ours or a peer, and the input size of its line."""

    model: str
    size_hw: ImageSize


@dataclass(frozen=True)
class Comparison:
    """How much longer a peer takes than a model of ours.

    Attributes:
        to: the model of ours.
        published: ratio of their times by device profile.
        claimed: the same as the paper states it in words, where it does.
        measured: ratio of their median times here; None where one of them was not measured.
        low: the peer's lower quartile divided by ours' upper one.
        high: the peer's upper quartile divided by ours' lower one.
    """

    to: str
    published: Mapping[str, float]
    claimed: Mapping[str, float] = field(default_factory=dict)
    measured: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class PaperLine:
    """A line of the table with what was measured here.

    Attributes:
        table: its name.
        model: a catalog name or a peer's.
        size_hw: of the input in the paper.
        group: lines of one number are compared with each other.
        peer: whether the model is of others.
        metric: as published, e.g. {"name": "mIoU", "value": 75.7}.
        published_ms: milliseconds per image by device profile.
        measured_ms: median milliseconds per image here, None where it was not measured.
        setting: what measured it: backend, precision, batch, form, and where.
        missing: why there is no measurement, "" where there is one.
        tainted: why the measurement may be off.
        comparisons: of a peer: with each model of ours in its group.
    """

    table: str
    model: str
    size_hw: ImageSize
    group: int
    peer: bool
    metric: Mapping[str, Any]
    published_ms: Mapping[str, float]
    measured_ms: float | None = None
    setting: str = ""
    missing: str = ""
    tainted: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()

    def document(self) -> dict[str, Any]:
        """The line as JSON has it."""
        return asdict(self)


def get_paper_table(name: str) -> Table:
    """A table of the paper.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in PAPER:
        raise UsageError(f"the paper has no '{name}'", hint=suggest(name, PAPER))
    return PAPER[name]


def paper_points(table: str, size_hw: ImageSize | None = None) -> list[PaperPoint]:
    """What has to be measured for a table: its models that evit or a library can build.

    Args:
        table: "table2" to "table5", or "sam".
        size_hw: to measure at in place of the paper's sizes, for a machine that is too small.

    Raises:
        UsageError: there is no such table.
    """
    chosen = get_paper_table(table)
    points = [
        PaperPoint(line.model, size_hw or chosen.size_of(line))
        for line in chosen.lines
        if not why_not_built(line.model)
    ]
    return list(dict.fromkeys(points))


def why_not_built(model: str) -> str:
    """Why a model of a table cannot be measured anywhere, "" if it can."""
    if model in PEERS:
        return "" if PEERS[model].library else "no well-kept library has it"
    entry = find_entry(model)
    if entry is None:
        return "its layout was never published"
    return "" if entry.variant in VARIANTS else "evit does not build it yet"


def compare_with_paper(
    table: str, measured: Sequence[Row], size_hw: ImageSize | None = None
) -> list[PaperLine]:
    """Each line of a table with its measurement and the ratios in both.

    Rows of different settings (backend, precision, batch, threads, form, machine) are not mixed:
    each setting gives the whole table once. Without any row the table comes as published.

    Args:
        table: "table2" to "table5", or "sam".
        measured: rows of any kind; those of `Kind.MEASURED` and `Kind.FAILED` count, matched by
            model and input size.
        size_hw: what was measured at in place of the paper's sizes; the setting then says so.

    Raises:
        UsageError: there is no such table.
    """
    chosen = get_paper_table(table)
    keys = {line: (line.model, size_hw or chosen.size_of(line)) for line in chosen.lines}
    settings: dict[str, dict[tuple[str, ImageSize], Row]] = {}
    for row in measured:
        key = (row.point.model, row.point.size_hw)
        if row.kind in (Kind.MEASURED, Kind.FAILED) and key in keys.values():
            settings.setdefault(_setting(row, size_hw), {})[key] = row
    lines = []
    for setting, rows in (settings or {"": {}}).items():
        found = {line: rows[key] for line, key in keys.items() if key in rows}
        lines += [_line(chosen, line, setting, found) for line in chosen.lines]
    return lines


def _setting(row: Row, size_hw: ImageSize | None) -> str:
    point = row.point
    parts = [point.backend.value, point.precision.value, f"batch {point.batch}"]
    parts += [f"{point.threads} threads"] if point.threads else []
    parts += [point.form] if point.form else []
    parts += [f"at {size_hw}"] if size_hw else []
    parts += [f"on {row.host_name}"] if row.host_name else []
    return ", ".join(parts)


def _line(table: Table, line: Line, setting: str, rows: Mapping[Line, Row]) -> PaperLine:
    row = rows.get(line)
    timed = row is not None and row.kind is Kind.MEASURED and row.latency_ms is not None
    ms = row.latency_ms / row.point.batch if timed and row and row.latency_ms else None
    return PaperLine(
        table=table.name,
        model=line.model,
        size_hw=table.size_of(line),
        group=line.group,
        peer=not line.ours,
        metric={} if line.metric is None else {"name": table.metric, "value": line.metric},
        published_ms=table.latencies_ms(line),
        measured_ms=ms,
        setting=setting,
        missing="" if timed else _missing(line.model, row),
        tainted=row.tainted if row else (),
        comparisons=tuple(
            _compare(table, line, other, rows)
            for other in table.lines
            if not line.ours and other.ours and _comparable(table, line, other)
        ),
    )


def _missing(model: str, row: Row | None) -> str:
    if row is not None:
        return str(row.error.get("reason") or "it was not timed")
    return why_not_built(model) or "not measured"


def _comparable(table: Table, peer: Line, ours: Line) -> bool:
    """Of one group, of one size where the sizes tell data sets apart, or by the paper's words.

    Classifiers of one group have each the size they were trained at.
    """
    if table.name in ("table2", "sam"):
        return peer.group == ours.group
    claimed = any(
        (c.table, c.slower, c.faster) == (table.name, peer.model, ours.model) for c in CLAIMS
    )
    same_size = table.size_of(peer) == table.size_of(ours)
    return same_size and (peer.group == ours.group or claimed)


def _compare(table: Table, peer: Line, ours: Line, rows: Mapping[Line, Row]) -> Comparison:
    slow, fast = table.latencies_ms(peer), table.latencies_ms(ours)
    ratio, low, high = _ratio(rows.get(peer), rows.get(ours))
    return Comparison(
        ours.model,
        {device: slow[device] / fast[device] for device in slow if device in fast},
        claimed={
            claim.device: claim.times
            for claim in CLAIMS
            if (claim.table, claim.slower, claim.faster) == (table.name, peer.model, ours.model)
            and claim.size_hw in (None, table.size_of(peer))
        },
        measured=ratio,
        low=low,
        high=high,
    )


def _ratio(peer: Row | None, ours: Row | None) -> tuple[float | None, float | None, float | None]:
    """(ratio, low, high); the quartiles lie half an interquartile range beside the median."""
    if peer is None or ours is None or Kind.FAILED in (peer.kind, ours.kind):
        return None, None, None
    slow, fast = peer.host, ours.host
    if slow is None or fast is None:  # the same part of both
        slow, fast = peer.compute, ours.compute
    if slow is None or fast is None or not slow.p50 or not fast.p50:
        return None, None, None
    ratio = slow.p50 / peer.point.batch / (fast.p50 / ours.point.batch)
    a, b = min(slow.iqr_ratio / 2, 0.99), min(fast.iqr_ratio / 2, 0.99)
    return ratio, ratio * (1 - a) / (1 + b), ratio * (1 + a) / (1 - b)


def paper_rows(lines: Iterable[PaperLine]) -> list[dict[str, str]]:
    """The lines as a table for people; a peer has a row per model of ours it is compared with.

    "orin", "nano" and "a100" are published milliseconds per image, "here" is measured; "x orin" and
    so on are published ratios, "x here" is the measured one with its spread.
    """
    return [_row(line, comparison) for line in lines for comparison in line.comparisons or (None,)]


def _row(line: PaperLine, comparison: Comparison | None) -> dict[str, str]:
    row = {"model": line.model, "size": str(line.size_hw)}
    row["accuracy"] = f"{line.metric['name']} {line.metric['value']:g}" if line.metric else ""
    for device, short in _SHORT.items():
        row[f"{short} ms"] = _number(line.published_ms.get(device))
    here = _number(line.measured_ms) if line.measured_ms is not None else line.missing
    row["here ms"] = here + (" (tainted)" if line.tainted else "")
    row["setting"] = line.setting
    row["against"] = comparison.to if comparison else ""
    for device, short in _SHORT.items():
        row[f"x {short}"] = _number(comparison.published.get(device)) if comparison else ""
    row["x claimed"] = (
        " ".join(f"{times:g} ({_SHORT[device]})" for device, times in comparison.claimed.items())
        if comparison
        else ""
    )
    row["x here"] = _spread(comparison) if comparison else ""
    return row


def _spread(comparison: Comparison) -> str:
    if comparison.measured is None:
        return ""
    return f"{comparison.measured:.2f} ({comparison.low:.2f}-{comparison.high:.2f})"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
