"""Many points in one resumable call: what is measured already is kept, what fails is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evit_cli.bench.jobs import Job
from evit_cli.bench.measure import Settings, failed_row, measure_together, row_key
from evit_cli.bench.row import Kind, Row
from evit_cli.bench.store import Store
from evit_cli.errors import EvitError
from evit_cli.types import NoProgress, Progress


@dataclass(frozen=True)
class SweepOptions:
    """How to go through the points.

    Attributes:
        settings: how to measure each.
        again: measure also what the store has.
        on_row: told of each row as it comes, and whether it was measured before.
    """

    settings: Settings
    again: bool = False
    on_row: Callable[[Row, bool], None] = lambda row, kept: None


def run_sweep(
    jobs: Sequence[Job], store: Store, options: SweepOptions, progress: Progress | None = None
) -> list[Row]:
    """Measure every job and those it is compared with; rows are stored as they come.

    An interruption loses the point that is being measured, nothing else.

    Returns:
        All rows, in the order of the jobs: measured now, kept, and failed.
    """
    shown = progress or NoProgress()
    rows: list[Row] = []
    shown.start(sum(1 + len(job.peers) for job in jobs), "row")
    try:
        for job in jobs:
            for row, kept in _rows_of(job, store, options):
                if not kept:
                    store.add([row])
                options.on_row(row, kept)
                rows.append(row)
                shown.advance(1, row=row.point.label)
    finally:
        shown.close()
    return rows


def _rows_of(job: Job, store: Store, options: SweepOptions) -> Iterator[tuple[Row, bool]]:
    """The job's own row, then one for each peer, and whether it was kept from before."""
    own = None if options.again else store.find(row_key(job))
    if own is not None:
        yield own, True
    if not job.peers:
        if own is None:
            yield _try((job,), options.settings)[0], False
        return
    for peer in job.peers:
        before = None if options.again else _compared_before(store, peer, job)
        if before is not None and own is not None:
            yield before, True
            continue
        # Measured beside the model it is compared with, so that both see the same machine.
        pair = _try((job, peer), options.settings)
        if len(pair) == 1 and own is None:
            own = _try((job,), options.settings)[0]
            yield own, False
            if own.kind is Kind.FAILED:
                return
        elif own is None:
            own = pair[0]
            yield own, False
        yield pair[-1], False


def _compared_before(store: Store, peer: Job, job: Job) -> Row | None:
    row = store.find(row_key(peer))
    return row if row is not None and row.ratio.get("to") == job.point.model else None


def _try(jobs: Sequence[Job], settings: Settings) -> list[Row]:
    """The rows, or one for the last of the jobs that says why there are none."""
    try:
        return measure_together(jobs, settings)
    except EvitError as error:
        return [failed_row(jobs[-1], error)]
