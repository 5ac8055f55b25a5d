"""SAM's frame against Pillow and PyTorch, which the published code uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional as F

from evit_cli.inference.sam_frame import (
    encoder_input,
    frame_hw,
    full_size,
    resize_bilinear,
    to_frame,
)

MEAN = (0.485, 0.456, 0.406)
sides = st.integers(1, 90)


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides)
def test_resizing_is_pillows_within_one_level(h: int, w: int, new_h: int, new_w: int) -> None:
    image = noise(h, w)
    theirs = np.asarray(Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BILINEAR))
    ours = resize_bilinear(image, (new_h, new_w))
    assert ours.dtype == np.uint8
    apart = np.abs(ours.astype(int) - theirs)
    # A sum that is half way between two levels may be rounded either way, in either pass.
    assert apart.max() <= 1


def test_resizing_a_photograph_sized_image() -> None:
    image = noise(601, 1203)
    for new in ((256, 512), (512, 1024)):
        theirs = np.asarray(Image.fromarray(image).resize(new[::-1], Image.Resampling.BILINEAR))
        assert (resize_bilinear(image, new) == theirs).all()


@pytest.mark.parametrize(
    ("image_hw", "side", "expected"),
    [
        ((480, 640), 1024, (768, 1024)),
        ((427, 640), 1024, (683, 1024)),  # 683.2
        ((333, 500), 512, (341, 512)),  # 340.99
        ((1024, 2048), 512, (256, 512)),
        ((3, 1000), 512, (2, 512)),  # 1.536
        ((64, 64), 1024, (1024, 1024)),
        ((1, 3000), 512, (1, 512)),  # not 0
    ],
)
def test_the_frame_rounds_half_up(
    image_hw: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    assert frame_hw(image_hw, side) == expected


def test_points_scale_by_the_rounded_sides() -> None:
    found = to_frame(np.array([[640, 427], [320, 0]]), (427, 640))
    assert found.dtype == np.float32
    assert found.tolist() == [[1024, 683], [512, 0]]


def test_an_image_of_the_right_size_is_not_resized() -> None:
    image = noise(300, 512)
    square = encoder_input(image, 512, MEAN)
    assert (square.shape, square.dtype) == ((1, 512, 512, 3), np.float32)
    assert (square[0, :300] == image).all()


def test_the_padding_is_zero_after_normalisation() -> None:
    square = encoder_input(noise(60, 20), 128, MEAN)[0] / np.float32(255)
    normalised = (square - np.float32(MEAN)) / np.float32((0.229, 0.224, 0.225))
    assert np.abs(normalised[:, 43:]).max() < 1e-6
    assert np.abs(normalised[:128, :43]).mean() > 0.5


@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 4), (0, 30, 3)])
def test_an_image_that_is_none(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(H, W, 3\)"):
        encoder_input(np.zeros(shape, np.uint8), 512, MEAN)
    with pytest.raises(ValueError, match="float64"):
        encoder_input(np.zeros((4, 4, 3)), 512, MEAN)


@pytest.mark.parametrize("image_hw", [(480, 640), (97, 61), (1024, 1024), (1500, 700)])
def test_masks_at_full_size_are_pytorchs(image_hw: tuple[int, int]) -> None:
    low_res = np.random.default_rng(0).normal(0, 5, (2, 256, 256)).astype(np.float32)
    height, width = frame_hw(image_hw)
    square = F.interpolate(torch.from_numpy(low_res)[None], (1024, 1024), mode="bilinear")
    theirs = F.interpolate(square[..., :height, :width], image_hw, mode="bilinear")[0].numpy()
    assert np.abs(full_size(low_res, image_hw) - theirs).max() < 1e-3
