"""RandAugment (https://arxiv.org/abs/1909.13719): some of 14 operations, all with one magnitude."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.color import brighten, saturate, with_contrast
from evit_cli.data.sample import ImageU8

MAX_MAGNITUDE = 10.0
FILL_RGB = (124, 116, 104)
"""What comes in from outside an image: the mean colour of ImageNet."""

# The strongest changes, at magnitude 10, as in the paper's reference and torchvision.
_ENHANCE = 0.9
_ROTATE_DEGREES = 30.0
_SHEAR = 0.3
_TRANSLATE = 0.45
_POSTERIZE_BITS = 4
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13

Operation = Callable[[ImageU8, float], ImageU8]


def rand_augment(
    image_rgb_u8: ImageU8, rng: np.random.Generator, *, operations: int, magnitude: float
) -> ImageU8:
    """Apply operations, each drawn evenly from the 14; those with a direction go either way.

    Args:
        image_rgb_u8: (H, W, 3) uint8, RGB; it is not changed.
        rng: the same state gives the same image.
        operations: how many.
        magnitude: 0 .. 10; how strong they are.

    Returns:
        (H, W, 3) uint8.
    """
    for _ in range(operations):
        operation = OPERATIONS[int(rng.integers(len(OPERATIONS)))]
        sign = 1 if rng.random() < 0.5 else -1
        image_rgb_u8 = operation(image_rgb_u8, sign * magnitude / MAX_MAGNITUDE)
    return image_rgb_u8


def identity(image: ImageU8, level: float) -> ImageU8:
    """The image itself."""
    return image


def auto_contrast(image: ImageU8, level: float) -> ImageU8:
    """Every channel stretched from 0 to 255."""
    low = image.min(axis=(0, 1)).astype(np.float32)
    high = image.max(axis=(0, 1)).astype(np.float32)
    flat = high <= low
    scale = np.where(flat, 1, 255 / np.where(flat, 1, high - low))
    levels = (np.arange(256, dtype=np.float32)[:, None] - np.where(flat, 0, low)) * scale
    return _mapped(image, levels)


def equalize(image: ImageU8, level: float) -> ImageU8:
    """The histogram of every channel made flat."""
    return np.asarray(cv2.merge([cv2.equalizeHist(one) for one in cv2.split(image)]), np.uint8)


def solarize(image: ImageU8, level: float) -> ImageU8:
    """Values from a threshold on turned into their opposites: 256 at level 0, 0 at level 1."""
    levels = np.arange(256)
    return _mapped(image, np.where(levels >= 256 * (1 - abs(level)), 255 - levels, levels))


def posterize(image: ImageU8, level: float) -> ImageU8:
    """Only the highest bits kept: 8 at level 0, 4 at level 1."""
    dropped = round(_POSTERIZE_BITS * abs(level))
    return _mapped(image, np.arange(256) >> dropped << dropped)


def color(image: ImageU8, level: float) -> ImageU8:
    """More or less saturated."""
    return saturate(image, 1 + _ENHANCE * level)


def contrast(image: ImageU8, level: float) -> ImageU8:
    """More or less contrast."""
    return with_contrast(image, 1 + _ENHANCE * level)


def brightness(image: ImageU8, level: float) -> ImageU8:
    """Brighter or darker."""
    return brighten(image, 1 + _ENHANCE * level)


def sharpness(image: ImageU8, level: float) -> ImageU8:
    """Sharper or smoother; the outermost pixels stay as they are."""
    smooth = image.copy()
    smooth[1:-1, 1:-1] = cv2.filter2D(image, -1, _SMOOTH)[1:-1, 1:-1]
    factor = 1 + _ENHANCE * level
    return np.asarray(cv2.addWeighted(image, factor, smooth, 1 - factor, 0), np.uint8)


def rotate(image: ImageU8, level: float) -> ImageU8:
    """Rotated about the centre."""
    angle = math.radians(_ROTATE_DEGREES * level)
    cos, sin = math.cos(angle), math.sin(angle)
    return _warped(image, ((cos, -sin), (sin, cos)), (0, 0))


def shear_x(image: ImageU8, level: float) -> ImageU8:
    """Rows shifted in proportion to their height above the centre."""
    return _warped(image, ((1, _SHEAR * level), (0, 1)), (0, 0))


def shear_y(image: ImageU8, level: float) -> ImageU8:
    """Columns likewise."""
    return _warped(image, ((1, 0), (_SHEAR * level, 1)), (0, 0))


def translate_x(image: ImageU8, level: float) -> ImageU8:
    """Shifted by a share of the width."""
    return _warped(image, ((1, 0), (0, 1)), (_TRANSLATE * level * image.shape[1], 0))


def translate_y(image: ImageU8, level: float) -> ImageU8:
    """Shifted by a share of the height."""
    return _warped(image, ((1, 0), (0, 1)), (0, _TRANSLATE * level * image.shape[0]))


OPERATIONS: tuple[Operation, ...] = (
    identity, auto_contrast, equalize, rotate, solarize, color, posterize, contrast, brightness,
    sharpness, shear_x, shear_y, translate_x, translate_y,
)  # fmt: skip
"""Each takes a level from -1 to 1; those without a direction use its size only."""


def _mapped(image: ImageU8, levels: npt.NDArray[Any]) -> ImageU8:
    """Every value replaced by its entry in a (256,) or, per channel, (256, 3) table."""
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table.reshape(1, 256, -1)), np.uint8)


def _warped(
    image: ImageU8,
    matrix: tuple[tuple[float, float], tuple[float, float]],
    shift_xy: tuple[float, float],
) -> ImageU8:
    """The image under a linear map about its centre, then shifted."""
    height, width = image.shape[:2]
    linear = np.array(matrix)
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    offset = centre - linear @ centre + np.array(shift_xy)
    affine = np.column_stack([linear, offset])
    out = cv2.warpAffine(
        image, affine, (width, height), flags=cv2.INTER_LINEAR, borderValue=FILL_RGB
    )
    return np.asarray(out, np.uint8)
