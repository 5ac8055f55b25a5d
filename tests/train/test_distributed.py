"""Two processes compute what one does with the same batch."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from evit_cli.train.distributed import Group, SyncBatchNorm, synchronise_batch_norm
from tests.helpers.trainings import (
    CLASSIFY,
    SEGMENT,
    Document,
    arguments,
    changed,
    checkpoint,
    evaluations,
    log_lines,
    run_here,
    run_processes,
    write_classes,
    write_recipe,
    write_segments,
)
from tests.helpers.two_processes import batches, layer, loss_of, work


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_synchronised_norms_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    torch.multiprocessing.start_processes(  # type: ignore[attr-defined]
        work, (free_port(), str(tmp_path)), nprocs=2, start_method="spawn"
    )
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    model = layer().train()
    x = batches().flatten(0, 1).clone().requires_grad_()
    out = model(x)
    sum(loss_of(part) for part in out.chunk(2)).backward()  # type: ignore[union-attr]
    for name, expected in (("out", out.detach()), ("x", x.grad)):
        together = torch.cat([f[name] for f in found])
        assert torch.allclose(together, expected, atol=1e-4, rtol=1e-4), name
    for name, parameter in model[0].named_parameters():
        total = found[0][name] + found[1][name]
        assert torch.allclose(total, parameter.grad, rtol=1e-4, atol=1e-3), name
    low = model(batches().flatten(0, 1).bfloat16().float())
    assert torch.allclose(torch.cat([f["low"] for f in found]).float(), low, atol=0.03, rtol=0.01)
    for name, expected in model.state_dict().items():
        for f in found:
            assert torch.allclose(f[name].float(), expected.float(), atol=1e-4), name
    evaluated = model.eval()(x.detach())
    assert torch.allclose(torch.cat([f["evaluated"] for f in found]), evaluated, atol=1e-4)
    assert [f["aligned"].tolist() for f in found] == [[5.0] * 4] * 2
    assert [f["shares"].tolist() for f in found] == [[0, 2, 4], [1, 3]]
    assert [f["sum"].item() for f in found] == [3.0, 3.0]


def test_one_process_needs_no_communication() -> None:
    group = Group(0, 1, torch.device("cpu"))
    model = layer()
    assert type(synchronise_batch_norm(model, group)[0]) is torch.nn.BatchNorm2d  # type: ignore[index]
    assert group.wrap(model) is model
    assert group.share(range(3)) == [0, 1, 2]
    values = torch.ones(2)
    assert group.sum(values) is not values
    group.align(model)
    group.wait()
    group.leave()


def test_our_synchronised_norm_is_a_batch_norm() -> None:
    """So that everything that looks for BatchNorm finds it."""
    assert issubclass(SyncBatchNorm, torch.nn.BatchNorm2d)


def compare(one: Path, two: Path, *, atol: float) -> None:
    """Weights, averages and scores of two run folders agree."""
    left, right = checkpoint(one), checkpoint(two)
    assert left["step"] == right["step"]
    for part in ("network", "average"):
        for name, tensor in left[part].items():
            gap = float((tensor.double() - right[part][name].double()).abs().max())
            assert gap <= atol, (part, name, gap)
    scores = [[line["eval"] for line in evaluations(out)] for out in (one, two)]
    assert len(scores[0]) == len(scores[1]) > 0
    for a, b in zip(*scores, strict=True):
        if "mean_iou" in a:  # a class decides over whole images, and such weights hardly tell them
            assert a == pytest.approx(b, abs=0.02)
    losses = [[line["loss"] for line in log_lines(out) if "loss" in line] for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


# A small eps would blow the rounding of gradients near 0 up to whole steps of AdamW.
STEADY = {"optimizer.eps": 1e-3, "train.steps": 3, "train.eval_epochs": 1.0}


def document(kind: str, **train: Any) -> Document:
    base = SEGMENT if kind == "segment" else CLASSIFY
    more = {f"train.{key}": value for key, value in train.items()}
    if kind == "segment":
        more["segment.ohem"] = 0.9
    return changed(base, {**STEADY, "train.ema": 0.5, "train.ema_tau": 1.0, **more})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "train"),
    [
        ("segment", {"batch_norm": "sync", "bn_images": 8}),
        ("segment", {"batch_norm": "frozen", "accumulate": 2}),
        ("classify", {"batch_norm": "frozen"}),
    ],
)
def test_two_processes_train_as_one(tmp_path: Path, kind: str, train: dict[str, Any]) -> None:
    write = write_segments if kind == "segment" else write_classes
    data = write(tmp_path / "data", val=3)
    recipe = write_recipe(tmp_path / "r.yaml", document(kind, **train))
    alone = run_here(recipe, data, tmp_path / "one", "--set", "train.accumulate=1")
    assert alone.exit_code == 0, alone.output
    pair = run_processes([*arguments(recipe, data, tmp_path / "two", "--json")], 2)
    assert pair.returncode == 0, pair.stderr[-3000:]
    compare(tmp_path / "one", tmp_path / "two", atol=1e-5)
    assert json.loads(pair.stdout)["steps"] == 3  # said once, not by every process
    environment = json.loads((tmp_path / "two" / "environment.json").read_text())
    assert environment["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["segment", "classify"])
def test_micro_batches_train_as_one_batch(tmp_path: Path, kind: str) -> None:
    write = write_segments if kind == "segment" else write_classes
    data = write(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", document(kind, batch_norm="frozen"))
    for accumulate in (1, 2, 4):
        more = ("--set", f"train.accumulate={accumulate}")
        result = run_here(recipe, data, tmp_path / f"{accumulate}", *more)
        assert result.exit_code == 0, result.output
    compare(tmp_path / "1", tmp_path / "2", atol=1e-5)
    compare(tmp_path / "1", tmp_path / "4", atol=1e-5)


def test_a_batch_that_does_not_divide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", SEGMENT)
    monkeypatch.setattr("evit_cli.train.run.join", lambda: Group(0, 3, torch.device("cpu")))
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == 1
    assert "a batch of 4 images does not divide into 3 processes" in " ".join(result.stderr.split())
