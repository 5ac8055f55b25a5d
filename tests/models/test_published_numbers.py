"""Parameters and multiply-adds of every variant against the published tables."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from evit_cli.errors import EvitError
from evit_cli.models.backbone import Backbone
from evit_cli.models.build import build_model
from evit_cli.models.variants import BACKBONES, VARIANTS, get_variant

# name: (parameters, {(height, width): MACs in units of 1e9})
PUBLISHED = {
    "cls-b0": (3_410_008, {(224, 224): 0.100}),
    "cls-b1": (9_102_024, {(224, 224): 0.519, (256, 256): 0.677, (288, 288): 0.856}),
    "cls-b2": (24_330_712, {(224, 224): 1.585, (256, 256): 2.068, (288, 288): 2.614}),
    "cls-b3": (48_646_056, {(224, 224): 3.954, (256, 256): 5.162, (288, 288): 6.530}),
    "cls-l1": (52_654_088, {(224, 224): 5.258}),
    "cls-l2": (63_707_016, {(224, 224): 6.950, (320, 320): 14.17, (384, 384): 20.40}),
    "cls-l3": (246_037_288, {(224, 224): 27.59, (320, 320): 56.25, (384, 384): 80.98}),
    "seg-b0-cityscapes": (706_691, {(1024, 2048): 4.39}),
    "seg-b1-cityscapes": (4_803_443, {(1024, 2048): 25.11}),
    "seg-b2-cityscapes": (15_323_779, {(1024, 2048): 73.64}),
    "seg-b3-cityscapes": (39_603_155, {(1024, 2048): 179.23}),
    "seg-l1-cityscapes": (40_242_227, {(1024, 2048): 282.48}),
    "seg-l2-cityscapes": (52_607_923, {(1024, 2048): 396.12}),
    "seg-b1-ade20k": (4_791_414, {(512, 512): 3.09}),
    "seg-b2-ade20k": (15_293_382, {(512, 512): 9.08}),
    "seg-b3-ade20k": (39_546_198, {(512, 512): 22.17}),
    "seg-l1-ade20k": (40_409_526, {(512, 512): 36.34}),
    "seg-l2-ade20k": (51_462_454, {(512, 512): 45.18}),
    # Multiply-adds of the encoder alone.
    "sam-l0": (34_792_784, {(512, 512): 34.8}),
    "sam-l1": (47_650_128, {(512, 512): 49.0}),
    "sam-l2": (61_328_592, {(512, 512): 68.6}),
    "sam-xl0": (116_957_904, {(1024, 1024): 184.8}),
    "sam-xl1": (203_346_128, {(1024, 1024): 321.9}),
}
BACKBONE_PARAMETERS = {
    "b0": 682_608,
    "b1": 4_643_936,
    "b2": 14_977_008,
    "b3": 38_997_440,
    "l0": 27_805_472,
    "l1": 38_037_280,
    "l2": 49_090_208,
    "l3": 193_998_144,
    "xl0": 96_622_752,
    "xl1": 167_266_976,
}


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_every_variant_has_a_published_row() -> None:
    assert set(PUBLISHED) == {name for name, v in VARIANTS.items() if v.published}
    assert set(BACKBONE_PARAMETERS) == set(BACKBONES)


@pytest.mark.parametrize("name", PUBLISHED)
def test_variant_equals_the_published_row(name: str) -> None:
    count, macs_by_size = PUBLISHED[name]
    with torch.device("meta"):
        model = build_model(VARIANTS[name]).eval()
        assert parameters(model) == count
        for size_hw, macs in macs_by_size.items():
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                model(torch.empty(1, 3, *size_hw))
            # 0.5 %: the published figures are rounded to three digits.
            assert counter.get_total_flops() / 2e9 == pytest.approx(macs, rel=5e-3)


@pytest.mark.parametrize("name", BACKBONE_PARAMETERS)
def test_backbone_parameters(name: str) -> None:
    with torch.device("meta"):
        assert parameters(Backbone(BACKBONES[name])) == BACKBONE_PARAMETERS[name]


@pytest.mark.parametrize("name", ["b0", "l0", "xl0"])
def test_feature_pyramid(name: str) -> None:
    with torch.device("meta"):
        features = Backbone(BACKBONES[name])(torch.empty(1, 3, 256, 192))
    widths = BACKBONES[name].widths
    assert [f.shape[1] for f in features] == list(widths)
    assert [tuple(f.shape[-2:]) for f in features] == [
        (256 >> i, 192 >> i) for i in range(1, len(widths) + 1)
    ]


@pytest.mark.parametrize("name", ["seg-b0-cityscapes", "seg-l1-ade20k", "cls-b0"])
def test_any_class_count(name: str) -> None:
    model = build_model(get_variant(name, num_classes=7)).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 64, 96)).shape[1] == 7


def test_sizes_that_no_stride_divides() -> None:
    model = build_model(VARIANTS["seg-b0-cityscapes"]).eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 75, 101)).shape == (1, 19, 10, 13)


def test_unknown_variant_is_answered_with_a_suggestion() -> None:
    with pytest.raises(EvitError, match="seg-b9") as caught:
        get_variant("seg-b9-cityscapes")
    assert "cityscapes" in caught.value.hint
