"""Variants that no weights were published of are measured by name, with random weights."""

from __future__ import annotations

import pytest
import torch

from evit_cli.bench.facts import model_facts
from evit_cli.bench.jobs import SweepRequest, plan_jobs
from evit_cli.bench.source import open_source
from evit_cli.bench.subject import Subject
from evit_cli.errors import EvitError
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import Backend, ImageSize, Task

NAME = "sr-xs-res-x2"
SIZE = ImageSize(36, 52)


def request(**options: object) -> SweepRequest:
    return SweepRequest((NAME,), random=True, sizes=(SIZE,), **options)  # type: ignore[arg-type]


def test_every_backend_is_planned_at_multiples_of_four() -> None:
    backends = (Backend.TORCH, Backend.ONNX, Backend.TFLITE, Backend.OPENVINO)
    jobs = plan_jobs(request(backends=backends))
    assert [job.point.backend for job in jobs] == list(backends)
    assert {job.point.task for job in jobs} == {Task.SUPERRES}
    assert all(job.order["random"] and job.order["model"] == NAME for job in jobs)


def test_variants_and_peers_stand_beside_it() -> None:
    sized = SweepRequest(
        (NAME,), random=True, sizes=(ImageSize(32, 48),), backends=(Backend.TORCH,),
        against=("sr-s-x2", "swin2sr"),
    )  # fmt: skip
    (job,) = plan_jobs(sized)
    assert [(peer.point.model, peer.point.peer) for peer in job.peers] == [
        ("sr-s-x2", False),
        ("swin2sr", True),
    ]


def test_parameters_and_macs_are_counted() -> None:
    (job,) = plan_jobs(request(backends=(Backend.TORCH,)))
    facts = model_facts(job.point)
    assert facts.params == sum(p.numel() for p in open_source(job.order)[0].parameters())
    assert facts.macs is not None and facts.macs > 10 * facts.params
    assert facts.metric == {}


def test_random_weights_are_the_same_everywhere_and_can_be_timed() -> None:
    order = {"model": NAME, "random": True}
    before = torch.get_rng_state()
    (first, info), (second, _) = open_source(order), open_source(order)
    assert torch.equal(torch.get_rng_state(), before)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    session = TorchSession(first, info, device="cpu", threads=1)
    assert set(Subject(session, size_hw=SIZE).parts()) == {"compute", "host"}


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(EvitError, match="there is no model 'sr-xl-x2'"):
        open_source({"model": "sr-xl-x2", "random": True})
