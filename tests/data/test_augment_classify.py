"""Colour changes, RandAugment and crops for classification."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.augment_classify import AugmentOptions, augment, erase, random_crop
from evit_cli.data.color import brighten, jitter, saturate, turn_hue, with_contrast
from evit_cli.data.rand_augment import FILL_RGB, OPERATIONS, rand_augment, rotate, translate_x

SHARES = st.floats(0, 1)
OPTIONS = st.builds(
    AugmentOptions,
    area=st.tuples(SHARES, SHARES).map(sorted).map(tuple),
    aspect=st.tuples(st.floats(0.2, 1), st.floats(1, 5)),
    flip=SHARES,
    brightness=SHARES,
    contrast=SHARES,
    saturation=SHARES,
    hue=st.floats(0, 0.5),
    rand_augment=st.none() | st.tuples(st.integers(0, 4), st.floats(0, 10)),
    erase=SHARES,
)


def picture(seed: int, height: int = 40, width: int = 50) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(max_examples=150, deadline=None)
@given(OPTIONS, st.integers(1, 70), st.integers(1, 70), st.integers(1, 40), st.integers(0, 999))
def test_augment_gives_the_size_and_repeats_itself(
    options: AugmentOptions, height: int, width: int, size: int, seed: int
) -> None:
    image = picture(seed, height, width)
    before = image.copy()
    first, second = (
        augment(image, size, options=options, rng=np.random.default_rng(seed)) for _ in range(2)
    )
    assert (first.shape, first.dtype) == ((size, size, 3), np.uint8)
    assert first.flags.c_contiguous
    assert (first == second).all()
    assert (image == before).all()
    assert not np.shares_memory(first, image)


@given(OPTIONS, st.integers(1, 500), st.integers(1, 500), st.integers(0, 999))
def test_crops_lie_inside(options: AugmentOptions, height: int, width: int, seed: int) -> None:
    top, left, h, w = random_crop((height, width), options, np.random.default_rng(seed))
    assert h > 0 and w > 0 and top >= 0 and left >= 0
    assert top + h <= height
    assert left + w <= width


def test_crops_have_the_wanted_area_and_aspect() -> None:
    options = AugmentOptions(area=(0.2, 0.5))
    rng = np.random.default_rng(0)
    crops = np.array([random_crop((1000, 1000), options, rng) for _ in range(300)])
    area = crops[:, 2] * crops[:, 3] / 1e6
    aspect = crops[:, 3] / crops[:, 2]
    assert area.min() > 0.199 and area.max() < 0.501
    assert aspect.min() > 0.749 and aspect.max() < 1.335


def test_when_no_crop_fits_it_is_in_the_centre() -> None:
    options = AugmentOptions(area=(1, 1), aspect=(0.75, 1.3333))
    assert random_crop((10, 1000), options, np.random.default_rng(0)) == (0, 493, 10, 13)
    assert random_crop((1000, 9), options, np.random.default_rng(0)) == (494, 0, 12, 9)


def test_nothing_to_do_gives_the_image() -> None:
    image = picture(0, 32, 32)
    options = AugmentOptions(area=(1, 1), aspect=(1, 1), flip=0)
    assert (augment(image, 32, options=options, rng=np.random.default_rng(0)) == image).all()
    flipped = AugmentOptions(area=(1, 1), aspect=(1, 1), flip=1)
    out = augment(image, 32, options=flipped, rng=np.random.default_rng(0))
    assert (out == image[:, ::-1]).all()


def test_erasing_leaves_the_rest() -> None:
    image = np.zeros((60, 60, 3), np.uint8)
    shares = [
        (erase(image, np.random.default_rng(seed)) > 0).any(axis=2).mean() for seed in range(60)
    ]
    assert 0.01 < min(shares)
    assert 0.2 < max(shares) < 0.41
    assert not image.any()


@pytest.mark.parametrize("change", [brighten, with_contrast, saturate])
def test_factor_one_changes_nothing(change: object) -> None:
    image = picture(1)
    assert np.abs(change(image, 1.0).astype(int) - image).max() <= 1  # type: ignore[operator]


def test_what_the_factors_mean() -> None:
    image = picture(2)
    grey = image @ np.array([0.299, 0.587, 0.114])
    assert not brighten(image, 0).any()
    assert (brighten(image, 2) == np.minimum(image.astype(int) * 2, 255)).all()
    assert np.ptp(with_contrast(image, 0)) == 0
    assert abs(int(with_contrast(image, 0)[0, 0, 0]) - grey.mean()) < 1
    assert np.abs(saturate(image, 0) - grey[:, :, None]).max() < 1


def test_hue_turns_red_to_green() -> None:
    red = np.full((2, 2, 3), (255, 0, 0), np.uint8)
    assert np.abs(turn_hue(red, 1 / 3)[0, 0].astype(int) - (0, 255, 0)).max() <= 4
    assert (turn_hue(red, 1.0) == red).all()
    assert np.abs(turn_hue(red, -0.5)[0, 0].astype(int) - (0, 255, 255)).max() <= 4


def test_jitter_of_nothing_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    image = picture(3)
    assert jitter(image, rng) is image
    assert rng.random() == np.random.default_rng(0).random()


@settings(max_examples=60, deadline=None)
@given(st.floats(-1, 1), st.integers(0, len(OPERATIONS) - 1), st.integers(1, 20))
def test_operations_keep_shape_and_input(level: float, index: int, side: int) -> None:
    image = picture(4, side, side + 3)
    before = image.copy()
    out = OPERATIONS[index](image, level)
    assert (out.shape, out.dtype) == (image.shape, np.uint8)
    assert (image == before).all()


def test_level_zero_of_most_operations_changes_nothing() -> None:
    image = picture(5)
    for operation in OPERATIONS:
        if operation.__name__ not in ("equalize", "auto_contrast"):
            assert np.abs(operation(image, 0.0).astype(int) - image).max() <= 1, operation


def test_directions_and_filling() -> None:
    image = np.zeros((20, 40, 3), np.uint8)
    moved = translate_x(image, 1.0)
    assert (moved[:, :18] == FILL_RGB).all()
    assert not moved[:, 18:].any()
    assert (translate_x(image, -1.0) == moved[:, ::-1]).all()
    spot = np.zeros((21, 21, 3), np.uint8)
    spot[10, 10] = 255
    assert (rotate(spot, 1.0)[10, 10] == 255).all()


def test_all_fourteen_are_drawn() -> None:
    assert len(OPERATIONS) == 14
    image = picture(6, 16, 16)
    rng = np.random.default_rng(0)
    results = {rand_augment(image, rng, operations=1, magnitude=8).tobytes() for _ in range(400)}
    assert len(results) == 14 + 9  # nine go either way
