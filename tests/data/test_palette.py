"""Palette PNGs give their indices, whatever their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evit_cli.data.sample import read_labels
from evit_cli.errors import EvitError

INDICES = np.random.default_rng(0).integers(0, 21, (24, 32)).astype(np.uint8)


def write(path: Path, indices: np.ndarray, colors: list[tuple[int, int, int]]) -> Path:
    image = Image.fromarray(indices, mode="P")
    image.putpalette([value for color in colors for value in color])
    image.save(path)
    return path


def voc(count: int = 256) -> list[tuple[int, int, int]]:
    """Pascal VOC's colours: the bits of the index spread over red, green and blue."""
    colors = []
    for index in range(count):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= ((index >> (3 * bit + channel)) & 1) << (7 - bit)
        colors.append((rgb[0], rgb[1], rgb[2]))
    return colors


def test_voc_masks(tmp_path: Path) -> None:
    indices = INDICES.copy()
    indices[0] = 255
    np.testing.assert_array_equal(read_labels(write(tmp_path / "a.png", indices, voc())), indices)


def test_a_palette_that_is_filled_up_with_black(tmp_path: Path) -> None:
    colors = voc(21) + [(0, 0, 0)] * 235
    np.testing.assert_array_equal(read_labels(write(tmp_path / "a.png", INDICES, colors)), INDICES)


def test_two_classes_of_one_colour_are_refused(tmp_path: Path) -> None:
    colors = voc(21)
    colors[7] = colors[3]
    with pytest.raises(EvitError, match=r"one colour for the classes 3 and 7"):
        read_labels(write(tmp_path / "a.png", INDICES, colors))


@given(st.integers(2, 256), st.integers(0, 2**31 - 1))
def test_any_distinct_colours(
    tmp_path_factory: pytest.TempPathFactory, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.choice(2**24, count, replace=False)
    colors = [(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in codes]
    indices = rng.integers(0, count, (5, 7)).astype(np.uint8)
    path = write(tmp_path_factory.getbasetemp() / "p.png", indices, colors)
    np.testing.assert_array_equal(read_labels(path), indices)
