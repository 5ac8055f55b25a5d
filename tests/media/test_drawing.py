from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.media.drawing import Palette, blend, draw_legend, keep_classes
from evit_cli.media.open import find_source
from evit_cli.media.street_scene import RATE, street_frames, write_street_clip
from evit_cli.types import ClassSet

CLASSES = ClassSet(
    "test", ("road", "straße", "sky"), ((128, 64, 128), (244, 35, 232), (70, 130, 180))
)
MANY = ClassSet(
    "many",
    tuple(f"class{n}" for n in range(847)),
    tuple((n % 256, n // 256, 7) for n in range(847)),
)


def shares(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


@pytest.mark.parametrize(("classes", "dtype"), [(CLASSES, np.uint8), (MANY, np.uint16)])
def test_every_class_has_its_colour(classes: ClassSet, dtype: type) -> None:
    labels = np.arange(len(classes), dtype=dtype)[None]
    colors = Palette(classes).colorize(labels)
    assert colors.dtype == np.uint8
    assert [tuple(color) for color in colors[0].tolist()] == list(classes.colors_rgb)


def test_blending() -> None:
    image, color = np.full((2, 3, 3), 100, np.uint8), np.full((2, 3, 3), 200, np.uint8)
    for alpha, wanted in ((0.0, 100), (0.5, 150), (1.0, 200)):
        assert (blend(image, color, alpha) == wanted).all()
    assert (image == 100).all()


def test_keeping_some_classes() -> None:
    labels = np.array([[0, 1, 2]], np.uint8)
    assert keep_classes(labels, [2, 0]).tolist() == [[True, False, True]]
    assert not keep_classes(labels, []).any()


def test_the_legend_names_what_is_there() -> None:
    image = np.full((300, 400, 3), 200, np.uint8)
    drawn = draw_legend(image.copy(), CLASSES, shares(0.7, 0.3, 0))
    assert (drawn != image).any()
    colors = {tuple(color) for color in drawn.reshape(-1, 3).tolist()}
    assert (128, 64, 128) in colors and (244, 35, 232) in colors
    assert (70, 130, 180) not in colors
    assert (drawn[:150] == image[:150]).all()  # it stays in its corner


def test_no_legend_without_classes() -> None:
    image = np.full((300, 400, 3), 200, np.uint8)
    assert (draw_legend(image.copy(), CLASSES, shares(0, 0, 0.0001)) == image).all()


@given(st.integers(1, 90), st.integers(1, 90))
def test_no_picture_is_too_small_for_the_legend(height: int, width: int) -> None:
    image = np.full((height, width, 3), 200, np.uint8)
    assert draw_legend(image, CLASSES, shares(0.5, 0.3, 0.2)).shape == (height, width, 3)


def test_the_street_scene_moves_and_repeats(tmp_path) -> None:  # type: ignore[no-untyped-def]
    first, second = street_frames(2, (60, 80))
    assert np.abs(first.astype(int) - second).mean() > 1
    np.testing.assert_array_equal(first, next(street_frames(1, (60, 80))))
    write_street_clip(tmp_path / "street.mp4", count=5, size_hw=(60, 80))
    source = find_source(str(tmp_path / "street.mp4"))
    assert (source.rate, len(list(source.frames()))) == (RATE, 5)
