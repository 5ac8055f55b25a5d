"""Schedule, parameter groups, clipping, weight average, BatchNorm statistics, drop path."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from evit_cli.config.recipe_parts import ModelPart, OptimizerPart
from evit_cli.models.build import build_model
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.variants import get_variant
from evit_cli.train.batch_norm import batch_norms, freeze_batch_norm, reestimate
from evit_cli.train.distributed import Group
from evit_cli.train.ema import WeightAverage
from evit_cli.train.optim import (
    Schedule,
    build_optimizer,
    finish_gradients,
    parameter_groups,
    set_lr,
)
from evit_cli.train.start import drop_path_rates, initialise, residuals, set_drop_path

ALONE = Group(0, 1, torch.device("cpu"))


def test_the_schedule() -> None:
    schedule = Schedule(steps=110, warmup=10, final=0.1)
    factors = [schedule.factor(step) for step in range(110)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.55)  # half way down
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert schedule.factor(110) == schedule.factor(9999) == pytest.approx(0.1)
    assert Schedule(steps=4).factor(0) == 1.0
    assert Schedule(steps=4).factor(4) == pytest.approx(0, abs=1e-12)
    assert Schedule(steps=4).factor(1) == pytest.approx(0.5 + 0.5 * math.cos(math.pi / 4))


PART = OptimizerPart(lr=2e-3, backbone_lr_scale=0.25, weight_decay=0.05, betas=(0.8, 0.9), eps=1e-6)


def test_parameter_groups() -> None:
    model = build_model(get_variant("seg-b0-cityscapes"))
    by_id = {id(p): name for name, p in model.named_parameters()}
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    seen: list[str] = []
    for group in parameter_groups(model, PART):
        names = [by_id[id(p)] for p in group["params"]]  # type: ignore[attr-defined]
        seen += names
        for name in names:
            spared = name in norms or name.endswith("bias")
            assert group["weight_decay"] == (0.0 if spared else 0.05), name
            assert group["peak_lr"] == (5e-4 if name.startswith("backbone.") else 2e-3), name
    assert sorted(seen) == sorted(by_id.values())
    assert len(parameter_groups(model, PART)) == 4


def test_a_frozen_parameter_is_in_no_group() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    chosen = [p for group in parameter_groups(model, PART) for p in group["params"]]  # type: ignore[attr-defined]
    assert {id(p) for p in chosen} == {id(p) for p in model[1].parameters()}


def test_learning_rates_are_set_for_every_group() -> None:
    model = build_model(get_variant("cls-b0", num_classes=2))
    optimizer = build_optimizer(model, PART)
    assert (optimizer.defaults["betas"], optimizer.defaults["eps"]) == ((0.8, 0.9), 1e-6)
    assert set_lr(optimizer, 0.5) == pytest.approx(1e-3)
    assert {group["lr"] for group in optimizer.param_groups} == {1e-3, 2.5e-4}
    assert set_lr(optimizer, 1.0) == pytest.approx(2e-3)


def gradients() -> list[nn.Parameter]:
    """Two parameters with gradients (3, 0) and (-4), and one without."""
    chosen = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1)),
        nn.Parameter(torch.ones(1)),
    ]
    chosen[0].grad, chosen[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([-4.0])
    return chosen


@pytest.mark.parametrize(
    ("limits", "first", "second"),
    [
        ({}, [6.0, 0.0], -8.0),
        ({"clip_value": 1.5}, [1.5, 0.0], -1.5),
        ({"clip_norm": 1.0}, [0.6, 0.0], -0.8),
        ({"clip_norm": 100.0}, [6.0, 0.0], -8.0),
    ],
)
def test_gradients_are_scaled_then_clipped(
    limits: dict[str, float], first: list[float], second: float
) -> None:
    parameters = gradients()
    norm = finish_gradients(parameters, scale=2.0, **limits)
    assert float(norm) == pytest.approx(10.0)
    assert parameters[0].grad.tolist() == pytest.approx(first, abs=1e-5)  # type: ignore[union-attr]
    assert float(parameters[1].grad) == pytest.approx(second, abs=1e-5)  # type: ignore[arg-type]
    assert parameters[2].grad is None


@pytest.mark.parametrize("limits", [{}, {"clip_value": 1.5}, {"clip_norm": 1.0}])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_no_number_shows_in_the_norm(
    limits: dict[str, float], bad: float
) -> None:
    parameters = gradients()
    parameters[1].grad = torch.tensor([bad])
    assert not math.isfinite(float(finish_gradients(parameters, scale=2.0, **limits)))


def test_the_average_is_the_closed_formula() -> None:
    """a_n = sum over t of (1 - d_t) w_t times all later d, plus a_0 times all d."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).double()
    average = WeightAverage(model, decay=0.9, tau=3.0)
    values = [model[0].weight.detach().clone()]
    means = [torch.zeros(2, dtype=torch.float64)]
    for step in range(1, 8):
        with torch.no_grad():
            model[0].weight.normal_()
            model[1].running_mean.normal_()
            model[1].num_batches_tracked += 1
        values.append(model[0].weight.detach().clone())
        means.append(model[1].running_mean.clone())
        average.update(model, step)
    decays = [0.9 * (1 - math.exp(-step / 3.0)) for step in range(1, 8)]
    shares = [
        (1 if t == 0 else 1 - decays[t - 1]) * math.prod(decays[t:]) for t in range(len(values))
    ]
    assert sum(shares) == pytest.approx(1)
    for found, history in (
        (average.model[0].weight, values),  # type: ignore[index]
        (average.model[1].running_mean, means),  # type: ignore[index]
    ):
        expected = sum(share * value for share, value in zip(shares, history, strict=True))
        assert torch.allclose(found, expected, rtol=0, atol=1e-12)  # type: ignore[arg-type]
    assert not any(p.requires_grad for p in average.model.parameters())
    assert not average.model.training


def test_statistics_are_the_mean_over_the_batches() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.1), nn.ReLU())
    torch.nn.init.constant_(model[1].running_mean, 99)
    batches = [torch.randn(2, 3, 8, 8) * scale + scale for scale in (1.0, 2.0, 5.0)]
    reestimate(model, iter(batches), ALONE)
    outputs = [model[0](batch) for batch in batches]
    mean = torch.stack([out.mean((0, 2, 3)) for out in outputs]).mean(0)
    var = torch.stack([out.var((0, 2, 3)) for out in outputs]).mean(0)
    assert torch.allclose(model[1].running_mean, mean, atol=1e-5)
    assert torch.allclose(model[1].running_var, var, atol=1e-4)
    everything = torch.cat(outputs).mean((0, 2, 3))  # batches of one size: the same mean
    assert torch.allclose(model[1].running_mean, everything, atol=1e-5)
    assert model[1].momentum == 0.1
    assert not any(module.training for module in model.modules())


def test_frozen_statistics_stay() -> None:
    model = build_model(get_variant("cls-b0", num_classes=2))
    before = {n: t.clone() for n, t in model.state_dict().items()}
    model.train()
    freeze_batch_norm(model)
    model(torch.randn(2, 3, 32, 32))
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())
    assert model.training
    assert len(batch_norms(model)) > 20


class Constant(nn.Module):
    """A branch that adds one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ones_like(x)


def test_drop_path_keeps_the_mean() -> None:
    block = Residual(Constant())
    block.drop_path = 0.3
    torch.manual_seed(0)
    out = block.train()(torch.zeros(20000, 1, 1, 1)).flatten()
    assert out.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert float(out.mean()) == pytest.approx(1, abs=0.02)
    assert (block.eval()(torch.zeros(100, 1, 1, 1)) == 1).all()


def test_drop_path_is_drawn_per_example() -> None:
    block = Residual(Constant()).train()
    block.drop_path = 0.5
    torch.manual_seed(0)
    out = block(torch.zeros(64, 3, 5, 5))
    assert (out == out[:, :1, :1, :1]).all()
    assert 10 < int((out[:, 0, 0, 0] > 0).sum()) < 54


def test_drop_path_rates_rise_linearly() -> None:
    assert drop_path_rates(5, largest=0.2, skips=2) == pytest.approx([0, 0, 0.1, 0.15, 0.2])
    assert drop_path_rates(1, largest=0.2, skips=0) == [0.0]
    model = build_model(get_variant("cls-b0", num_classes=2))
    set_drop_path(model, ModelPart(variant="cls-b0", drop_path=0.4), 0.5)
    rates = [block.drop_path for block in residuals(model)]
    steps = [b - a for a, b in pairwise(rates)]
    assert (rates[0], rates[-1]) == (0.0, pytest.approx(0.2))
    assert steps == pytest.approx([0.2 / (len(rates) - 1)] * len(steps))
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize(
    "name", ["cls-b0", "cls-l1", "seg-b0-cityscapes", "seg-l1-ade20k", "seg-b0-cityscapes-local"]
)
def test_silent_branches_at_the_start(name: str) -> None:
    """Every residual block of every kind begins as the identity, and only if that is wanted."""
    for silent in (True, False):
        model = build_model(get_variant(name, num_classes=2))
        initialise(model, zero_residual=silent)
        blocks = residuals(model)
        assert blocks
        for block in blocks:
            norms = [m for m in block.main.modules() if isinstance(m, nn.BatchNorm2d)]
            assert bool((norms[-1].weight == 0).all()) is silent
        if name == "cls-b0":
            convs = [m for m in model.modules() if isinstance(m, ConvNorm)]
            spread = torch.cat([m.conv.weight.detach().flatten() for m in convs])
            assert float(spread.std()) == pytest.approx(0.02, rel=0.05)
            assert float(spread.abs().max()) <= 2.0


def test_only_two_kinds_of_statistics_exist() -> None:
    """`batch_norms` finds torch's synchronised layer too, which is another class."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.SyncBatchNorm(3), nn.Identity())
    assert batch_norms(model) == [model[0], model[1]]
