"""Super-resolution models: sizes, the start as bicubic, any input size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from evit_cli.config.recipe_parts import ModelPart
from evit_cli.errors import EvitError
from evit_cli.inference.enlarge import enlarge, scale_of, to_eight_bits
from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.variants import SUPERRES, SUPERRES_PREPROCESS, VARIANTS, get_variant
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.train.start import start_model
from evit_cli.types import ImageSize, ModelInfo, Task

# ../shared/facts/models.md, section 7, "proposal A": parameters with BatchNorm, GMACs at 160x240,
# 512x512 and 360x640. Ours have biases in its place, which are one parameter per channel, not two.
PROPOSED = {
    "sr-xs": (202_268, 201_004, (1.45, 9.9, 8.7)),
    "sr-s": (1_011_196, 1_008_572, (5.72, 39.0, 34.3)),
    "sr-s-w075": (590_208, 588_240, (3.40, 23.2, 20.4)),
    "sr-b": (5_057_004, 5_050_412, (27.6, 188.5, 165.7)),
    "sr-b-w075": (2_914_164, 2_909_220, (16.2, 110.0, 96.9)),
}
SIZES = ((160, 240), (512, 512), (360, 640))


def macs(model: nn.Module, size_hw: tuple[int, int]) -> float:
    """Of convolutions and attention, in units of 1e9; the resizes are free."""
    counter = FlopCounterMode(display=False)
    with counter, torch.device("meta"):
        model(torch.zeros(1, 3, *size_hw))
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize("name", PROPOSED)
def test_sizes_are_those_of_the_proposal(name: str) -> None:
    with_norm, with_bias, expected = PROPOSED[name]
    with torch.device("meta"):
        model = build_model(VARIANTS[f"{name}-x2"])
        variant = VARIANTS[f"{name}-x2"]
        normed = build_model(replace(variant, backbone=replace(variant.backbone, norm_eps=1e-5)))
    assert sum(p.numel() for p in model.parameters()) == with_bias
    assert sum(p.numel() for p in normed.parameters()) == with_norm
    for size_hw, value in zip(SIZES, expected, strict=True):
        assert macs(model, size_hw) == pytest.approx(value, rel=6e-3)


def test_the_default_costs_less_than_the_smallest_proposed() -> None:
    with torch.device("meta"):
        model = build_model(VARIANTS["sr-xs-res-x2"])
    assert sum(p.numel() for p in model.parameters()) == 96_252
    assert macs(model, (160, 240)) == pytest.approx(1.319, rel=1e-3)


@pytest.mark.parametrize("name", SUPERRES)
def test_every_variant_enlarges(name: str) -> None:
    variant = SUPERRES[name]
    with torch.device("meta"):
        model = build_model(variant)
        out = model(torch.zeros(2, 3, 12, 20))
    scale = int(name[-1])
    assert out.shape == (2, 3, 12 * scale, 20 * scale)
    assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules()) is ("-bn-" in name)


@pytest.mark.parametrize("name", ["sr-xs-x2", "sr-xs-x4", "sr-xs-res-x2", "sr-xs-res-bn-x2"])
def test_starts_as_bicubic(name: str) -> None:
    torch.manual_seed(0)
    model = start_model(ModelPart(variant=name), get_variant(name)).model.eval()
    image = torch.rand(1, 3, 16, 24)
    with torch.inference_mode():
        out = model((image - 0.5) / 0.25)
    expected = F.interpolate(image, scale_factor=int(name[-1]), mode="bicubic")
    assert torch.allclose(out, expected, atol=1e-5)


def session(name: str, seed: int = 0) -> TorchSession:
    """A model with random weights whose head is not silent."""
    torch.manual_seed(seed)
    model = start_model(ModelPart(variant=name), get_variant(name)).model
    nn.init.normal_(model.head.to_pixels.weight, std=0.05)
    return TorchSession(model, ModelInfo(name, Task.SUPERRES, SUPERRES_PREPROCESS))


@pytest.mark.parametrize("size_hw", [(1, 1), (5, 7), (16, 20), (33, 18)])
def test_any_size_is_cropped_exactly(size_hw: tuple[int, int]) -> None:
    upscaler = session("sr-xs-res-x2")
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    out = enlarge(upscaler, image)
    assert out.shape == (2 * size_hw[0], 2 * size_hw[1], 3)
    assert np.isfinite(out).all()
    assert to_eight_bits(out).dtype == np.uint8


def test_padding_does_not_shift_the_image() -> None:
    upscaler = session("sr-xs-x2")
    image = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = np.repeat(np.repeat(image[::4, ::4], 4, 0), 4, 1)  # smooth: its mean is local
    whole = enlarge(upscaler, image)
    cut = enlarge(upscaler, image[:23, :30])
    assert np.abs(whole[:40, :52] - cut[:40, :52]).mean() < 0.02


def test_the_session_says_what_it_gives() -> None:
    assert [o.name for o in session("sr-xs-x2").outputs] == ["upscaled"]
    assert scale_of(session("sr-xs-x4")) == 4


def test_fusing_changes_nothing() -> None:
    torch.manual_seed(0)
    model = start_model(ModelPart(variant="sr-xs-x2"), get_variant("sr-xs-x2")).model.eval()
    x = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(model(x), fuse(model)(x), atol=1e-6)


def test_has_no_classes() -> None:
    with pytest.raises(EvitError, match="has no classes"):
        get_variant("sr-xs-x2", num_classes=3)
    assert SUPERRES_PREPROCESS.size_hw == ImageSize(160, 240)
