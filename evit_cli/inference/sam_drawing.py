"""The overlay: every object in its colour with an outline, and the prompts."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from evit_cli.inference.sam_objects import SamObject
from evit_cli.inference.sam_prompts import ObjectPrompt
from evit_cli.media.frame import ImageU8

_ALPHA = 0.45
_WHITE, _DARK = (255, 255, 255), (20, 20, 20)
_ON, _BESIDE = (40, 200, 60), (230, 50, 50)
_MANY = 20
"""Of more objects no names are written."""


def draw_objects(
    image_rgb_u8: ImageU8, objects: Sequence[SamObject], *, prompts: bool = True
) -> ImageU8:
    """A copy of the picture with its objects, small ones over large ones, without lost ones.

    Args:
        image_rgb_u8: (H, W, 3).
        objects: of this picture.
        prompts: draw what was asked, too.

    Returns:
        (H, W, 3).
    """
    image: ImageU8 = np.array(image_rgb_u8)
    seen = [one for one in objects if not one.lost and one.area]
    for one in sorted(seen, key=lambda one: -one.area):
        _draw_mask(image, one)
    for prompt in dict.fromkeys(one.prompt for one in objects):
        if prompts and prompt is not None:
            _draw_prompt(image, prompt)
    if len(seen) <= _MANY and (len(seen) > 1 or any(one.id for one in seen)):
        for one in seen:
            _draw_name(image, one)
    return image


def _unit(image: ImageU8) -> int:
    """Thickness of a line that can be seen on a picture of this size."""
    return max(1, round(int(max(image.shape[:2])) / 500))


def _draw_mask(image: ImageU8, one: SamObject) -> None:
    part = image[one.place]
    color = np.array(one.color_rgb, np.float32)
    mixed = part[one.window].astype(np.float32) * (1 - _ALPHA) + color * _ALPHA
    part[one.window] = mixed.astype(np.uint8)
    contours, _ = cv2.findContours(
        one.window.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE, offset=one.offset_xy
    )
    light = tuple((value + 255) // 2 for value in one.color_rgb)
    cv2.drawContours(image, contours, -1, light, _unit(image), cv2.LINE_AA)


def _draw_prompt(image: ImageU8, prompt: ObjectPrompt) -> None:
    unit = _unit(image)
    if prompt.box_xyxy is not None:
        x0, y0, x1, y1 = (round(v) for v in prompt.box_xyxy)
        corners = (min(x0, image.shape[1] - 1), min(y0, image.shape[0] - 1)), (x1 - 1, y1 - 1)
        cv2.rectangle(image, *corners, _DARK, unit + 2)
        cv2.rectangle(image, *corners, _WHITE, unit)
    for (x, y), label in zip(prompt.points_xy, prompt.labels, strict=True):
        centre, radius = (round(x), round(y)), 3 * unit + 1
        cv2.circle(image, centre, radius + unit, _WHITE, -1, cv2.LINE_AA)
        cv2.circle(image, centre, radius, _ON if label else _BESIDE, -1, cv2.LINE_AA)


def _draw_name(image: ImageU8, one: SamObject) -> None:
    """Number or name in the object's colour, at its upper left corner."""
    text = (one.id or str(one.number)).encode("ascii", "replace").decode()
    scale = max(0.4, max(image.shape[:2]) / 1400)
    thick = max(1, round(1.6 * scale))
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    left = max(0, min(one.offset_xy[0], image.shape[1] - width - 4))
    top = max(0, min(one.offset_xy[1], image.shape[0] - height - below - 4))
    cv2.rectangle(image, (left, top), (left + width + 4, top + height + below + 4), _DARK, -1)
    where = (left + 2, top + height + 2)
    cv2.putText(
        image, text, where, cv2.FONT_HERSHEY_SIMPLEX, scale, one.color_rgb, thick, cv2.LINE_AA
    )
