"""What the paper and the published models' READMEs say, as rows of the benchmark."""

from __future__ import annotations

from evit_cli.bench.published.entry import Table
from evit_cli.bench.published.paper import TABLE2, TABLE3, TABLE4, TABLE5, TABLE6
from evit_cli.bench.published.readme import (
    README_ADE20K,
    README_CITYSCAPES,
    README_CLASSIFY,
    README_SAM,
)
from evit_cli.bench.row import Row
from evit_cli.errors import UsageError, suggest

PAPER: dict[str, Table] = {table.name: table for table in (TABLE2, TABLE3, TABLE4, TABLE5, TABLE6)}
"""The paper's tables by the name that `--paper` takes."""

READMES: dict[str, Table] = {
    table.name: table for table in (README_CLASSIFY, README_CITYSCAPES, README_ADE20K, README_SAM)
}

TABLES: dict[str, Table] = {**READMES, **PAPER}
"""All, those with more digits first."""


def get_table(name: str) -> Table:
    """A published table.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in TABLES:
        raise UsageError(f"there is no published table '{name}'", hint=suggest(name, TABLES))
    return TABLES[name]


def published_rows(
    table: str | None = None, device: str | None = None, *, timed: bool = True
) -> list[Row]:
    """Published results as rows of `Kind.PUBLISHED`, `host` being one number.

    Latencies are TensorRT fp16 with data transfer. Throughputs on the A100 become milliseconds per
    batch; where the batch was not published, `source` says so. MACs and parameters are rounded as
    published.

    Args:
        table: one of `TABLES`; None for all, and then a result that stands in a README and in the
            paper comes once, from the README, which has more digits.
        device: the name or alias of a device profile; None for all.
        timed: leave out results without a latency.

    Raises:
        UsageError: there is no such table.
        EvitError: there is no such device profile.
    """
    tables = TABLES.values() if table is None else (get_table(table),)
    rows: dict[tuple[object, ...], Row] = {}
    for row in (row for one in tables for row in one.rows()):
        point = row.point
        rows.setdefault((point.model, point.size_hw, row.device, point.batch), row)
    if device is not None:
        from evit_cli.config.device import load_profile

        wanted = load_profile(device).name
        return [row for row in rows.values() if row.device == wanted]
    return [row for row in rows.values() if row.host is not None or not timed]
