"""A spreadsheet: one flat line per row, units in the names, each kind's latency in its own columns.

An average over a column then never mixes measurements with estimates.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter

from evit_cli.bench.report.columns import finite
from evit_cli.bench.row import Kind, Latency, Row

Getter = Callable[[Row], object]

_FORMULA = re.compile(r"^\s*[=+\-@\t\r\n]")


def render_csv(rows: Sequence[Row]) -> str:
    """All rows; the first line names the columns."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_safe(get(row)) for get in COLUMNS.values()] for row in rows)
    return stream.getvalue()


def _safe(value: object) -> object:
    """A cell that no spreadsheet takes for a formula; NaN and infinity are empty."""
    if value is None or isinstance(value, bool):
        return "" if value is None else str(value).lower()
    if isinstance(value, int | float):
        return "" if finite(value) is None else value
    if isinstance(value, Mapping):
        value = json.dumps(value, default=str, ensure_ascii=False, sort_keys=True) if value else ""
    text = re.sub(r"\r\n?", "\n", str(value).replace("\0", ""))  # the writer quotes "\n" only
    return f"'{text}" if _FORMULA.match(text) else text


def _key(attribute: str, key: str) -> Getter:
    """One key of a mapping of the row, None where it is absent."""
    return lambda row: getattr(row, attribute).get(key)


def _only(kind: Kind, attribute: str) -> Getter:
    """An attribute of the rows of one kind, None for the others."""
    return lambda row: getattr(row, attribute) if row.kind is kind else None


def _latency(part: str, name: str) -> Getter:
    measured = _only(Kind.MEASURED, part)
    return lambda row: getattr(measured(row), name, None)


def _gpu(row: Row) -> object:
    gpu = row.environment.get("gpu")
    return gpu.get("name") if isinstance(gpu, Mapping) else gpu


COLUMNS: dict[str, Getter] = {
    "kind": attrgetter("kind.value"),
    "model": attrgetter("point.model"),
    "task": attrgetter("point.task.value"),
    "peer": attrgetter("point.peer"),
    "backend": attrgetter("point.backend.value"),
    "form": attrgetter("point.form"),
    "precision": attrgetter("point.precision.value"),
    "height_px": attrgetter("point.size_hw.height"),
    "width_px": attrgetter("point.size_hw.width"),
    "batch": attrgetter("point.batch"),
    "threads": attrgetter("point.threads"),
    "device": attrgetter("device"),
    "host_name": attrgetter("host_name"),
    **{
        f"latency_{part}_{item.name}" + ("" if item.name in ("n", "iqr_ratio") else "_ms"): (
            _latency(part, item.name)
        )
        for part in ("compute", "host", "e2e")
        for item in fields(Latency)
    },
    "images_per_s": _only(Kind.MEASURED, "images_per_s"),
    "published_latency_ms": _only(Kind.PUBLISHED, "latency_ms"),
    "published_images_per_s": _only(Kind.PUBLISHED, "images_per_s"),
    "published_source": attrgetter("source"),
    "estimate_latency_ms": _only(Kind.ESTIMATE, "latency_ms"),
    "estimate_low_ms": _key("estimate", "low_ms"),
    "estimate_high_ms": _key("estimate", "high_ms"),
    "estimate_images_per_s": _only(Kind.ESTIMATE, "images_per_s"),
    "estimate_method": _key("estimate", "method"),
    "estimate_median_error": _key("estimate", "median_error"),
    "estimate_rows": _key("estimate", "rows"),
    "params": attrgetter("params"),
    "macs_per_image": attrgetter("macs"),
    "file_bytes": attrgetter("file_bytes"),
    "peak_rss_bytes": attrgetter("peak_rss_bytes"),
    "peak_gpu_bytes": attrgetter("peak_gpu_bytes"),
    "energy_j_per_image": attrgetter("energy_j"),
    "energy_counter": attrgetter("energy_counter"),
    "metric_name": _key("metric", "name"),
    "metric_dataset": _key("metric", "dataset"),
    "metric_value": _key("metric", "value"),
    "metric_source": _key("metric", "source"),
    "ratio_to": _key("ratio", "to"),
    "ratio": _key("ratio", "value"),
    "ratio_low": _key("ratio", "low"),
    "ratio_high": _key("ratio", "high"),
    "tainted": lambda row: "; ".join(row.tainted),
    "error_reason": _key("error", "reason"),
    "error_detail": _key("error", "detail"),
    "error_hint": _key("error", "hint"),
    "cpu": _key("environment", "cpu"),
    "gpu": _gpu,
    "governor": _key("environment", "governor"),
    "power_mode": _key("environment", "power_mode"),
    "versions": _key("environment", "versions"),
    "environment": attrgetter("environment"),
    "weights_sha256": attrgetter("point.weights"),
    "evit_version": attrgetter("evit"),
    "time_utc": attrgetter("time"),
}
"""Name and value of each column, in order."""
