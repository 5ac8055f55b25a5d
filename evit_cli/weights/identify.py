"""Which model a file's tensors belong to, told from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from evit_cli.errors import EvitError
from evit_cli.models.variants import (
    VARIANTS,
    SamHeadSpec,
    SegmentHeadSpec,
    SuperresHeadSpec,
    Variant,
    get_variant,
)
from evit_cli.weights.remap import detect_layout, mismatch, translated_names

if TYPE_CHECKING:
    from torch import Tensor

    from evit_cli.models.build import Model

_STEM = "backbone.stem.0.conv.weight"
_CLASSIFIER = "head.classifier.weight"
_TO_PIXELS = "head.to_pixels.weight"
_MASK_TOKENS = "decoder.mask_tokens"


def meta_model(variant: Variant) -> Model:
    """The model of `variant` without memory for its weights: only names and shapes."""
    import torch

    from evit_cli.models.build import build_model

    with torch.device("meta"):
        return build_model(variant)


def with_own_classes(name: str, state: Mapping[str, Tensor]) -> Variant:
    """The variant called `name`, with as many classes as the classifier in `state` has."""
    published = get_variant(name)
    classifier = _tensor(state, published, _CLASSIFIER)
    if classifier is None or classifier.ndim == 0 or classifier.shape[0] < 1:
        return published
    return get_variant(name, num_classes=classifier.shape[0])


def identify(state: Mapping[str, Tensor]) -> Variant | None:
    """The variant whose names and shapes `state` has, whatever the layout and the class count."""
    for name, published in VARIANTS.items():
        if not _plausible(state, published):
            continue
        variant = with_own_classes(name, state)
        if _problem(state, variant, meta_model(variant).state_dict()) is None:
            return variant
    return None


def check_fits(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], variant: Variant, *, where: str
) -> None:
    """Make sure that `state` belongs to `variant`.

    Args:
        state: the file's tensors, in any layout.
        expected: the state dict of the model that shall load them.
        variant: that model's variant.
        where: the file, for the message.

    Raises:
        EvitError: they do not fit; the message says what the file holds instead, or the first
            tensor that differs.
    """
    problem = _problem(state, variant, expected)
    if problem is None:
        return
    actual = identify(state)
    if actual is not None:
        raise EvitError(
            f"{where} holds {actual.name}, not {variant.name}",
            hint=f"use --model {actual.name}, or let the weights say what they are: no --model",
        )
    raise EvitError(
        f"{where} does not fit {variant.name}: {problem}",
        hint="`evit models ls` lists the models that evit builds",
    )


def _problem(
    state: Mapping[str, Tensor], variant: Variant, expected: Mapping[str, Tensor]
) -> str | None:
    """The first difference, in the names of the file's layout."""
    names = translated_names(expected, variant, detect_layout(state))
    return mismatch(state, {names[own]: tensor for own, tensor in expected.items()})


def _plausible(state: Mapping[str, Tensor], variant: Variant) -> bool:
    """Two cheap looks that rule out most variants: building one to compare takes a moment."""
    head = variant.head
    if isinstance(head, SamHeadSpec):
        stem = _tensor(state, variant, f"encoder.{_STEM}")
        tokens = _tensor(state, variant, _MASK_TOKENS)
        if stem is None or tokens is None or tokens.ndim != 2:
            return False
        return stem.shape[0] == variant.backbone.stem_width and tokens.shape[1] == head.width
    stem = _tensor(state, variant, _STEM)
    if isinstance(head, SuperresHeadSpec):
        last = state.get(_TO_PIXELS)
        if stem is None or last is None:
            return False
        wanted = (3 * head.scale**2, head.width)
        return tuple(last.shape[:2]) == wanted and stem.shape[0] == variant.backbone.stem_width
    classifier = _tensor(state, variant, _CLASSIFIER)
    if stem is None or classifier is None or stem.ndim != 4 or classifier.ndim < 2:
        return False
    if isinstance(head, SegmentHeadSpec):
        features = head.width * (head.final_expand or 1)
    else:
        features = head.linear_width
    return stem.shape[0] == variant.backbone.stem_width and classifier.shape[1] == features


def _tensor(state: Mapping[str, Tensor], variant: Variant, own_name: str) -> Tensor | None:
    """The tensor that `variant` calls `own_name`, by its name in the layout of `state`."""
    layout = detect_layout(state)
    return state.get(translated_names([own_name], variant, layout)[own_name])
