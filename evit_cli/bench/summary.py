"""Rows as words for a table. Each kind has columns of its own, so that none passes for another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evit_cli.bench.row import Kind, Latency, Row
from evit_cli.errors import EXIT_FAILED, EXIT_MISSING, EXIT_TAINTED


@dataclass(frozen=True)
class Table:
    """A titled table of words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, str], ...]


_NAMED = ("model", "backend", "precision", "size", "batch")
_COLUMNS = {
    Kind.MEASURED: (
        *_NAMED, "compute ms", "host ms", "p95", "e2e ms", "images/s", "of matmul", "memory",
        "file", "params", "MACs", "energy", "ratio", "tainted",
    ),
    Kind.PUBLISHED: (*_NAMED, "device", "host ms", "images/s", "source"),
    Kind.ESTIMATE: (*_NAMED, "device", "estimated ms", "between", "error", "method"),
    Kind.FAILED: (*_NAMED, "why", "mend"),
}  # fmt: skip
_TITLES = {
    Kind.MEASURED: "Measured{where}",
    Kind.PUBLISHED: "Published by others; not measured by evit",
    Kind.ESTIMATE: "Estimates; nothing was measured",
    Kind.FAILED: "Not measured",
}


def tables(rows: Sequence[Row]) -> list[Table]:
    """One table for each kind that there is; columns that are empty throughout are left out."""
    made = []
    for kind in Kind:
        cells = [_cells(row) for row in rows if row.kind is kind]
        if not cells:
            continue
        columns = tuple(c for c in _COLUMNS[kind] if any(cell.get(c) for cell in cells))
        hosts = sorted({row.host_name for row in rows if row.kind is kind and row.host_name})
        where = f" on {', '.join(hosts)}" if hosts else " here"
        made.append(Table(_TITLES[kind].format(where=where), columns, tuple(cells)))
    return made


def _cells(row: Row) -> dict[str, str]:
    point = row.point
    cells = {
        "model": point.model,
        "backend": " ".join(filter(None, (point.backend.value, point.form))),
        "precision": point.precision.value,
        "size": str(point.size_hw),
        "batch": str(point.batch) if point.batch > 1 else "",
        "device": row.device,
        "compute ms": _ms(row.compute),
        "host ms": _ms(row.host),
        "p95": "" if row.host is None or not row.host.n else f"{row.host.p95:.3g}",
        "e2e ms": _ms(row.e2e),
        "images/s": "" if row.images_per_s is None else f"{row.images_per_s:.4g}",
        "of matmul": _share_of_matmul(row),
        "memory": _megabytes(row.peak_gpu_bytes or row.peak_rss_bytes),
        "file": "" if row.file_bytes is None else f"{row.file_bytes / 1e6:.2f} MB",
        "params": "" if row.params is None else f"{row.params / 1e6:.2f} M",
        "MACs": "" if row.macs is None else f"{row.macs / 1e9:.3g} G",
        "energy": "" if row.energy_j is None else f"{row.energy_j:.3g} J ({row.energy_counter})",
        "ratio": _ratio(row),
        "tainted": "; ".join(row.tainted),
        "source": row.source,
    }
    if row.kind is Kind.ESTIMATE:
        cells |= _estimate(row)
    if row.kind is Kind.FAILED:
        cells |= {"why": str(row.error.get("reason", "")), "mend": str(row.error.get("hint", ""))}
    return cells


def _estimate(row: Row) -> dict[str, str]:
    made = row.estimate
    return {
        "estimated ms": _ms(row.host),
        "between": f"{made['low_ms']:.3g} and {made['high_ms']:.3g}" if "low_ms" in made else "",
        "error": f"{made['median_error']:.0%} median" if made.get("median_error") else "unknown",
        "method": str(made.get("method", "")),
    }


def _ms(latency: Latency | None) -> str:
    return "" if latency is None else f"{latency.p50:.3g}"


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.0f} MB"


def _share_of_matmul(row: Row) -> str:
    """The model's arithmetic per second as a share of what matrix products reach there."""
    rate = row.environment.get("rates", {}).get("matmul_tera_ops_per_s")
    if not rate or row.macs is None or row.images_per_s is None:
        return ""
    return f"{2 * row.macs * row.images_per_s / (rate * 1e12):.1%}"


def _ratio(row: Row) -> str:
    if not row.ratio:
        return ""
    spread = f"{row.ratio['low']:.2f} to {row.ratio['high']:.2f}"
    return f"{row.ratio['value']:.2f} x {row.ratio['to']} ({spread})"


def exit_code(rows: Sequence[Row], *, strict: bool) -> int:
    """What the command ends with: a failed row is 1, or 5 if all failed for want of a library."""
    failed = [row for row in rows if row.kind is Kind.FAILED]
    if failed and len(failed) == len(rows) and all(row.error.get("missing") for row in failed):
        return EXIT_MISSING
    if failed:
        return EXIT_FAILED
    return EXIT_TAINTED if strict and any(row.tainted for row in rows) else 0
