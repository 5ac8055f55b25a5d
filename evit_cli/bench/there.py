"""Measuring on a board or a phone: the artifact is made here, copied, and timed there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evit_cli.bench.client import WorkerProcess
from evit_cli.bench.jobs import SweepRequest, plan_jobs
from evit_cli.bench.row import Row
from evit_cli.config.device import load_profile
from evit_cli.runtime.open import backend_of
from evit_cli.types import Backend

if TYPE_CHECKING:
    from evit_cli.bench.dispatch import Bench


def measure_there(bench: Bench) -> Iterator[Row]:
    """The rows of every model, as they come.

    Raises:
        EvitError: an artifact cannot be made, or the board or phone cannot measure it.
    """
    for artifact in _artifacts(bench):
        yield from (_on_phone if bench.how.adb else _on_board)(bench, artifact)


def _artifacts(bench: Bench) -> Iterator[Path]:
    for job in plan_jobs(replace(_for_device(bench), threads=(None,), against=())):
        if job.needs_artifact:
            bench.notice(f"exporting {job.point.label}")
            with WorkerProcess() as maker:
                yield Path(maker.ask("make", **job.order)["artifact"])
        else:
            yield Path(job.order["artifact"])


def _for_device(bench: Bench) -> SweepRequest:
    """The request with what the device's profile decides, where the user has not."""
    request = bench.request
    if all(backend_of(model) for model in request.models):
        return request  # artifacts are what they are
    backend, precisions = Backend.TFLITE if bench.how.adb else Backend.ONNX, request.precisions
    if request.device:
        profile = load_profile(request.device)
        preferred = (choice.backend for choice in profile.backends)
        backend = next(b for b in preferred if b is not Backend.TORCH)
        precisions = precisions or (profile.precision,)
    return replace(request, backends=request.backends or (backend,), precisions=precisions)


def _on_board(bench: Bench, artifact: Path) -> list[Row]:
    from evit_cli.bench.remote.over_ssh import RemoteRequest, measure_over_ssh

    request, how = bench.request, bench.how
    return measure_over_ssh(
        how.host,
        artifact,
        RemoteRequest(
            threads=request.threads,
            sizes=request.sizes,
            parts=how.parts,
            protocol=how.protocol,
            device=request.device,
            evit=how.remote_evit,
        ),
        notice=bench.notice,
        progress=bench.progress,
    )


def _on_phone(bench: Bench, artifact: Path) -> list[Row]:
    from evit_cli.bench.remote.adb import AdbRequest, measure_over_adb

    how = bench.how
    return measure_over_adb(
        how.adb,
        artifact,
        AdbRequest(
            accelerators=how.accelerators,
            threads=bench.request.threads,
            protocol=how.protocol,
            benchmark_model=how.benchmark_model,
            libraries=how.phone_libraries,
        ),
        notice=bench.notice,
        progress=bench.progress,
    )
