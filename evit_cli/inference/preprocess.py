"""From an image of any size to a model's input, with the aspect ratio kept."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.types import ImageSize, Preprocess

ImageU8 = npt.NDArray[np.uint8]

SMALLEST_SHARE = 0.7
"""By default a frame is enlarged until its short side is this share of the training size: the
published B0 gains 9 points of mIoU on 480x360 street frames from it (docs/segment.md)."""

LARGEST_ENLARGEMENT = 2.0
LONGEST_SIDES = 4
"""The long side stays within this many training short sides, whatever the aspect ratio."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a model's input: resized to `content_hw`, top left in `canvas_hw`."""

    image_hw: ImageSize
    content_hw: ImageSize
    canvas_hw: ImageSize


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def place(
    image_hw: tuple[int, int], preprocess: Preprocess, *, size_hw: ImageSize | None = None
) -> Placement:
    """Choose the input size for an image.

    Args:
        image_hw: height and width of the image.
        preprocess: the model's own size and stride.
        size_hw: a box that the image is fitted into. By default the image keeps its size, within
            70 to 100 % of the model's training size by the short side.

    Returns:
        The resized size and the canvas around it, a multiple of the model's stride.
    """
    height, width = image_hw
    if size_hw is not None:
        scale = min(size_hw.height / height, size_hw.width / width)
    else:
        short, native = min(height, width), min(preprocess.size_hw)
        smallest = min(SMALLEST_SHARE * native, LARGEST_ENLARGEMENT * short)
        target = min(max(short, math.ceil(smallest)), native)
        scale = min(target / short, LONGEST_SIDES * native / max(height, width))
    content = ImageSize(max(1, round(height * scale)), max(1, round(width * scale)))
    canvas = ImageSize(*(_round_up(side, preprocess.stride) for side in content))
    return Placement(ImageSize(height, width), content, canvas)


def fit(
    image_rgb_u8: ImageU8,
    placement: Placement,
    *,
    interpolation: str = "cubic",
    antialias: bool = True,
) -> ImageU8:
    """Resize an image and repeat its edge up to the canvas.

    Args:
        image_rgb_u8: (H, W, 3).
        placement: from `place`.
        interpolation: "cubic" or "linear" for enlarging and mild shrinking.
        antialias: average the area below half size, where the interpolation would alias.

    Returns:
        (canvas height, canvas width, 3).
    """
    content, canvas = placement.content_hw, placement.canvas_hw
    if placement.image_hw != content:
        method = cv2.INTER_CUBIC if interpolation == "cubic" else cv2.INTER_LINEAR
        if antialias and content.height * 2 < placement.image_hw.height:
            method = cv2.INTER_AREA
        resized = cv2.resize(image_rgb_u8, (content.width, content.height), interpolation=method)
        image_rgb_u8 = np.asarray(resized, dtype=np.uint8)
    below, right = canvas.height - content.height, canvas.width - content.width
    if below or right:
        padded = cv2.copyMakeBorder(image_rgb_u8, 0, below, 0, right, cv2.BORDER_REPLICATE)
        image_rgb_u8 = np.asarray(padded, dtype=np.uint8)
    return image_rgb_u8


def resize_short_and_crop(image_rgb_u8: ImageU8, preprocess: Preprocess) -> ImageU8:
    """The classification protocol: short side to size / crop_ratio, then the centre square.

    Args:
        image_rgb_u8: (H, W, 3).
        preprocess: its `size_hw` is the crop.

    Returns:
        (size, size, 3). Shrinking is antialiased, as in the published (PIL) evaluation.
    """
    from evit_cli.inference.resample import resize_antialiased

    size = preprocess.size_hw.height
    height, width = image_rgb_u8.shape[:2]
    scale = math.ceil(size / preprocess.crop_ratio) / min(height, width)
    resized = resize_antialiased(
        image_rgb_u8, (max(size, int(height * scale)), max(size, int(width * scale)))
    )
    top, left = (round((side - size) / 2) for side in resized.shape[:2])
    return resized[top : top + size, left : left + size]
