"""The published and timm names, checked exactly and in both directions."""

from __future__ import annotations

import json

import pytest
import torch

from evit_cli.errors import EvitError
from evit_cli.models.variants import VARIANTS, Variant
from evit_cli.weights.identify import check_fits, identify, meta_model
from evit_cli.weights.remap import Layout, detect_layout, from_evit, to_evit
from tests.helpers.paths import shared_dir

LAYOUTS: tuple[Layout, ...] = ("evit", "published", "timm")
NAMES: list[str] = list(VARIANTS)
PUBLISHED: list[str] = [name for name, v in VARIANTS.items() if v.published]


def _meta_state(variant: Variant) -> dict[str, torch.Tensor]:
    return dict(meta_model(variant).state_dict())


def _layouts_of(name: str) -> list[Layout]:
    if name.startswith("sr"):
        return ["evit"]
    return [layout for layout in LAYOUTS if layout != "timm" or name.startswith("cls")]


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names_and_shapes_exactly(name: str) -> None:
    layout = json.loads(shared_dir("parity", "layouts", f"{name}.json").read_text())
    variant = VARIANTS[name]
    expected = _meta_state(variant)
    published = {k: torch.empty(v, device="meta") for k, v in layout.items()}
    ours = to_evit(published, expected, variant)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}
    back = from_evit(expected, variant, "published")
    assert {k: list(v.shape) for k, v in back.items()} == layout


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_layout_is_told_from_all_others(name: str) -> None:
    layout = json.loads(shared_dir("parity", "layouts", f"{name}.json").read_text())
    state = {k: torch.empty(v, device="meta") for k, v in layout.items()}
    assert identify(state) == VARIANTS[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_there_and_back_is_told_apart(name: str) -> None:
    variant = VARIANTS[name]
    ours = _meta_state(variant)
    for layout in _layouts_of(name):
        theirs = from_evit(ours, variant, layout)
        assert len(theirs) == len(ours)
        assert detect_layout(theirs) == layout
        back = to_evit(theirs, ours, variant)
        assert all(back[k] is ours[k] for k in ours)
        assert list(back) == list(ours)
        assert identify(theirs) == variant


@pytest.mark.parametrize(
    ("name", "layout", "own", "theirs"),
    [
        (
            *("seg-b0-cityscapes", "published", "backbone.stem.0.conv.weight"),
            "backbone.input_stem.op_list.0.conv.weight",
        ),
        (
            *("seg-b0-cityscapes", "published", "backbone.stages.2.1.context.main.qkv.weight"),
            "backbone.stages.2.op_list.1.context_module.main.qkv.conv.weight",
        ),
        (
            *("seg-b1-ade20k", "published", "head.classifier.bias"),
            "head.output_ops.0.op_list.0.conv.bias",
        ),
        (
            *("seg-b1-cityscapes", "published", "head.classifier.bias"),
            "head.output_ops.0.op_list.1.conv.bias",
        ),
        (
            *(
                "seg-l1-cityscapes",
                "published",
                "backbone.stages.3.1.context.main.scales.0.1.weight",
            ),
            "backbone.stages.4.op_list.1.context_module.main.aggreg.0.1.weight",
        ),
        (
            *("cls-l2", "published", "backbone.stages.0.0.spatial_conv.conv.weight"),
            "backbone.stages.1.op_list.0.main.spatial_conv.conv.weight",
        ),
        (
            *("cls-b1", "timm", "backbone.stages.2.1.local.main.depth_conv.conv.bias"),
            "stages.2.blocks.1.local_module.main.depth_conv.conv.bias",
        ),
        (
            "cls-l1",
            "timm",
            "backbone.stem.1.main.conv1.norm.weight",
            "stem.res0.main.conv1.norm.weight",
        ),
        ("cls-b0", "timm", "head.classifier.weight", "head.classifier.4.weight"),
    ],
)
def test_known_names(name: str, layout: Layout, own: str, theirs: str) -> None:
    ours = _meta_state(VARIANTS[name])
    renamed = from_evit(ours, VARIANTS[name], layout)
    assert renamed[theirs] is ours[own]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_first_difference_is_named_in_the_layout_of_the_file(layout: Layout) -> None:
    variant = VARIANTS["cls-b0"]
    ours = _meta_state(variant)
    whole = from_evit(ours, variant, layout)
    victim = list(whole)[40]
    missing = {k: v for k, v in whole.items() if k != victim}
    with pytest.raises(EvitError, match="is missing") as caught:
        to_evit(missing, ours, variant)
    assert f"'{victim}'" in caught.value.message
    with pytest.raises(EvitError, match="is unknown to the model") as caught:
        to_evit({**whole, "head.new": torch.zeros(1)}, ours, variant)
    assert "'head.new'" in caught.value.message
    with pytest.raises(EvitError, match=r"is \(3, 1, 4\), not") as caught:
        to_evit({**whole, victim: torch.zeros(3, 1, 4)}, ours, variant)
    assert f"'{victim}'" in caught.value.message


@pytest.mark.parametrize("name", ["seg-b1-cityscapes", "seg-b1-ade20k", "seg-l2-ade20k", "cls-b3"])
def test_custom_class_counts_keep_the_variant(name: str) -> None:
    from evit_cli.models.variants import get_variant

    variant = get_variant(name, num_classes=7)
    for layout in _layouts_of(name):
        assert identify(from_evit(_meta_state(variant), variant, layout)) == variant


def test_the_wrong_variant_is_named() -> None:
    state = from_evit(
        _meta_state(VARIANTS["seg-b1-cityscapes"]), VARIANTS["seg-b1-cityscapes"], "published"
    )
    wanted = VARIANTS["seg-b0-cityscapes"]
    with pytest.raises(EvitError) as caught:
        check_fits(state, _meta_state(wanted), wanted, where="file.pt")
    assert caught.value.message == "file.pt holds seg-b1-cityscapes, not seg-b0-cityscapes"
    assert "--model seg-b1-cityscapes" in caught.value.hint


@pytest.mark.parametrize(
    "state", [{}, {"a": torch.zeros(1)}, {"stem.in_conv.conv.weight": torch.tensor(1)}]
)
def test_strange_tensors_are_no_model(state: dict[str, torch.Tensor]) -> None:
    assert identify(state) is None
