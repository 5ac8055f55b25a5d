"""Outputs against those of the published models, and fusing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evit_cli.models.build import Model, build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.variants import VARIANTS
from evit_cli.weights.remap import to_evit
from tests.helpers.paths import shared_dir

FIXTURES = ["cls-b0", "cls-b1", "cls-l1", "seg-b0-cityscapes", "seg-b1-ade20k", "seg-l1-cityscapes"]
State = dict[str, torch.Tensor]


def loaded(name: str, state: State) -> Model:
    variant = VARIANTS[name]
    model = build_model(variant).eval()
    model.load_state_dict(to_evit(state, model.state_dict(), variant))
    return model


@pytest.mark.shared
@pytest.mark.parametrize("name", FIXTURES)
def test_outputs_equal_the_published_models(
    name: str, filled_state: Callable[[str], State], reference_fill: Any
) -> None:
    fixture = np.load(shared_dir("parity", "fixtures", f"{name}.npz"))
    model = loaded(name, filled_state(name))
    image = torch.from_numpy(reference_fill.image(*fixture["input_hw"]))
    with torch.inference_mode():
        out = model(image)
    assert tuple(out.shape) == tuple(fixture["shape"])
    difference = np.abs(out.flatten().numpy()[fixture["index"]] - fixture["value"]).max()
    assert difference <= 1e-5 * fixture["std"]


@pytest.mark.shared
@pytest.mark.parametrize("name", [n for n, v in VARIANTS.items() if v.published])
def test_every_published_layout_is_taken_whole(
    name: str, filled_state: Callable[[str], State]
) -> None:
    if name in ("cls-l3", "sam-xl1"):
        pytest.skip("1 GB of filled weights; the layout test of the weights room covers its names")
    model = loaded(name, filled_state(name))
    size_hw = (128, 128) if "xl" in name else (64, 64)
    with torch.inference_mode():
        assert torch.isfinite(model(torch.randn(1, 3, *size_hw))).all()


def randomised(model: nn.Module) -> nn.Module:
    """BatchNorm statistics as after training, so that folding has something to fold."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.1, 0.1),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.3, 0.8),
                (module.bias.data, -0.1, 0.1),
            ):
                assert tensor is not None
                tensor.uniform_(low, high, generator=generator)
    return model


@pytest.mark.parametrize("name", ["cls-b0", "cls-l1", "seg-b0-cityscapes", "seg-l1-ade20k"])
def test_fusing_changes_nothing_but_the_layers(name: str) -> None:
    torch.manual_seed(0)
    model = randomised(build_model(VARIANTS[name])).eval()
    fused = fuse(model)
    x = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        before, after = model(x), fused(x)
    assert (before - after).abs().max() <= 1e-5 * max(1.0, float(before.std()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in model.parameters())
