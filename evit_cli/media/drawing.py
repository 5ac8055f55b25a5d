"""Colouring class maps, blending them over the picture and naming the colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.media.frame import ImageU8
from evit_cli.types import ClassSet

LEGEND_ROWS = 10
LEGEND_SMALLEST_SHARE = 0.001


class Palette:
    """Colours by class index, ready for fast look-up.

    Args:
        classes: at most 65536 of them.
    """

    def __init__(self, classes: ClassSet) -> None:
        self.table = np.array(classes.colors_rgb, dtype=np.uint8).reshape(-1, 3)
        self._lut = np.zeros((256, 1, 3), dtype=np.uint8)
        self._lut[: min(256, len(self.table)), 0] = self.table[:256]

    def colorize(self, labels: npt.NDArray[np.unsignedinteger[Any]]) -> ImageU8:
        """(H, W) class indices -> (H, W, 3) RGB."""
        if labels.dtype == np.uint8:
            return np.asarray(cv2.applyColorMap(labels, self._lut), dtype=np.uint8)
        return np.asarray(self.table[labels], dtype=np.uint8)


def blend(image_rgb_u8: ImageU8, color_rgb_u8: ImageU8, alpha: float) -> ImageU8:
    """`alpha` of the colours over the picture; both (H, W, 3)."""
    mixed = cv2.addWeighted(image_rgb_u8, 1 - alpha, color_rgb_u8, alpha, 0)
    return np.asarray(mixed, dtype=np.uint8)


def _ascii(text: str) -> str:
    """OpenCV's fonts are ASCII; anything else would be drawn as question marks."""
    return text.encode("ascii", "replace").decode()


def draw_legend(
    image_rgb_u8: ImageU8, classes: ClassSet, shares: npt.NDArray[np.float64]
) -> ImageU8:
    """Write the largest classes with colour, name and share into the lower left corner.

    Args:
        image_rgb_u8: (H, W, 3); it is changed in place and returned.
        classes: names and colours.
        shares: share of the pixels per class, in [0, 1].

    Returns:
        The image. Pictures too small for text stay as they are.
    """
    height, width = image_rgb_u8.shape[:2]
    shown = [i for i in np.argsort(-shares)[:LEGEND_ROWS] if shares[i] >= LEGEND_SMALLEST_SHARE]
    scale = max(0.35, min(height, width) / 1400)
    row = round(30 * scale)
    lines = [f"{_ascii(classes.classes[i])}  {shares[i]:.1%}" for i in shown]
    if not lines:
        return image_rgb_u8
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, round(1.6 * scale))
    text_width = max(cv2.getTextSize(line, font, scale, thickness)[0][0] for line in lines)
    box_w, box_h = text_width + 3 * row, (len(lines) + 1) * row
    if box_h > height * 0.8 or box_w > width * 0.8:
        return image_rgb_u8
    panel = image_rgb_u8[height - box_h : height, :box_w]
    np.copyto(panel, panel // 3)  # darken, so that light text can be read on anything
    for n, (i, line) in enumerate(zip(shown, lines, strict=True)):
        y = height - box_h + n * row + row
        color = tuple(int(c) for c in classes.colors_rgb[i])
        corner = (row // 2, y - round(row * 0.45))
        cv2.rectangle(image_rgb_u8, corner, (row // 2 + row, y + round(row * 0.2)), color, -1)
        where = (2 * row, y + round(row * 0.1))
        cv2.putText(image_rgb_u8, line, where, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)
    return image_rgb_u8


def keep_classes(
    labels: npt.NDArray[np.unsignedinteger[Any]], wanted: Sequence[int]
) -> npt.NDArray[np.bool_]:
    """Where `labels` (H, W) holds one of the `wanted` class indices."""
    return np.isin(labels, np.asarray(wanted))
