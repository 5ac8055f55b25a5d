"""One point measured here: a worker, the protocol, an eye on the machine, and a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from evit_cli.bench.client import WorkerProcess
from evit_cli.bench.facts import model_facts
from evit_cli.bench.jobs import Job
from evit_cli.bench.machine.energy import open_energy_counter
from evit_cli.bench.machine.environment import read_environment
from evit_cli.bench.machine.watch import Watch
from evit_cli.bench.protocol import (
    NORMAL,
    Block,
    Protocol,
    latency_of,
    measure_in_turn,
    warm_up,
)
from evit_cli.bench.row import Kind, Latency, Row
from evit_cli.config.device import detect_profile
from evit_cli.errors import EvitError, MissingDependency
from evit_cli.types import Backend

_UNSTEADY = 0.05

Rounds = list[list[float]]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        protocol: how long.
        parts: which of compute, host and e2e; host is always measured.
        notice: told in one sentence what is being done.
    """

    protocol: Protocol = NORMAL
    parts: tuple[str, ...] = ("compute", "host", "e2e")
    notice: Callable[[str], None] = field(default=lambda _: None)


@dataclass(frozen=True)
class _Open:
    """A worker with its subject open."""

    job: Job
    worker: WorkerProcess
    parts: tuple[str, ...]
    artifact: str
    device: str

    @property
    def name(self) -> str:
        return self.job.point.label


@dataclass
class _Taken:
    """What was measured of one candidate."""

    rounds: dict[str, Rounds] = field(default_factory=dict)
    taints: list[str] = field(default_factory=list)
    energy_j: float | None = None
    energy_counter: str = ""


def failed_row(job: Job, error: EvitError) -> Row:
    """What is kept of a point that could not be measured."""
    missing = isinstance(error, MissingDependency)
    reason = {"reason": error.message, "hint": error.hint, "missing": missing}
    return replace(_base_row(Kind.FAILED, job), error=reason)


def measure(job: Job, settings: Settings) -> Row:
    """Measure one point.

    Raises:
        EvitError: it cannot be made, opened or run, or runs out of memory.
    """
    return measure_together((job,), settings)[0]


def measure_together(jobs: Sequence[Job], settings: Settings) -> list[Row]:
    """Measure several points in turn; each row but the first has its ratio to the first.

    Raises:
        EvitError: one of them cannot be made, opened or run.
    """
    with ExitStack() as stack:
        opened = [_open(job, stack, settings) for job in jobs]
        taken = {one.name: _Taken() for one in opened}
        for one in opened:
            if not warm_up(one.worker.block("host"), settings.protocol):
                taken[one.name].taints.append("its speed never settled while warming up")
        _host(opened, taken, settings)
        for part in ("compute", "e2e"):
            if part in settings.parts:
                _part(part, opened, taken, settings)
        ends = {one.name: _last_questions(one) for one in opened}
    rows = [_row(one, taken[one.name], ends[one.name], settings) for one in opened]
    first = taken[opened[0].name].rounds["host"]
    return rows[:1] + [
        replace(row, ratio=_ratio(opened[0], first, taken[one.name].rounds["host"]))
        for row, one in zip(rows[1:], opened[1:], strict=True)
    ]


def _open(job: Job, stack: ExitStack, settings: Settings) -> _Open:
    artifact = str(job.order.get("artifact") or "")
    if job.needs_artifact:
        settings.notice(f"exporting {job.point.label}")
        with WorkerProcess() as maker:  # what the export holds must not count as the model's
            artifact = maker.ask("make", **job.order)["artifact"]
    worker = stack.enter_context(WorkerProcess())
    settings.notice(f"measuring {job.point.label}")
    answer = worker.ask("open", **{**job.order, "artifact": artifact})
    return _Open(job, worker, tuple(answer["parts"]), artifact, answer["device"])


def _host(opened: Sequence[_Open], taken: Mapping[str, _Taken], settings: Settings) -> None:
    """The paper's number, under watch; energy too where nothing else runs in between."""
    watch = Watch(pids=[one.worker.pid for one in opened])
    counter = open_energy_counter(on_gpu=_on_gpu(opened[0])) if len(opened) == 1 else None
    blocks: dict[str, Block] = {one.name: one.worker.block("host") for one in opened}
    watch.start()
    if counter is not None:
        counter.start()
    result = measure_in_turn(blocks, settings.protocol, watch.sample)
    joules = counter.stop() if counter is not None else None
    seen = watch.stop()
    for one in opened:
        own = taken[one.name]
        own.rounds["host"] = result[one.name]
        own.taints += seen
        if counter is not None and joules is not None:
            runs = sum(map(len, result[one.name]))
            own.energy_j = joules / (runs * one.job.point.batch)
            own.energy_counter = counter.name


def _on_gpu(one: _Open) -> bool:
    """Whether the GPU's counter is the one to read."""
    return one.job.point.backend is Backend.TENSORRT or one.device == "cuda"


def _part(
    part: str, opened: Sequence[_Open], taken: Mapping[str, _Taken], settings: Settings
) -> None:
    for one in opened:
        if part in one.parts:
            block = one.worker.block(part)
            block(0.0, 1)
            result = measure_in_turn({part: block}, settings.protocol, lambda: None)
            taken[one.name].rounds[part] = result[part]


def _last_questions(one: _Open) -> dict[str, Any]:
    """Memory, and on a GPU what the card reaches in plain work: its rows are read against that."""
    answer = one.worker.ask("memory")
    if one.device == "cuda":
        order = {"device": "cuda", "precision": one.job.point.precision.value}
        answer["rates"] = one.worker.ask("rates", **order)
    return answer


def _row(one: _Open, taken: _Taken, end: Mapping[str, Any], settings: Settings) -> Row:
    latencies = {part: latency_of(list(chain(*taken.rounds[part]))) for part in taken.rounds}
    base = _base_row(Kind.MEASURED, one.job)
    return replace(
        base,
        environment={**base.environment, **({"rates": end["rates"]} if "rates" in end else {})},
        compute=latencies.get("compute"),
        host=latencies["host"],
        e2e=latencies.get("e2e"),
        file_bytes=_file_bytes(one.artifact),
        peak_rss_bytes=end["peak_rss_bytes"],
        peak_gpu_bytes=end["peak_gpu_bytes"],
        energy_j=taken.energy_j,
        energy_counter=taken.energy_counter,
        tainted=(*taken.taints, *_own_taints(latencies["host"], settings.protocol)),
    )


def _own_taints(host: Latency, protocol: Protocol) -> list[str]:
    taints = []
    if host.iqr_ratio > _UNSTEADY:
        taints.append(f"the middle half of the runs differs by {host.iqr_ratio:.0%} of the median")
    if host.n < NORMAL.runs:
        taints.append(f"only {host.n} runs were measured, not {NORMAL.runs}")
    elif protocol.seconds < NORMAL.seconds:
        taints.append(f"measured for less than {NORMAL.seconds:.0f} s")
    return taints


def _base_row(kind: Kind, job: Job) -> Row:
    """What is known of a point without measuring it."""
    facts = model_facts(job.point)
    return Row(
        kind,
        job.point,
        device=_device(),
        params=facts.params,
        macs=facts.macs,
        metric=facts.metric,
        environment=read_environment(backend=job.point.backend, threads=job.point.threads),
        time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
    )


def row_key(job: Job) -> str:
    """The key that a measured row of this point has here."""
    return _base_row(Kind.MEASURED, job).key


def _device() -> str:
    try:
        return detect_profile().profile.name
    except EvitError:
        return ""


def _file_bytes(artifact: str) -> int | None:
    """Size of an artifact with its weights."""
    if not artifact:
        return None
    path = Path(artifact)
    parts = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    return sum(part.stat().st_size for part in parts)


def _ratio(first: _Open, base: Rounds, own: Rounds) -> dict[str, Any]:
    """Of medians round by round: the median of the ratios and their quartiles."""
    pairs = zip(own, base, strict=False)
    ratios = [median(a) / median(b) for a, b in pairs if a and b]
    low, middle, high = np.percentile(ratios, (25, 50, 75)).tolist()
    return {
        "to": first.job.point.model,
        "value": middle,
        "low": low,
        "high": high,
        "rounds": len(ratios),
    }
