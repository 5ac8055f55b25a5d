"""Random crops and changes of images for classification."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from evit_cli.data.color import jitter
from evit_cli.data.rand_augment import rand_augment
from evit_cli.data.sample import ImageU8

_TRIES = 10
# https://arxiv.org/abs/1708.04896: what share of the image is erased, and its height over width.
_ERASED_AREA = (0.02, 0.4)
_ERASED_ASPECT = (0.3, 1 / 0.3)
_INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA)


@dataclass(frozen=True)
class AugmentOptions:
    """How images are changed; the recipe's section `classify` has the same fields.

    Attributes:
        area: range of the random crop's share of the image.
        aspect: range of its width over height.
        flip: probability of a mirror image.
        brightness: largest relative change.
        contrast: likewise.
        saturation: likewise.
        hue: largest turn, 0 .. 0.5.
        rand_augment: (number of operations, magnitude 0 .. 10), None for none.
        erase: probability of erasing a random rectangle.
    """

    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (0.75, 1.3333)
    flip: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    rand_augment: tuple[int, float] | None = None
    erase: float = 0.0


def augment(
    image_rgb_u8: ImageU8, size: int, *, options: AugmentOptions, rng: np.random.Generator
) -> ImageU8:
    """A random crop of an image, resized and changed.

    Args:
        image_rgb_u8: (H, W, 3) uint8, RGB; it is not changed.
        size: side of the result.
        options: how.
        rng: the same state gives the same image.

    Returns:
        (size, size, 3) uint8, RGB, contiguous, with memory of its own.
    """
    top, left, height, width = random_crop(image_rgb_u8.shape[:2], options, rng)
    crop = image_rgb_u8[top : top + height, left : left + width]
    image = _resized(crop, size, rng)
    if rng.random() < options.flip:
        image = np.asarray(cv2.flip(image, 1), np.uint8)
    image = jitter(
        image,
        rng,
        brightness=options.brightness,
        contrast=options.contrast,
        saturation=options.saturation,
        hue=options.hue,
    )
    if options.rand_augment is not None:
        operations, magnitude = options.rand_augment
        image = rand_augment(image, rng, operations=operations, magnitude=magnitude)
    if rng.random() < options.erase:
        image = erase(image, rng)
    return image


def random_crop(
    size_hw: tuple[int, ...], options: AugmentOptions, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop, as in Inception (https://arxiv.org/abs/1409.4842).

    The area is drawn evenly, the aspect evenly in its logarithm. When no crop of 10 fits, it is
    the largest in the centre whose aspect is allowed.
    """
    height, width = size_hw
    low, high = options.aspect
    for _ in range(_TRIES):
        area = rng.uniform(*options.area) * height * width
        aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
        crop_w, crop_h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_w <= width and 0 < crop_h <= height:
            top, left = rng.integers(height - crop_h + 1), rng.integers(width - crop_w + 1)
            return int(top), int(left), crop_h, crop_w
    crop_w = min(width, max(1, round(height * high)))
    crop_h = min(height, max(1, round(width / low)))
    return (height - crop_h) // 2, (width - crop_w) // 2, crop_h, crop_w


def _resized(crop: ImageU8, size: int, rng: np.random.Generator) -> ImageU8:
    """A copy of the crop at (size, size), by a random interpolation."""
    method = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
    if crop.shape[:2] == (size, size):
        return np.array(crop)
    return np.asarray(cv2.resize(crop, (size, size), interpolation=method), np.uint8)


def erase(image_rgb_u8: ImageU8, rng: np.random.Generator) -> ImageU8:
    """A random rectangle replaced by random pixels (https://arxiv.org/abs/1708.04896).

    Args:
        image_rgb_u8: (H, W, 3) uint8; it is not changed.
        rng: the same state gives the same image.

    Returns:
        (H, W, 3) uint8; without a rectangle where none of 10 fits.
    """
    height, width = image_rgb_u8.shape[:2]
    low, high = (math.log(value) for value in _ERASED_ASPECT)
    for _ in range(_TRIES):
        area = rng.uniform(*_ERASED_AREA) * height * width
        aspect = math.exp(rng.uniform(low, high))
        part_h, part_w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < part_h < height and 0 < part_w < width:
            top, left = rng.integers(height - part_h + 1), rng.integers(width - part_w + 1)
            image = np.array(image_rgb_u8)
            noise = rng.integers(0, 256, (part_h, part_w, 3), dtype=np.uint8)
            image[top : top + part_h, left : left + part_w] = noise
            return image
    return image_rgb_u8
