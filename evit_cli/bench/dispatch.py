"""One call of `evit bench`: here, on a board, on a phone, by the paper, or by estimate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evit_cli.bench.jobs import SweepRequest, plan_jobs
from evit_cli.bench.measure import Settings
from evit_cli.bench.protocol import NORMAL, Protocol
from evit_cli.bench.row import Row
from evit_cli.bench.store import Store
from evit_cli.bench.subject import PARTS
from evit_cli.bench.sweep import SweepOptions, run_sweep
from evit_cli.config.device import AUTO, detect_profile, load_profile
from evit_cli.errors import EvitError, UsageError, suggest
from evit_cli.signals import handled
from evit_cli.types import ImageSize, NoProgress, Progress

Show = Callable[[str, Sequence[Mapping[str, str]]], None]
"""(title, rows) of a table beside the rows of the benchmark."""


@dataclass(frozen=True)
class How:
    """How to obtain the rows.

    Attributes:
        protocol: how long to measure.
        parts: which of compute, host and e2e; empty for all.
        paper: a table of the paper to check, "" for none.
        host: a board to measure on over ssh, "" for none.
        remote_evit: the command there, or its virtual environment; "" for what is found.
        adb: a phone's serial, "-" for the only one, "" for none.
        accelerators: of the phone.
        benchmark_model: LiteRT's tool for the phone.
        phone_libraries: a folder of shared libraries that the tool needs there.
        estimate: estimate for the device of the request even on the device itself.
        explain: of an estimate: say which layers cost most.
        out: where rows are kept, None for nowhere.
        again: measure also what `out` has already.
    """

    protocol: Protocol = NORMAL
    parts: tuple[str, ...] = ()
    paper: str = ""
    host: str = ""
    remote_evit: str = ""
    adb: str = ""
    accelerators: tuple[str, ...] = ("cpu",)
    benchmark_model: Path | None = None
    phone_libraries: Path | None = None
    estimate: bool = False
    explain: bool = False
    out: Path | None = None
    again: bool = False

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UsageError(f"there is no part '{part}'", hint=suggest(part, PARTS))


@dataclass(frozen=True)
class Bench:
    """What to measure, how, and who wants to hear of it.

    Attributes:
        request: what.
        how: how.
        notice: told in one sentence what is being done.
        on_row: told of each row as it comes, and whether it was kept from before.
        progress: of a sweep.
    """

    request: SweepRequest
    how: How
    notice: Callable[[str], None] = lambda _: None
    on_row: Callable[[Row, bool], None] = lambda row, kept: None
    progress: Progress = NoProgress()  # noqa: RUF009 (it has no state)


def run_bench(bench: Bench, show: Show) -> None:
    """Obtain all rows and hand them over.

    Raises:
        UsageError: the request contradicts itself.
        EvitError: nothing can be measured or estimated.
    """
    with handled(_stop):  # workers and boards are cleaned on SIGTERM as on Ctrl-C
        _run(bench, show)


def _stop(kind: type[KeyboardInterrupt]) -> None:
    raise kind


def _run(bench: Bench, show: Show) -> None:
    request, how = bench.request, bench.how
    away = how.host or how.adb
    if how.estimate and not request.device:
        raise UsageError("an estimate is for a device", hint="name it: --device orin")
    here = not request.device or (is_here(request.device) and not how.estimate)
    if not here and not away:
        from evit_cli.bench.elsewhere import layer_tables, rows_for_device

        if not is_here(request.device):
            bench.notice(
                f"this machine is no {request.device}; what follows was not measured on one"
            )
        _keep(bench, rows_for_device(request))
        if how.explain:
            for title, rows in layer_tables(request):
                show(title, rows)
    elif how.paper:
        _paper(bench, show)
    else:
        _measure(bench)


def is_here(device: str) -> bool:
    """Whether a profile is this machine's."""
    wanted = AUTO if device == AUTO else load_profile(device).name
    try:
        return wanted in (AUTO, detect_profile().profile.name)
    except EvitError:
        return False


def _measure(bench: Bench) -> list[Row]:
    """Here, or on the board or phone that was named."""
    how = bench.how
    if how.host or how.adb:
        from evit_cli.bench.there import measure_there

        rows: list[Row] = []
        for row in measure_there(bench):
            _keep(bench, (row,))
            rows.append(row)
        return rows
    settings = Settings(how.protocol, how.parts or PARTS, bench.notice)
    chosen = SweepOptions(settings, how.again, bench.on_row)
    return run_sweep(plan_jobs(bench.request), Store(how.out), chosen, bench.progress)


def _keep(bench: Bench, rows: Sequence[Row]) -> None:
    Store(bench.how.out).add(rows)
    for row in rows:
        bench.on_row(row, False)


def _paper(bench: Bench, show: Show) -> None:
    """Measure a table's models of ours and of others, and set them beside what was published."""
    from evit_cli.bench.paper import compare_with_paper, paper_points, paper_rows

    table, request = bench.how.paper, bench.request
    only = request.sizes[0] if request.sizes else None
    by_size: dict[ImageSize, list[str]] = {}
    for point in paper_points(table, only):
        by_size.setdefault(point.size_hw, []).append(point.model)
    measured: list[Row] = []
    for size, models in by_size.items():
        same = replace(request, sizes=(size,), models=tuple(models), random=True)
        measured += _measure(replace(bench, request=same))
    show(f"{table} of the paper, and here", paper_rows(compare_with_paper(table, measured, only)))
