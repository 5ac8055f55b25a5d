"""What the tables of a report show of a row: a title with its unit, words, and a value to sort by.

A latency that was not measured never stands in a cell without a word that says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evit_cli.bench.row import Kind, Latency, Row

Part = Callable[[Row], Latency | None]


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        title: with the unit.
        text: a row's cell, "" where it has nothing.
        number: what a numeric column is sorted by, None where a row has nothing.
        hint: what the column means, where the title does not say it all.
    """

    title: str
    text: Callable[[Row], str]
    number: Callable[[Row], float | None] | None = None
    hint: str = ""


def finite(value: object) -> float | None:
    """A number that can be shown and sorted; None for NaN, infinity and what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def short(value: float | None, digits: int = 3) -> str:
    """A number with so many digits that count, never in exponents: "0.0123", "24.3", "1480"."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
    return f"{value:.{min(decimals, 9)}f}"


def _ms(part: Part) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        latency = part(row)
        return None if latency is None else finite(latency.p50)

    return value


def latency_columns(name: str, part: Part, hint: str) -> tuple[Column, ...]:
    """Median, 95th percentile and spread of one of the three latencies."""
    median = _ms(part)

    def measured(row: Row) -> Latency | None:
        latency = part(row)
        return latency if latency is not None and latency.n else None

    def p95(row: Row) -> float | None:
        latency = measured(row)
        return None if latency is None else finite(latency.p95)

    def spread(row: Row) -> float | None:
        latency = measured(row)
        value = None if latency is None else finite(latency.iqr_ratio)
        return None if value is None else 100 * value

    return (
        Column(f"{name} p50, ms", lambda row: _latency_words(row, median(row)), median, hint),
        Column(f"{name} p95, ms", lambda row: short(p95(row)), p95),
        Column(
            f"{name} IQR, %",
            lambda row: "" if spread(row) is None else f"{spread(row):.1f}",
            spread,
            "interquartile range divided by the median",
        ),
    )


def _latency_words(row: Row, ms: float | None) -> str:
    if ms is None:
        return ""
    if row.kind is Kind.ESTIMATE:
        low, high = bounds_ms(row)
        between = "" if low is None or high is None else f" ({short(low)} to {short(high)})"
        return f"≈ {short(ms, 2)}{between} estimate"
    return f"{short(ms)} published" if row.kind is Kind.PUBLISHED else short(ms)


def bounds_ms(row: Row) -> tuple[float | None, float | None]:
    """Between what an estimate lies, milliseconds; None where it does not say."""
    return finite(row.estimate.get("low_ms")), finite(row.estimate.get("high_ms"))


def _scaled(count: Callable[[Row], float | None], scale: float) -> Callable[[Row], float | None]:
    def value(row: Row) -> float | None:
        found = finite(count(row))
        return None if found is None else found / scale

    return value


def _number(
    title: str, value: Callable[[Row], float | None], digits: int = 3, hint: str = ""
) -> Column:
    return Column(title, lambda row: short(value(row), digits), value, hint)


def _rate(row: Row) -> float | None:
    return finite(row.images_per_s)


def _rate_words(row: Row) -> str:
    return f"≈ {short(_rate(row), 2)}" if row.kind is Kind.ESTIMATE else short(_rate(row))


def accuracy(row: Row) -> float | None:
    """The model's accuracy, None where it is not known."""
    return finite(row.metric.get("value"))


def _accuracy_words(row: Row) -> str:
    value = accuracy(row)
    if value is None:
        return ""
    named = " ".join(str(row.metric.get(key, "")) for key in ("name", "dataset")).strip()
    source = str(row.metric.get("source", ""))
    return f"{short(value, 4)} {named}" + (f" ({source})" if source else "")


def _ratio_words(row: Row) -> str:
    value = finite(row.ratio.get("value"))
    if value is None:
        return ""
    low, high = finite(row.ratio.get("low")), finite(row.ratio.get("high"))
    spread = "" if low is None or high is None else f" ({short(low)} to {short(high)})"
    return f"{short(value)} x {row.ratio.get('to', '')}{spread}"


def error_words(row: Row) -> str:
    """How far off an estimate is, and how that is known."""
    error, rows = finite(row.estimate.get("median_error")), finite(row.estimate.get("rows"))
    if error is None:
        return "unknown"
    behind = "" if rows is None else f" over {rows:.0f} published rows"
    return f"{100 * error:.0f} % median{behind}"


def notes(row: Row) -> str:
    """What else must be known before a row is believed."""
    if row.kind is Kind.ESTIMATE:
        method = str(row.estimate.get("method", ""))
        return "; ".join(filter(None, (method, f"error {error_words(row)}")))
    tainted = f"tainted: {'; '.join(row.tainted)}" if row.tainted else ""
    return "; ".join(filter(None, (tainted, row.source)))


def failure(row: Row) -> str:
    """Why a row could not be measured, and the mend where one is known."""
    said = [str(row.error.get(key) or "") for key in ("reason", "detail", "hint")]
    return "; ".join(filter(None, said)) or "no reason was recorded"


def runs_on(row: Row) -> str:
    """The board or profile a row holds for."""
    return " at ".join(filter(None, (row.device, row.host_name)))


def _energy_words(row: Row) -> str:
    value = finite(row.energy_j)
    return "" if value is None else f"{short(value)} {row.energy_counter}".strip()


NAMES = (
    Column("model", lambda row: row.point.model + (" (peer)" if row.point.peer else "")),
    Column(
        "backend", lambda row: " ".join(filter(None, (row.point.backend.value, row.point.form)))
    ),
    Column("precision", lambda row: row.point.precision.value),
    Column(
        "size, HxW",
        lambda row: str(row.point.size_hw),
        lambda row: row.point.size_hw.height * row.point.size_hw.width,
    ),
    Column("batch", lambda row: str(row.point.batch), lambda row: row.point.batch),
    Column(
        "threads",
        lambda row: "" if row.point.threads is None else str(row.point.threads),
        lambda row: row.point.threads,
        "CPU threads; empty for the runtime's choice",
    ),
)
DEVICE = Column("device", runs_on)
COMPUTE = latency_columns("compute", lambda row: row.compute, "the invocation alone, per run")
HOST = latency_columns(
    "host", lambda row: row.host, "with the transfer of input and output, per run"
)
E2E = latency_columns("e2e", lambda row: row.e2e, "one image, from its encoded file to the result")
RATE = Column("images/s", _rate_words, _rate)
MODEL = (
    _number("params, M", _scaled(lambda row: row.params, 1e6), 3, "millions of parameters"),
    _number("MACs, G", _scaled(lambda row: row.macs, 1e9), 3, "1e9 multiply-accumulates an image"),
)
ACCURACY = Column("accuracy", _accuracy_words, accuracy)
COST = (
    _number("file, MB", _scaled(lambda row: row.file_bytes, 1e6), 3, "the artifact; 1 MB is 1e6"),
    _number(
        "memory, MB", _scaled(lambda row: row.peak_rss_bytes, 1e6), 3, "largest, of the process"
    ),
    _number("GPU memory, MB", _scaled(lambda row: row.peak_gpu_bytes, 1e6), 3, "largest"),
    Column("energy, J/image", _energy_words, lambda row: finite(row.energy_j)),
)
RATIO = Column(
    "ratio",
    _ratio_words,
    lambda row: finite(row.ratio.get("value")),
    "this time divided by the other model's of the same run, and its spread",
)
NOTES = Column("notes", notes)

ALL = (*NAMES, *HOST, RATE, ACCURACY, DEVICE, *COMPUTE, *E2E, *MODEL, *COST, RATIO, NOTES)
"""Of every row that has a latency."""

FAILED = (*NAMES, DEVICE, Column("why", failure))


def used(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns in which at least one of the rows has something."""
    return [column for column in columns if any(column.text(row) for row in rows)]
