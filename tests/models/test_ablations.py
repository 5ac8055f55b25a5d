"""The ablations of the paper's Table 1: what is gone, and that they cost what B0 costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evit_cli.models.aggregation import MultiScaleAggregation
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.build import build_model
from evit_cli.models.variants import VARIANTS, get_variant
from evit_cli.types import ImageSize
from evit_cli.weights.catalog import CATALOG, entry_of_variant
from evit_cli.weights.load import load_model

BASE = "seg-b0-cityscapes"
BASE_GMACS = 4.385
# name: (parameters, MACs at 1024x2048 in units of 1e9)
ABLATIONS = {
    "seg-b0-cityscapes-no-multiscale": (596_675, 4.388),
    "seg-b0-cityscapes-no-attention": (707_043, 4.378),
    "seg-b0-cityscapes-local": (685_699, 4.460),
}
each = pytest.mark.parametrize("name", ABLATIONS)


def test_these_are_all() -> None:
    assert {name for name, v in VARIANTS.items() if v.ablation_of} == set(ABLATIONS)
    assert {VARIANTS[name].ablation_of for name in ABLATIONS} == {BASE}


@each
def test_cost(name: str) -> None:
    count, gmacs = ABLATIONS[name]
    with torch.device("meta"):
        model = build_model(VARIANTS[name]).eval()
        assert sum(p.numel() for p in model.parameters()) == count
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, 3, 1024, 2048))
    assert counter.get_total_flops() / 2e9 == pytest.approx(gmacs, rel=5e-4)
    assert gmacs == pytest.approx(BASE_GMACS, rel=0.02)


@each
def test_widths_are_whole_heads(name: str) -> None:
    spec = VARIANTS[name].backbone
    assert all(width % 8 == 0 for width in spec.widths)
    assert all(stage.width % spec.head_dim == 0 for stage in spec.stages[2:])


@pytest.mark.parametrize(
    ("name", "attention", "aggregation", "branches"),
    [
        (BASE, 4, 0, 4),
        ("seg-b0-cityscapes-no-multiscale", 4, 0, 0),
        ("seg-b0-cityscapes-no-attention", 0, 4, 4),
        ("seg-b0-cityscapes-local", 0, 0, 0),
    ],
)
def test_what_is_left(name: str, attention: int, aggregation: int, branches: int) -> None:
    with torch.device("meta"):
        modules = list(build_model(VARIANTS[name]).modules())
    attentive = [m for m in modules if isinstance(m, MultiScaleLinearAttention)]
    aggregating = [m for m in modules if isinstance(m, MultiScaleAggregation)]
    assert (len(attentive), len(aggregating)) == (attention, aggregation)
    assert sum(len(m.scales) for m in [*attentive, *aggregating]) == branches


@pytest.mark.parametrize(("name", "sees_all"), [(BASE, True), *((n, None) for n in ABLATIONS)])
def test_only_attention_sees_the_whole_image(name: str, sees_all: bool | None) -> None:
    torch.manual_seed(0)
    model = build_model(VARIANTS[name]).double().eval()
    image = torch.randn(1, 3, 64, 1024, dtype=torch.float64)
    changed = image.clone()
    changed[..., :8] += 1
    with torch.inference_mode():
        far = (model(image) - model(changed))[..., -8:].abs().max()
    assert (far > 0) == (sees_all or name.endswith("no-multiscale"))


def test_aggregation_is_a_convolution_of_values() -> None:
    torch.manual_seed(0)
    block = MultiScaleAggregation(32, 16, (3, 5), 1e-5).eval()
    x = torch.randn(2, 32, 9, 11)
    with torch.inference_mode():
        assert block(x).shape == x.shape
        shifted = block(torch.roll(x, 1, dims=-1))
        torch.testing.assert_close(
            torch.roll(block(x), 1, dims=-1)[..., 4:-4], shifted[..., 4:-4], atol=1e-6, rtol=0
        )
    with pytest.raises(ValueError, match="do not divide"):
        MultiScaleAggregation(40, 16, (5,), 1e-5)


@each
def test_no_weights_are_offered_and_own_ones_load(name: str, tmp_path: Path) -> None:
    assert entry_of_variant(name) is None
    assert not any(entry.variant == name for entry in CATALOG.values())
    model = build_model(get_variant(name))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "own.pt")
    loaded = load_model(weights=tmp_path / "own.pt")
    assert loaded.info.name == loaded.variant.name == name
    assert loaded.info.preprocess.size_hw == ImageSize(1024, 2048)
    assert loaded.info.classes.classes[0] == "road"
