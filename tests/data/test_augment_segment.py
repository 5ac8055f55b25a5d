"""Crops of image, labels and maps stay together, whatever the window."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from evit_cli.data.augment_segment import (
    SegmentAugment,
    Window,
    choose_window,
    cut_image,
    cut_labels,
    cut_map,
    disturb,
    draw_window,
)
from evit_cli.data.sample import IGNORE
from evit_cli.types import ImageSize

IMAGE = ImageSize(160, 240)
CROP = ImageSize(96, 128)
STRIDE = 8


def coordinates(size_hw: ImageSize = IMAGE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image whose red is x and green is y, labels = 200 y + x (to 199), x and y at stride 8."""
    y, x = np.mgrid[: size_hw.height, : size_hw.width]
    image = np.stack([x, y, np.zeros_like(x)], 2).astype(np.uint8)
    labels = (y * 200 + np.minimum(x, 199)).astype(np.int16)
    low_y, low_x = (np.mgrid[: size_hw.height // STRIDE, : size_hw.width // STRIDE] + 0.5) * STRIDE
    return image, labels, np.stack([low_x, low_y]).astype(np.float32) - 0.5


def window(zoom: float, top: float, left: float, mirrored: bool) -> Window:
    return Window(IMAGE, CROP, zoom, top, left, mirrored)


windows = st.builds(
    window,
    zoom=st.floats(0.55, 2.5),
    top=st.floats(-40, 120),
    left=st.floats(-40, 160),
    mirrored=st.booleans(),
)


def source_of(chosen: Window, size_hw: tuple[int, int], stride: int) -> tuple[np.ndarray, ...]:
    """Where each result pixel's centre lies in the image, by plain arithmetic: (y, x)."""
    rows = (np.arange(size_hw[0]) + 0.5) * stride
    columns = (np.arange(size_hw[1]) + 0.5) * stride
    if chosen.mirrored:
        columns = chosen.crop_hw.width - columns
    y = (rows + chosen.top) / chosen.zoom - 0.5
    x = (columns + chosen.left) / chosen.zoom - 0.5
    return np.meshgrid(y, x, indexing="ij")[0], np.meshgrid(y, x, indexing="ij")[1]


@settings(deadline=None, max_examples=80)
@given(chosen=windows)
def test_image_labels_and_maps_stay_together(chosen: Window) -> None:
    image, labels, low = coordinates()
    cut = cut_image(image, chosen).astype(np.float64)
    y, x = source_of(chosen, CROP, 1)
    inside = (y >= 1) & (y <= IMAGE.height - 2) & (x >= 1) & (x <= IMAGE.width - 2)
    assume(inside.mean() > 0.1)
    assert np.abs(cut[..., 0] - x)[inside].max() <= 1.01
    assert np.abs(cut[..., 1] - y)[inside].max() <= 1.01
    found = cut_labels(labels, chosen)
    known = inside & (x < 198)
    assert np.abs(found // 200 - y)[known].max(initial=0) <= 0.55
    assert np.abs(found % 200 - x)[known].max(initial=0) <= 0.55
    values, share = cut_map(low, chosen, stride=STRIDE)
    y, x = source_of(chosen, values.shape[1:], STRIDE)
    full = share > 0.999
    # OpenCV places bilinear samples on a grid of 1/32 source pixel, here 8 / 32 of an image pixel.
    assert np.abs(values[0] - x)[full].max(initial=0) <= 0.3
    assert np.abs(values[1] - y)[full].max(initial=0) <= 0.3
    outside = (y < -STRIDE) | (y > IMAGE.height + STRIDE)
    outside |= (x < -STRIDE) | (x > IMAGE.width + STRIDE)
    assert not share[outside].any()
    assert share[(y > 4) & (y < IMAGE.height - 5) & (x > 4) & (x < IMAGE.width - 5)].min(
        initial=1
    ) == pytest.approx(1, abs=1e-5)


@settings(deadline=None, max_examples=60)
@given(chosen=windows)
def test_maps_keep_their_values_at_the_edge_of_the_image(chosen: Window) -> None:
    """A constant map is that constant wherever it counts, not mixed with the nothing outside."""
    values, share = cut_map(np.full((6, 20, 30), 7.0, np.float32), chosen, stride=STRIDE)
    assert values.shape == (6, CROP.height // STRIDE, CROP.width // STRIDE)
    assert np.abs(values[:, share > 0] - 7).max(initial=0) < 1e-4


@settings(deadline=None, max_examples=60)
@given(chosen=windows)
def test_labels_outside_the_image_do_not_count(chosen: Window) -> None:
    labels = np.zeros(IMAGE, np.int16)
    found = cut_labels(labels, chosen)
    y, x = source_of(chosen, CROP, 1)
    clear = (y < -1) | (y > IMAGE.height) | (x < -1) | (x > IMAGE.width)
    within = (y > 0) & (y < IMAGE.height - 1) & (x > 0) & (x < IMAGE.width - 1)
    assert (found[clear] == IGNORE).all()
    assert (found[within] == 0).all()


@pytest.mark.parametrize("stride", [2, 4, 8])
def test_labels_at_a_stride_are_those_of_the_centres(stride: int) -> None:
    labels = coordinates()[1]
    chosen = window(1.0, 10.0, 20.0, False)
    full, low = cut_labels(labels, chosen), cut_labels(labels, chosen, stride=stride)
    assert low.shape == (CROP.height // stride, CROP.width // stride)
    centre = stride // 2
    near = [full[centre - d :: stride, centre - e :: stride] for d in (0, 1) for e in (0, 1)]
    assert np.any([low == values for values in near], axis=0).all()


def test_a_window_at_its_own_size_is_a_plain_slice() -> None:
    image, labels, low = coordinates()
    chosen = window(1.0, 16.0, 24.0, False)
    assert (cut_image(image, chosen) == image[16:112, 24:152]).all()
    assert (cut_labels(labels, chosen) == labels[16:112, 24:152]).all()
    assert np.allclose(cut_map(low, chosen, stride=8)[0], low[:, 2:14, 3:19], atol=1e-4)
    mirror = window(1.0, 16.0, 24.0, True)
    assert (cut_image(image, mirror) == image[16:112, 24:152][:, ::-1]).all()
    assert (cut_labels(labels, mirror) == labels[16:112, 24:152][:, ::-1]).all()
    assert np.allclose(cut_map(low, mirror, stride=8)[0], low[:, 2:14, 3:19][..., ::-1], atol=1e-4)


def test_outside_the_image_its_edge_is_repeated() -> None:
    image = np.full((20, 30, 3), 77, np.uint8)
    chosen = Window(ImageSize(20, 30), ImageSize(64, 64), 1.0, -20.0, -10.0, False)
    assert (cut_image(image, chosen) == 77).all()
    assert (cut_labels(np.ones((20, 30), np.int16), chosen) == 1).sum() == 600


def test_a_strong_reduction_averages() -> None:
    """One-pixel stripes become grey instead of one of their colours."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[:, ::2] = 255
    chosen = Window(ImageSize(400, 400), ImageSize(64, 64), 0.2, 8.0, 8.0, False)
    assert np.abs(cut_image(image, chosen).astype(int) - 127).max() <= 60


OPTIONS = SegmentAugment(scale=(0.5, 2.0), flip=0.5)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_windows_lie_in_the_image_or_around_it(seed: int) -> None:
    chosen = draw_window(IMAGE, CROP, OPTIONS, np.random.default_rng(seed))
    assert 0.5 <= chosen.zoom <= 2.0
    for start, crop, side in (
        (chosen.top, CROP.height, IMAGE.height * chosen.zoom),
        (chosen.left, CROP.width, IMAGE.width * chosen.zoom),
    ):
        if side >= crop:
            assert 0 <= start <= side - crop
        else:
            assert side - crop <= start <= 0
    assert chosen == draw_window(IMAGE, CROP, OPTIONS, np.random.default_rng(seed))


def test_the_base_size_comes_before_the_scale() -> None:
    fixed = SegmentAugment(base_hw=ImageSize(320, 1000), scale=(1.0, 1.0), flip=0)
    chosen = draw_window(IMAGE, CROP, fixed, np.random.default_rng(0))
    assert chosen.zoom == 2.0
    assert not chosen.mirrored
    always = SegmentAugment(flip=1.0)
    assert draw_window(IMAGE, CROP, always, np.random.default_rng(0)).mirrored


def test_a_crop_of_one_class_is_drawn_again() -> None:
    """The left nine tenths are class 0; windows of one size lie anywhere along the width."""
    labels = np.zeros((64, 1000), np.int16)
    labels[:, 900:] = 1

    def shares(limit: float) -> list[float]:
        options = SegmentAugment(scale=(1.0, 1.0), flip=0, max_class_share=limit)
        crop = ImageSize(64, 128)
        found = []
        for seed in range(60):
            rng = np.random.default_rng(seed)
            cut = cut_labels(labels, choose_window(labels, crop, options, rng))
            found.append(float((cut == 0).mean()))
        return found

    unlimited, limited = shares(1.0), shares(0.75)
    assert np.mean(np.array(unlimited) > 0.77) > 0.7
    assert np.mean(np.array(limited) > 0.77) < 0.5


def test_void_alone_is_no_reason_to_draw_again() -> None:
    labels = np.full((64, 64), IGNORE, np.int16)
    options = SegmentAugment(scale=(1.0, 1.0), flip=0, max_class_share=0.5)
    one, two = np.random.default_rng(3), np.random.default_rng(3)
    chosen = choose_window(labels, ImageSize(32, 32), options, one)
    assert chosen == draw_window(ImageSize(64, 64), ImageSize(32, 32), options, two)


def test_disturbances_are_those_of_the_seed_and_each_can_be_had_alone() -> None:
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8), (0, 0), 2
    )
    every = SegmentAugment(color={"brightness": 0.4, "hue": 0.2}, blur=1.0, noise=9.0)
    first = disturb(image, every, np.random.default_rng(1))
    assert (first.dtype, first.shape) == (np.uint8, image.shape)
    assert (first == disturb(image, every, np.random.default_rng(1))).all()
    assert (first != disturb(image, every, np.random.default_rng(2))).any()
    assert disturb(image, SegmentAugment(), np.random.default_rng(1)) is image
    for one in (SegmentAugment(color={"contrast": 0.9}), SegmentAugment(blur=1.0)):
        assert (disturb(image, one, np.random.default_rng(1)) != image).any()
    noisy = disturb(
        np.full((64, 64, 3), 128, np.uint8), SegmentAugment(noise=20.0), np.random.default_rng(4)
    )
    assert abs(noisy.mean() - 128) < 0.6
    assert 0 < noisy.std() < 20
