"""Training for int8: what is computed, what is learnt, and that a checkpoint goes on exactly."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.quantize import DEFAULT_ISLANDS, RoundedModel, simulate_fast
from evit_cli.models.quantize.rounded import equalise_inside
from evit_cli.models.variants import get_variant


def images(count: int = 3) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 3, 64, 96, generator=generator) for _ in range(count)]


def segmenter() -> nn.Module:
    """A B0 whose channels differ in range by decades."""
    torch.manual_seed(1)
    model = build_model(get_variant("seg-b0-cityscapes", num_classes=3)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data = 10 ** (torch.rand_like(module.weight) * 1.5 - 1)
            module.bias.data = torch.randn_like(module.bias)
    return model


def rounded(model: nn.Module) -> RoundedModel:
    return RoundedModel(model, images(), islands=DEFAULT_ISLANDS)


def distance(wanted: Tensor, found: Tensor) -> float:
    return float((wanted - found).square().mean().sqrt() / wanted.std())


def test_equalising_inside_changes_no_output_and_no_layout() -> None:
    model = segmenter()
    equal = copy.deepcopy(model)
    equalise_inside(equal, images(), islands=DEFAULT_ISLANDS)
    image = images()[0]
    with torch.no_grad():
        assert distance(model(image), equal(image)) < 1e-4
        assert distance(model(image), fuse(equal)(image)) < 1e-4
    assert {n: t.shape for n, t in model.state_dict().items()} == {
        n: t.shape for n, t in equal.state_dict().items()
    }
    before, after = (m.state_dict()["head.projections.0.conv.weight"] for m in (model, equal))
    assert not torch.equal(before, after)


def test_it_computes_what_an_export_will() -> None:
    model = segmenter()
    trained = rounded(model).eval()
    with torch.no_grad():
        found = trained(images()[0])
        exported = simulate_fast(model, images(), islands=DEFAULT_ISLANDS)(images()[0])
        plain = model(images()[0])
    assert 0 < distance(plain, found)
    assert distance(exported, found) < 0.05  # equalised once more, it is rounded otherwise


def test_steps_bring_it_back_to_what_it_was() -> None:
    teacher = segmenter()
    student = rounded(copy.deepcopy(teacher)).train()
    with torch.no_grad():  # rounding alone costs such weights next to nothing
        for parameter in student.parameters():
            parameter.mul_(1 + 0.1 * torch.randn_like(parameter))
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-4, weight_decay=0)
    image = images()[0]
    with torch.no_grad():
        wanted = teacher(image)
    losses = []
    for _ in range(12):
        loss = (student(image) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-3:]) < 0.8 * losses[0]
    names = {name for name, p in student.named_parameters() if p.grad is None}
    assert names == set()  # every layer learns, islands and biases included


@pytest.mark.slow
def test_what_was_measured_is_part_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evit_cli.models.quantize.rounded.MEASURE_EVERY", 2)
    one = rounded(segmenter()).train()
    image = images()[0]
    with torch.no_grad():
        one(image)
        for parameter in one.parameters():
            parameter.mul_(1.1)
        before = one(image)
        one(image)  # measures anew
        after = one(image)
    assert not torch.equal(before, after)
    other = rounded(segmenter()).train()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        for _ in range(3):  # through the next measuring
            assert torch.equal(one(image), other(image))
