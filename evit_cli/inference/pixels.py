"""Between pictures of any depth and the eight-bit RGB and float RGB of a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.inference.preprocess import ImageU8
from evit_cli.inference.tiles import FloatBlock
from evit_cli.media.deep_images import DeepImage, eight_bits

_BLEED = 9
"""Hidden colours up to half of it from visible ones are replaced: as far as bicubic reaches."""


def model_input(stored: npt.NDArray[Any]) -> tuple[ImageU8, FloatBlock | None]:
    """Pixels as OpenCV keeps them as a model's input.

    Args:
        stored: (h, w) grey, (h, w, 3) BGR or (h, w, 4) BGRA; uint8 or uint16.

    Returns:
        (h, w, 3) uint8 RGB, and what sixteen bits hold beyond it as a share of white, None of
        eight bits.
    """
    if stored.ndim == 2:
        rgb = np.repeat(stored[:, :, None], 3, axis=2)
    else:
        rgb = np.ascontiguousarray(stored[:, :, 2::-1])
        if stored.shape[2] == 4:
            rgb = _bled(rgb, stored[:, :, 3])
    if rgb.dtype == np.uint8:
        return rgb, None
    seen = eight_bits(rgb)
    missing = rgb.astype(np.float32) / np.float32(65535) - seen.astype(np.float32) / np.float32(255)
    return seen, np.asarray(missing, np.float32)


def _bled(rgb: npt.NDArray[Any], alpha: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """RGB whose invisible pixels have the mean colour of the visible ones around.

    What a file keeps there, mostly black, would darken the edges of the visible.
    """
    seen = (alpha > 0).astype(np.float32)
    if seen.all() or not seen.any():
        return rgb
    area = (_BLEED, _BLEED)
    weight = cv2.blur(seen, area)
    total = cv2.blur(rgb.astype(np.float32) * seen[:, :, None], area)
    mean = np.asarray(total, np.float32) / np.maximum(weight, 1e-6)[:, :, None]
    fill = (seen == 0) & (weight > 1e-6)
    out = np.array(rgb)
    out[fill] = mean[fill] + 0.5
    return out


class NewPixels:
    """The large picture while it is being made, in the depth of the small one.

    Args:
        image: the small picture.
        scale: how many times it will be larger.
    """

    def __init__(self, image: DeepImage, scale: int) -> None:
        height, width = image.size_hw
        size_hw = (height * scale, width * scale)
        self._image = image
        self._white = int(np.iinfo(image.stored.dtype).max)
        self._stored = np.empty((*size_hw, *image.stored.shape[2:]), image.stored.dtype)
        if image.alpha is not None:
            alpha = np.ascontiguousarray(image.alpha)
            self._stored[:, :, 3] = cv2.resize(alpha, size_hw[::-1], interpolation=cv2.INTER_CUBIC)

    def write(self, top: int, left: int, block: FloatBlock) -> None:
        """Put in a block of (h, w, 3) RGB, 0..1 and a bit beyond."""
        height, width = block.shape[:2]
        if self._stored.ndim == 2:
            block = block.mean(axis=2)
        block = np.clip(block, 0, 1)
        block *= self._white
        block += 0.5
        place = self._stored[top : top + height, left : left + width]
        if self._stored.ndim == 2:
            place[:] = block
        else:
            place[:, :, 2::-1] = block

    def finished(self) -> DeepImage:
        """The picture, with the metadata of the small one."""
        return replace(self._image, stored=self._stored)
