"""Random changes of brightness, contrast, saturation and hue, on 8-bit images."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.sample import ImageU8

_GREY = np.array([0.299, 0.587, 0.114])
_HUES = 256
_LEVELS = np.arange(256, dtype=np.float32)


def brighten(image_rgb_u8: ImageU8, factor: float) -> ImageU8:
    """The (H, W, 3) uint8 image with every value times `factor`; 0 is black."""
    return _mapped(image_rgb_u8, _LEVELS * factor)


def with_contrast(image_rgb_u8: ImageU8, factor: float) -> ImageU8:
    """The (H, W, 3) uint8 image with distances from its mean grey times `factor`; 0 is grey."""
    mean = float(np.dot(cv2.mean(image_rgb_u8)[:3], _GREY))
    return _mapped(image_rgb_u8, (_LEVELS - mean) * factor + mean)


def saturate(image_rgb_u8: ImageU8, factor: float) -> ImageU8:
    """The (H, W, 3) uint8 image with distances from its grey version times `factor`; 0 is grey."""
    matrix = factor * np.eye(3) + (1 - factor) * np.tile(_GREY, (3, 1))
    return np.asarray(cv2.transform(image_rgb_u8, matrix), np.uint8)


def turn_hue(image_rgb_u8: ImageU8, turns: float) -> ImageU8:
    """The (H, W, 3) uint8 image with its hue turned; 1 turn is all the way round."""
    hsv = cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2HSV_FULL)
    table = ((np.arange(_HUES) + round(turns * _HUES)) % _HUES).astype(np.uint8)
    cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), table), hsv, 0)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL), np.uint8)


def jitter(
    image_rgb_u8: ImageU8,
    rng: np.random.Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> ImageU8:
    """Random colour changes in a random order.

    Args:
        image_rgb_u8: (H, W, 3) uint8, RGB; it is not changed.
        rng: the same state gives the same image.
        brightness: the factor is drawn evenly from 1 - brightness (not below 0) to 1 + brightness.
        contrast: likewise.
        saturation: likewise.
        hue: the turn is drawn evenly from -hue to hue; 0.5 reaches every hue.

    Returns:
        (H, W, 3) uint8; the given image itself when every amount is 0.
    """
    changes: list[Callable[[ImageU8], ImageU8]] = []

    def plan(change: Callable[[ImageU8, float], ImageU8], amount: float, centre: float) -> None:
        if amount:
            low = centre - amount if centre == 0 else max(0.0, centre - amount)
            value = float(rng.uniform(low, centre + amount))
            changes.append(lambda image: change(image, value))

    plan(brighten, brightness, 1.0)
    plan(with_contrast, contrast, 1.0)
    plan(saturate, saturation, 1.0)
    plan(turn_hue, hue, 0.0)
    for index in rng.permutation(len(changes)):
        image_rgb_u8 = changes[index](image_rgb_u8)
    return image_rgb_u8


def _mapped(image: ImageU8, levels: npt.NDArray[np.float32]) -> ImageU8:
    """Every value replaced by the rounded and clipped entry of a table with 256 entries."""
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)
