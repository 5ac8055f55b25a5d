"""Two pictures side by side, with their names."""

from __future__ import annotations

import cv2
import numpy as np

from evit_cli.media.frame import ImageU8

_DIVIDER = 2
_WHITE = (255, 255, 255)


def side_by_side(left: ImageU8, right: ImageU8, names: tuple[str, str]) -> ImageU8:
    """Both pictures, (H, W, 3) RGB each, with a thin line between them: (H, 2 W + 2, 3).

    The names stand in the upper left corners, where a picture is large enough for them.
    """
    height, width = left.shape[:2]
    whole = np.full((height, 2 * width + _DIVIDER, 3), 255, np.uint8)
    for at, picture, name in ((0, left, names[0]), (width + _DIVIDER, right, names[1])):
        half = whole[:, at : at + width]
        half[:] = picture
        _write_name(half, name)
    return whole


def _write_name(picture: ImageU8, name: str) -> None:
    """Write into the upper left corner, in place."""
    height, width = picture.shape[:2]
    text = name.encode("ascii", "replace").decode()
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, max(0.4, min(height, width) / 1200)
    thickness = max(1, round(1.6 * scale))
    (text_w, text_h), low = cv2.getTextSize(text, font, scale, thickness)
    edge = text_h // 2
    box_h, box_w = text_h + low + 2 * edge, text_w + 2 * edge
    if box_h > height * 0.3 or box_w > width * 0.8:
        return
    panel = np.ascontiguousarray(picture[:box_h, :box_w]) // 3
    cv2.putText(panel, text, (edge, edge + text_h), font, scale, _WHITE, thickness, cv2.LINE_AA)
    picture[:box_h, :box_w] = panel
