"""Where everything mode looks: a grid of points over the image and over crops of it."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Crop(NamedTuple):
    """A part of the image.

    Attributes:
        layer: 0 for the whole image.
        box_xyxy: pixels of the image; the right and lower sides are not inside.
    """

    layer: int
    box_xyxy: tuple[int, int, int, int]

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        left, top, right, bottom = self.box_xyxy
        return bottom - top, right - left


def point_grid(points_per_side: int, size_hw: tuple[int, int]) -> npt.NDArray[np.float64]:
    """(n * n, 2) x, y in pixels: the centres of n x n equal cells, row by row."""
    margin = 1 / (2 * points_per_side)
    shares = np.linspace(margin, 1 - margin, points_per_side)
    x, y = np.meshgrid(shares * size_hw[1], shares * size_hw[0])
    return np.stack((x.ravel(), y.ravel()), axis=1)


def crops(image_hw: tuple[int, int], layers: int, overlap_share: float) -> list[Crop]:
    """The whole image, then layer by layer its overlapping crops, column by column.

    Layer i has 2^i crops in each direction. They overlap by `overlap_share` x short side x
    2 / 2^i, rounded down, and are as large as needed to reach the far side, rounded up; the last
    ones are cut off there. On an image of few pixels a crop can lie beyond that side: it is left
    out.
    """
    height, width = image_hw
    found = [Crop(0, (0, 0, width, height))]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_share * min(image_hw) * (2 / count))
        columns, rows = _spans(width, count, overlap), _spans(height, count, overlap)
        found += [
            Crop(layer, (left, top, right, bottom))
            for (left, right), (top, bottom) in itertools.product(columns, rows)
        ]
    return found


def _spans(length: int, count: int, overlap: int) -> list[tuple[int, int]]:
    """First and end pixel of `count` overlapping parts of a side."""
    part = math.ceil((overlap * (count - 1) + length) / count)
    starts = [(part - overlap) * number for number in range(count)]
    return [(start, min(start + part, length)) for start in starts if start < length]
