"""Tensor names of the published checkpoints and of timm's, translated to ours and back.

One table of rules per layout turns *our* names into theirs; the other direction is its inverse.
The check is exact both ways: a missing, extra or mis-shaped tensor is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal

from evit_cli.errors import EvitError
from evit_cli.models.variants import SamHeadSpec, SegmentHeadSpec, Variant
from evit_cli.weights.remap_sam import NECK, published_decoder_name

if TYPE_CHECKING:
    from torch import Tensor

Layout = Literal["evit", "published", "timm"]
Rules = list[tuple[str, str]]

_INNER: Rules = [
    (r"\.context\.main\.qkv\.", ".context_module.main.qkv.conv."),
    (r"\.context\.main\.scales\.", ".context_module.main.aggreg."),
    (r"\.context\.main\.", ".context_module.main."),
    (r"\.local\.main\.", ".local_module.main."),
]


def _backbone_prefixes(variant: Variant) -> Rules:
    """Our names of the backbone's parts -> the published ones."""
    large = variant.backbone.name.startswith(("l", "x"))
    stem = "backbone.stages.0.op_list." if large else "backbone.input_stem.op_list."
    rules: Rules = [(r"^backbone\.stem\.", stem)]
    for i in range(len(variant.backbone.stages)):
        theirs = i + 1 if large else i  # the L series counts its stem as stage 0
        stage = f"backbone.stages.{theirs}.op_list."
        rules.append((rf"^backbone\.stages\.{i}\.0\.", f"{stage}0.main."))  # the entry
        rules.append((rf"^backbone\.stages\.{i}\.", stage))
    return rules


def _published_prefixes(variant: Variant) -> Rules:
    """Our names -> the names of the checkpoints at huggingface.co/han-cai."""
    rules = _backbone_prefixes(variant)
    if isinstance(variant.head, SegmentHeadSpec):
        classifier = 1 if variant.head.final_expand else 0
        return [
            *rules,
            (r"^head\.projections\.([01])\.", r"head.input_ops.\1.op_list.0."),
            (r"^head\.projections\.2\.", "head.input_ops.2."),
            (r"^head\.blocks\.", "head.middle.op_list."),
            (r"^head\.expand\.", "head.output_ops.0.op_list.0."),
            (r"^head\.classifier\.", f"head.output_ops.0.op_list.{classifier}.conv."),
        ]
    return [
        *rules,
        (r"^head\.in_conv\.", "head.op_list.0."),
        (r"^head\.hidden\.", "head.op_list.2.linear."),
        (r"^head\.norm\.", "head.op_list.2.norm."),
        (r"^head\.classifier\.", "head.op_list.3.linear."),
    ]


def _timm_prefixes() -> Rules:
    """Our names -> the names of timm's `efficientvit_*` classifiers."""
    return [
        (r"^backbone\.stem\.0\.", "stem.in_conv."),
        *((rf"^backbone\.stem\.{i + 1}\.", f"stem.res{i}.") for i in range(3)),
        (r"^backbone\.stages\.(\d+)\.0\.", r"stages.\1.blocks.0.main."),
        (r"^backbone\.stages\.(\d+)\.", r"stages.\1.blocks."),
        (r"^head\.hidden\.", "head.classifier.0."),
        (r"^head\.norm\.", "head.classifier.1."),
        (r"^head\.classifier\.", "head.classifier.4."),
    ]


def _first_rule(name: str, rules: Rules) -> str:
    for pattern, replacement in rules:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name


def _sam_name(name: str, variant: Variant) -> str:
    """Our name of a SAM model's tensor -> its name at huggingface.co/mit-han-lab."""
    if not name.startswith("encoder."):
        return published_decoder_name(name)
    inside = name.removeprefix("encoder.")
    renamed = _first_rule(inside, [*_backbone_prefixes(variant), *NECK])
    return f"image_encoder.{_first_rule(renamed, _INNER)}"


def translated_names(names: Iterable[str], variant: Variant, layout: Layout) -> dict[str, str]:
    """Our tensor names -> the names the same tensors have in `layout`."""
    if layout == "evit":
        return {name: name for name in names}
    if isinstance(variant.head, SamHeadSpec):
        return {name: _sam_name(name, variant) for name in names}
    prefixes = _published_prefixes(variant) if layout == "published" else _timm_prefixes()
    return {name: _first_rule(_first_rule(name, prefixes), _INNER) for name in names}


def detect_layout(names: Iterable[str]) -> Layout:
    """Which of the known layouts a state dict's tensor names come from."""
    for name in names:
        if ".op_list." in name or ".input_ops." in name:
            return "published"
        if name.startswith("stem.") or (".blocks." in name and name.startswith("stages.")):
            return "timm"
    return "evit"


def mismatch(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first way in which `state` differs from `expected` in names or shapes, in words."""
    for name, tensor in expected.items():
        if name not in state:
            return f"tensor '{name}' is missing"
        if state[name].shape != tensor.shape:
            return f"tensor '{name}' is {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
    extra = next((name for name in state if name not in expected), None)
    return None if extra is None else f"tensor '{extra}' is unknown to the model"


def to_evit(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], variant: Variant
) -> dict[str, Tensor]:
    """A state dict of any known layout, renamed to ours and checked against the model.

    Args:
        state: the file's tensors.
        expected: `model.state_dict()` of the model that shall load them.
        variant: the model's variant.

    Raises:
        EvitError: a tensor is missing, unknown or of another shape; the message names the first,
            by the name it has in the file's layout.
    """
    layout = detect_layout(state)
    names = translated_names(expected, variant, layout)
    problem = mismatch(state, {names[own]: tensor for own, tensor in expected.items()})
    if problem:
        raise EvitError(f"the weights do not fit {variant.name}: {problem}")
    return {own: state[theirs] for own, theirs in names.items()}


def from_evit(state: Mapping[str, Tensor], variant: Variant, layout: Layout) -> dict[str, Tensor]:
    """Our state dict under the names of `layout`: the inverse of `to_evit`."""
    names = translated_names(state, variant, layout)
    return {names[own]: tensor for own, tensor in state.items()}
