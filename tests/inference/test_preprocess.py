from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evit_cli.inference.preprocess import fit, place, resize_short_and_crop
from evit_cli.inference.resample import resize_antialiased
from evit_cli.types import ImageSize, Preprocess

CITYSCAPES = Preprocess(ImageSize(1024, 2048))
sides = st.integers(1, 5000)


@pytest.mark.parametrize(
    ("image_hw", "content_hw", "canvas_hw"),
    [
        ((1024, 2048), (1024, 2048), (1024, 2048)),  # native: untouched
        ((720, 1280), (720, 1280), (736, 1280)),  # within the range: only padded
        ((540, 960), (717, 1275), (736, 1280)),  # enlarged to 70 % of the training size
        ((2160, 3840), (1024, 1820), (1024, 1824)),  # shrunk to the training size
        ((100, 100), (200, 200), (224, 224)),  # enlarged, but at most twice
        ((100, 20000), (20, 4096), (32, 4096)),  # a long strip stays within memory
    ],
)
def test_default_sizes(
    image_hw: tuple[int, int], content_hw: tuple[int, int], canvas_hw: tuple[int, int]
) -> None:
    placement = place(image_hw, CITYSCAPES)
    assert placement.content_hw == content_hw
    assert placement.canvas_hw == canvas_hw


@given(sides, sides, st.none() | st.tuples(st.integers(32, 2000), st.integers(32, 2000)))
def test_aspect_is_kept_and_the_canvas_fits(
    height: int, width: int, box: tuple[int, int] | None
) -> None:
    size_hw = None if box is None else ImageSize(*box)
    placement = place((height, width), CITYSCAPES, size_hw=size_hw)
    content, canvas = placement.content_hw, placement.canvas_hw
    # One scale explains both sides to half a pixel (a side never gets shorter than one pixel).
    lowest = max((content.height - 0.5) / height, (content.width - 0.5) / width)
    highest = min((content.height + 0.5) / height, (content.width + 0.5) / width)
    assert lowest <= highest + 1e-9 or 1 in content
    for inner, outer in zip(content, canvas, strict=True):
        assert outer % 32 == 0
        assert inner <= outer < inner + 32
    if size_hw is not None:
        assert content.height <= size_hw.height
        assert content.width <= size_hw.width


def test_fit_puts_the_image_in_the_corner_and_repeats_its_edge() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    placement = place((50, 40), Preprocess(ImageSize(50, 50)))
    canvas = fit(image, placement)
    assert canvas.shape == (64, 64, 3)
    assert (canvas[:50, :40] == image).all()
    assert (canvas[50:, :40] == image[-1]).all()
    assert (canvas[:50, 40:] == image[:, -1:]).all()


def test_strong_shrinking_averages_instead_of_aliasing() -> None:
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 255
    placement = place((600, 600), Preprocess(ImageSize(600, 600)), size_hw=ImageSize(96, 96))
    small = fit(stripes, placement)[:96, :96]
    assert abs(int(small.mean()) - 127) <= 2
    assert small.std() < 30


@pytest.mark.parametrize("size_hw", [(40, 60), (200, 90), (7, 300), (100, 100)])
@pytest.mark.parametrize("kernel", ["cubic", "linear"])
def test_antialiased_resize_agrees_with_pillow(size_hw: tuple[int, int], kernel: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)
    method = Image.Resampling.BICUBIC if kernel == "cubic" else Image.Resampling.BILINEAR
    expected = np.asarray(Image.fromarray(image).resize(size_hw[::-1], method))
    ours = resize_antialiased(image, size_hw, kernel)  # type: ignore[arg-type]
    # Pillow may resize the rows before the columns; each pass rounds to eight bits.
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize("shape", [(300, 400), (400, 300), (100, 90), (224, 224)])
@pytest.mark.parametrize("crop_ratio", [1.0, 0.95])
def test_classification_crop_agrees_with_the_published_transform(
    shape: tuple[int, int], crop_ratio: float
) -> None:
    """Resize(ceil(size / ratio), bicubic) and CenterCrop, written out with Pillow."""
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
    preprocess = Preprocess(ImageSize(224, 224), crop_ratio=crop_ratio)
    short = int(np.ceil(224 / crop_ratio))
    height, width = shape
    if height <= width:
        new_h, new_w = short, int(short * width / height)
    else:
        new_h, new_w = int(short * height / width), short
    resized = Image.fromarray(image).resize((new_w, new_h), Image.Resampling.BICUBIC)
    top, left = round((new_h - 224) / 2), round((new_w - 224) / 2)
    expected = np.asarray(resized)[top : top + 224, left : left + 224]
    ours = resize_short_and_crop(image, preprocess)
    assert ours.shape == (224, 224, 3)
    assert np.abs(ours.astype(int) - expected.astype(int)).max() <= 1
