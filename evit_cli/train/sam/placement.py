"""Where a training image lies in the encoder's square, and its masks with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.masks import BoolMask
from evit_cli.data.sample import ImageU8
from evit_cli.models.sam.prompts import FRAME

_MEAN_RGB = (124, 116, 104)
"""Nearly zero once it is normalised; what the network sees is exactly zero (`blanked`)."""


@dataclass(frozen=True)
class Placement:
    """An image scaled, cut, possibly mirrored, and put into the upper left corner of a square.

    Attributes:
        side: of the square, pixels.
        scaled_hw: the image's size before it is cut.
        top: first row of it that is kept.
        left: first column of it that is kept.
        mirrored: whether what is kept is mirrored.
    """

    side: int
    scaled_hw: tuple[int, int]
    top: int = 0
    left: int = 0
    mirrored: bool = False

    @property
    def content_hw(self) -> tuple[int, int]:
        """The size of what is kept; the rest of the square is padding."""
        height, width = self.scaled_hw
        return min(height - self.top, self.side), min(width - self.left, self.side)

    @property
    def frame_per_pixel(self) -> float:
        """Pixels of the prompts' frame per pixel of the square."""
        return FRAME / self.side

    def image(self, image_rgb_u8: ImageU8) -> ImageU8:
        """(H, W, 3) -> (side, side, 3), the mean colour in the padding."""
        square = np.full((self.side, self.side, 3), _MEAN_RGB, np.uint8)
        height, width = self.content_hw
        square[:height, :width] = self._cut(_resized(image_rgb_u8, self.scaled_hw))
        return square

    def mask(self, mask: BoolMask) -> BoolMask:
        """(H, W) -> (side, side), False in the padding."""
        square = np.zeros((self.side, self.side), np.bool_)
        height, width = self.content_hw
        halves = _resized(mask.astype(np.uint8) * 255, self.scaled_hw)
        square[:height, :width] = self._cut(halves) > 127
        return square

    def _cut(self, scaled: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        height, width = self.content_hw
        cut = scaled[self.top : self.top + height, self.left : self.left + width]
        return cut[:, ::-1] if self.mirrored else cut


def _resized(values: npt.NDArray[np.uint8], size_hw: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Bilinear where it grows; the mean of what a pixel covers where it shrinks."""
    if values.shape[:2] == size_hw:
        return values
    shrinks = size_hw[0] < values.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, size_hw[::-1], interpolation=method), np.uint8)


def scaled_to(image_hw: tuple[int, int], longest: float) -> tuple[int, int]:
    """The image's size when its longest side has so many pixels."""
    scale = longest / max(image_hw)
    height, width = (max(1, int(side * scale + 0.5)) for side in image_hw)
    return height, width


def fitted(image_hw: tuple[int, int], side: int) -> Placement:
    """The whole image, its longest side as long as the square: what inference does."""
    return Placement(side, scaled_to(image_hw, side))


def random_placement(
    image_hw: tuple[int, int],
    side: int,
    rng: np.random.Generator,
    *,
    scale: tuple[float, float] = (1.0, 1.0),
    flip: float = 0.5,
) -> Placement:
    """A random enlargement, a random cut where that leaves too much, and a mirror image.

    Args:
        image_hw: of the source.
        side: of the square.
        rng: of this example.
        scale: range of the longest side over `side`, drawn evenly in its logarithm.
        flip: probability of a mirror image.
    """
    low, high = (math.log(limit) for limit in scale)
    scaled = scaled_to(image_hw, side * math.exp(rng.uniform(low, high)))
    top, left = (int(rng.integers(max(0, length - side) + 1)) for length in scaled)
    return Placement(side, scaled, top, left, bool(rng.random() < flip))
