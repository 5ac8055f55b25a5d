"""From words to points: what is combined, what is refused, what needs an artifact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from evit_cli.bench.jobs import SweepRequest, default_backend, plan_jobs
from evit_cli.errors import EvitError, UsageError
from evit_cli.types import Backend, ImageSize, Precision
from evit_cli.weights.embedded import EMBEDDED

STREET = EMBEDDED["seg-b0-street"].artifact
B1 = SweepRequest(models=("seg-b1-cityscapes",), random=True, backends=(Backend.TORCH,))


def labels(request: SweepRequest) -> list[str]:
    return [job.point.label for job in plan_jobs(request)]


def test_every_combination_is_a_point() -> None:
    request = replace(
        B1,
        models=("seg-b0-cityscapes", "seg-b1-cityscapes"),
        backends=(Backend.TFLITE, Backend.TORCH),
        precisions=(Precision.FP32, Precision.INT8, Precision.BF16),
        sizes=(ImageSize(256, 512), ImageSize(512, 1024)),
        batches=(1, 4),
        forms=("eager", "plain"),
    )
    jobs = plan_jobs(request)
    # tflite: fp32 and int8 in one form; torch: fp32 and bf16 in two
    assert len(jobs) == 2 * 2 * 2 * (2 + 2 * 2)
    assert len({job.point for job in jobs}) == len(jobs)
    assert all(job.needs_artifact is (job.point.backend is Backend.TFLITE) for job in jobs)


def test_a_model_runs_at_its_own_size_unless_told() -> None:
    assert labels(B1) == ["seg-b1-cityscapes torch fp32 1024x2048 eager"]
    assert labels(replace(B1, models=("cls-b0-r224",)))[0].split()[3] == "224x224"


def test_the_model_that_travels_along_runs_as_its_artifact() -> None:
    (job,) = plan_jobs(SweepRequest(models=("seg-b0-street",)))
    assert job.order["artifact"] == str(STREET)
    assert job.point.backend is default_backend("seg-b0-street") is Backend.TFLITE
    other = SweepRequest(models=("seg-b0-street",), sizes=(ImageSize(64, 64),))
    assert plan_jobs(other)[0].needs_artifact


def test_an_artifact_is_what_it_is() -> None:
    request = SweepRequest(models=(str(STREET),), threads=(1, 2))
    assert [job.point.threads for job in plan_jobs(request)] == [1, 2]
    with pytest.raises(UsageError, match="is tflite"):
        plan_jobs(replace(request, backends=(Backend.ONNX,)))
    with pytest.raises(UsageError, match="is fp32"):
        plan_jobs(replace(request, precisions=(Precision.INT8,)))
    with pytest.raises(UsageError, match="runs at 544x960 only"):
        plan_jobs(replace(request, sizes=(ImageSize(64, 64),)))


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(UsageError, match="nothing can be measured"):
        plan_jobs(replace(B1, precisions=(Precision.INT8,)))


@pytest.mark.parametrize("name", ["seg-b9-cityscapes", "missing.tflite"])
def test_what_does_not_exist_is_an_error(name: str) -> None:
    with pytest.raises(EvitError):
        plan_jobs(SweepRequest(models=(name,), random=True))


def test_peers_share_the_point() -> None:
    (job,) = plan_jobs(replace(B1, against=("segformer-b1", "seg-b0-cityscapes")))
    theirs, ours = job.peers
    assert (theirs.point.peer, ours.point.peer) == (True, False)
    for peer in job.peers:
        assert replace(peer.point, model="", peer=False, weights="") == replace(
            job.point, model="", peer=False, weights=""
        )


def test_a_peer_of_another_task_is_refused() -> None:
    with pytest.raises(UsageError, match="classify"):
        plan_jobs(replace(B1, against=("cls-b0-r224",)))


def test_a_peer_can_be_measured_for_itself() -> None:
    (job,) = plan_jobs(replace(B1, models=("segformer-b0",), sizes=(ImageSize(64, 64),)))
    assert job.point.peer
    assert job.point.weights == "random"


def test_two_names_of_one_point_are_measured_once(tmp_path: Path) -> None:
    request = SweepRequest(models=("seg-b0-street", "seg-b0-street"))
    assert len(plan_jobs(request)) == 1
