"""Batches arrive in order, whatever the workers, and errors as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evit_cli.data.loader import Sample, load_batches, worker_count
from evit_cli.data.sampling import Plan, Request, share_of
from evit_cli.errors import EvitError
from evit_cli.types import ImageSize

PLAN = Plan(7, 4, [ImageSize(4, 6), ImageSize(6, 4)], 3)


class Numbers:
    """Examples that say which they are; one of them may be broken."""

    def __init__(self, broken: int | None = None) -> None:
        self.broken = broken

    def sample(self, request: Request) -> Sample:
        if request.index == self.broken:
            raise EvitError("7.png does not decode", hint="copy it again", exit_code=4)
        noise = request.rng().random(request.size_hw, dtype=np.float32)
        return {"image": noise, "label": request.index}

    def where(self, index: int) -> str:
        return f"{index}.png"


def load(workers: int, examples: Numbers | None = None) -> list[dict[str, torch.Tensor]]:
    order = (PLAN.step(step) for step in range(5))
    loaded = load_batches(examples or Numbers(), order, workers=workers)
    return [dict(batch.tensors) for batch in loaded]


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_batches_are_those_of_the_plan(workers: int) -> None:
    found = load(workers)
    assert len(found) == 5
    for step, tensors in enumerate(found):
        requests = PLAN.step(step)
        assert tensors["label"].tolist() == [request.index for request in requests]
        expected = np.stack([r.rng().random(r.size_hw, dtype=np.float32) for r in requests])
        assert torch.equal(tensors["image"], torch.from_numpy(expected))


def test_a_batch_knows_its_requests() -> None:
    order = [share_of(PLAN.step(0), part, 2) for part in range(2)]
    found = list(load_batches(Numbers(), order, workers=0))
    assert [len(batch) for batch in found] == [2, 2]
    assert [list(batch.requests) for batch in found] == order
    moved = found[0].to(torch.device("cpu"))
    assert list(moved.requests) == order[0]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_arrives_as_it_was(workers: int) -> None:
    with pytest.raises(EvitError, match=r"^7.png does not decode$") as caught:
        load(workers, Numbers(broken=5))
    assert (caught.value.hint, caught.value.exit_code) == ("copy it again", 4)


def test_loading_draws_nothing_from_the_global_generator() -> None:
    """Otherwise the first step after a resume would drop other paths than it did before."""
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load(0)
    assert torch.equal(torch.rand(3), expected)


def test_worker_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert worker_count("auto") == 7
    assert worker_count("auto", 4) == 1
    assert worker_count("auto", 99) == 1
    assert worker_count(3, 4) == 3
    assert worker_count(0) == 0
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(200)), raising=False)
    assert worker_count("auto") == 16
