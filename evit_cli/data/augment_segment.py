"""Random crops, scales, mirror images and colours for semantic segmentation.

Image, labels and whatever maps belong to them (a teacher's outputs, at any stride) are cut by one
affine transform each, straight from the source: nothing outside the crop is computed, and maps stay
aligned to a fraction of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.color import jitter
from evit_cli.data.sample import IGNORE
from evit_cli.types import ImageSize

ImageU8 = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int16]
FloatMap = npt.NDArray[np.float32]

_TRIES = 10
_CHANNELS_AT_ONCE = 4
"""OpenCV's warps take no more."""


@dataclass(frozen=True)
class SegmentAugment:
    """What may happen to an example; the fields are those of a recipe's `segment` section."""

    base_hw: ImageSize | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    max_class_share: float = 1.0
    color: Mapping[str, float] = field(default_factory=dict)
    blur: float = 0.0
    noise: float = 0.0


@dataclass(frozen=True)
class Window:
    """A crop of a scaled and possibly mirrored image.

    Attributes:
        image_hw: of the source.
        crop_hw: of the result.
        zoom: result pixels per source pixel.
        top: of the crop in the scaled image, pixels; may be negative where the image is smaller.
        left: the same.
        mirrored: left and right exchanged.
    """

    image_hw: ImageSize
    crop_hw: ImageSize
    zoom: float
    top: float
    left: float
    mirrored: bool

    def transform(self, *, source_hw: tuple[int, int], stride: int = 1) -> npt.NDArray[np.float64]:
        """(2, 3) from result to source coordinates (x, y), for pixel centres.

        Args:
            source_hw: size of the map that is cut, whatever its resolution.
            stride: crop pixels per result pixel.
        """
        per_x = source_hw[1] / self.image_hw.width / self.zoom
        per_y = source_hw[0] / self.image_hw.height / self.zoom
        # Result pixel i covers the crop's pixels [i s, (i + 1) s): its centre is (i + 0.5) s.
        y0 = (self.top + 0.5 * stride) * per_y - 0.5
        if self.mirrored:
            x0 = (self.left + self.crop_hw.width - 0.5 * stride) * per_x - 0.5
            return np.array([[-stride * per_x, 0, x0], [0, stride * per_y, y0]])
        x0 = (self.left + 0.5 * stride) * per_x - 0.5
        return np.array([[stride * per_x, 0, x0], [0, stride * per_y, y0]])


def draw_window(
    image_hw: ImageSize, crop_hw: ImageSize, options: SegmentAugment, rng: np.random.Generator
) -> Window:
    """A random crop; images smaller than it lie at a random place inside it."""
    base = options.base_hw or image_hw
    zoom = min(base.height / image_hw.height, base.width / image_hw.width)
    low, high = (math.log(limit) for limit in options.scale)
    zoom *= math.exp(rng.uniform(low, high))
    spare = [side * zoom - crop for side, crop in zip(image_hw, crop_hw, strict=True)]
    top, left = (rng.uniform(min(0.0, s), max(0.0, s)) for s in spare)
    return Window(image_hw, crop_hw, zoom, top, left, bool(rng.random() < options.flip))


def _warp(
    source: npt.NDArray[Any], window: Window, *, stride: int, method: int, outside: float | None
) -> npt.NDArray[Any]:
    """The window of a map; `outside` the image it has that value, or with None its edge's."""
    matrix = window.transform(source_hw=source.shape[:2], stride=stride)
    height, width = (side // stride for side in window.crop_hw)
    return cv2.warpAffine(
        source,
        matrix,
        (width, height),
        flags=method | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
        borderValue=(outside or 0,) * 4,
    )


def cut_image(image_rgb_u8: ImageU8, window: Window) -> ImageU8:
    """(H, W, 3) -> the crop; its edge is repeated where the image is smaller than the crop."""
    matrix = window.transform(source_hw=image_rgb_u8.shape[:2])
    if window.zoom < 0.5:  # an interpolation would skip source pixels
        small = max(1, round(1 / window.zoom))
        image_rgb_u8 = cv2.blur(image_rgb_u8, (small, small)).astype(np.uint8, copy=False)
    crop = cv2.warpAffine(
        image_rgb_u8,
        matrix,
        (window.crop_hw.width, window.crop_hw.height),
        flags=(cv2.INTER_CUBIC if window.zoom > 1 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, dtype=np.uint8)


def cut_labels(labels: Labels, window: Window, *, stride: int = 1) -> Labels:
    """(H, W) -> (crop height / stride, crop width / stride), `IGNORE` outside the image."""
    cut = _warp(labels, window, stride=stride, method=cv2.INTER_NEAREST, outside=IGNORE)
    return np.asarray(cut, dtype=np.int16)


def cut_map(values: FloatMap, window: Window, *, stride: int) -> tuple[FloatMap, FloatMap]:
    """Cut a float map of any resolution, such as a teacher's logits.

    Args:
        values: (channels, h, w) over the whole image.
        window: the crop.
        stride: of the result.

    Returns:
        (channels, crop height / stride, crop width / stride), and the same without channels: the
        share of each result pixel that lies inside the image, 0..1. Outside, the values are those
        at the edge: mixed with zeros, a teacher's answer there would be another one.
    """
    planes = np.ascontiguousarray(values.transpose(1, 2, 0), dtype=np.float32)
    parts = [
        planes[:, :, i : i + _CHANNELS_AT_ONCE]
        for i in range(0, planes.shape[2], _CHANNELS_AT_ONCE)
    ]
    cut = [_warp(p, window, stride=stride, method=cv2.INTER_LINEAR, outside=None) for p in parts]
    stacked = np.concatenate([c if c.ndim == 3 else c[:, :, None] for c in cut], axis=2)
    ones = np.ones(values.shape[1:], np.float32)
    inside = _warp(ones, window, stride=stride, method=cv2.INTER_LINEAR, outside=0.0)
    return np.ascontiguousarray(stacked.transpose(2, 0, 1)), inside


def choose_window(
    labels: Labels, crop_hw: ImageSize, options: SegmentAugment, rng: np.random.Generator
) -> Window:
    """A random crop in which no class has more than `max_class_share`, if ten tries find one."""
    image_hw = ImageSize(*labels.shape)
    for _ in range(_TRIES):
        window = draw_window(image_hw, crop_hw, options, rng)
        if options.max_class_share >= 1:
            break
        counts = np.bincount((cut_labels(labels, window, stride=8).ravel() - IGNORE).astype(int))
        known = counts[1:]
        if not known.sum() or known.max() <= options.max_class_share * known.sum():
            break
    return window


def disturb(image_rgb_u8: ImageU8, options: SegmentAugment, rng: np.random.Generator) -> ImageU8:
    """Random colours, blur and noise; (H, W, 3) in and out."""
    if any(options.color.values()):
        image_rgb_u8 = jitter(image_rgb_u8, rng, **options.color)
    if options.blur and rng.random() < options.blur:
        sigma = rng.uniform(0.3, 1.5)
        image_rgb_u8 = cv2.GaussianBlur(image_rgb_u8, (0, 0), sigma).astype(np.uint8, copy=False)
    if options.noise:
        strength = rng.uniform(0, options.noise)
        noise = rng.standard_normal(image_rgb_u8.shape, dtype=np.float32) * strength
        image_rgb_u8 = np.clip(image_rgb_u8 + noise + 0.5, 0, 255).astype(np.uint8)
    return image_rgb_u8
