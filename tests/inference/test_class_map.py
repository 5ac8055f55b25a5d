"""The cheap class map against the literal one: bicubic resize in torch, then argmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.inference.class_map import class_map


def literal(logits: np.ndarray, size_hw: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and how far the first class is ahead of the second."""
    full = F.interpolate(torch.from_numpy(logits)[None].double(), size=size_hw, mode="bicubic")[0]
    first = full.topk(min(2, len(full)), dim=0).values
    margin = first[0] - first[-1] if len(full) > 1 else torch.ones(size_hw)
    return full.argmax(0).numpy(), margin.numpy()


def agree(labels: np.ndarray, logits: np.ndarray, size_hw: tuple[int, int]) -> None:
    expected, margin = literal(logits, size_hw)
    assert labels.shape == size_hw
    # Where two classes tie to float32 rounding, either is right.
    assert (labels == expected)[margin > 1e-4].all()


def regions(classes: int, h: int, w: int, seed: int) -> np.ndarray:
    """Smooth random logits: regions with borders, as a trained model gives."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, classes, max(2, h // 6), max(2, w // 6), generator=generator) * 5
    return F.interpolate(coarse, size=(h, w), mode="bilinear")[0].numpy()


@pytest.mark.parametrize("size_hw", [(128, 256), (125, 251), (96, 64), (17, 33), (512, 1024)])
@pytest.mark.parametrize("classes", [1, 2, 19])
def test_equals_the_literal_form(classes: int, size_hw: tuple[int, int]) -> None:
    logits = regions(classes, 16, 32, seed=classes)
    labels = class_map(logits, size_hw)
    assert labels.dtype == np.uint8
    agree(labels, logits, size_hw)


@settings(max_examples=60, deadline=None)
@given(
    classes=st.integers(1, 12),
    h=st.integers(1, 12),
    w=st.integers(1, 12),
    out_h=st.integers(1, 70),
    out_w=st.integers(1, 70),
    smooth=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equals_the_literal_form_for_any_sizes(
    classes: int, h: int, w: int, out_h: int, out_w: int, smooth: bool, seed: int
) -> None:
    logits = regions(classes, h, w, seed)
    if not smooth:
        logits = np.random.default_rng(seed).normal(size=logits.shape).astype(np.float32)
    agree(class_map(logits, (out_h, out_w)), logits, (out_h, out_w))


def test_many_classes_and_no_regions_at_all() -> None:
    logits = np.random.default_rng(0).normal(size=(300, 24, 24)).astype(np.float32)
    labels = class_map(logits, (96, 96))
    assert labels.dtype == np.uint16
    agree(labels, logits, (96, 96))


def test_padded_inputs_give_the_part_that_is_image() -> None:
    logits = regions(5, 12, 16, seed=3)
    whole = class_map(logits, (96, 128))
    part = class_map(logits, (90, 121), step_yx=(1 / 8, 1 / 8))
    assert (part == whole[:90, :121]).all()


def test_half_precision_logits() -> None:
    logits = regions(4, 8, 8, seed=1).astype(np.float16)
    agree(class_map(logits, (64, 64)), logits.astype(np.float32), (64, 64))


def test_batches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4\)"):
        class_map(np.zeros((1, 2, 3, 4), np.float32), (8, 8))
