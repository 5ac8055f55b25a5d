"""SAM's frame: where an image, its prompts and its masks lie in the model's square.

Every encoder works on the image resized so that its longest side is the encoder's (512 or 1024),
in the upper left corner of a square. Prompts and masks are always said in a square of 1024, also
for encoders of 512. The published code takes the antialiased bilinear resize of Pillow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.media.frame import ImageU8

FRAME_SIDE = 1024
"""Side of the square that prompts are said in."""
LOW_SIDE = 256
"""Side of the mask decoder's logits, which cover the whole square."""
MASK_THRESHOLD = 0.0
_BITS = 22
"""Of the fraction in Pillow's weights."""

Floats = npt.NDArray[np.float32]


def frame_hw(image_hw: tuple[int, int], side: int = FRAME_SIDE) -> tuple[int, int]:
    """Height and width of an image whose longest side is resized to `side`; at least one pixel.

    >>> frame_hw((480, 640))
    (768, 1024)
    """
    scale = side / max(image_hw)
    return max(1, int(image_hw[0] * scale + 0.5)), max(1, int(image_hw[1] * scale + 0.5))


def to_frame(points_xy: npt.NDArray[Any], image_hw: tuple[int, int]) -> Floats:
    """Points in pixels of the image -> float32 in the square of 1024; any shape (..., 2)."""
    height, width = frame_hw(image_hw)
    ratio = np.array([width / image_hw[1], height / image_hw[0]], np.float64)
    return np.asarray(np.asarray(points_xy, np.float64) * ratio, np.float32)


@lru_cache(maxsize=8)
def _taps(length_in: int, length_out: int) -> list[tuple[int, npt.NDArray[np.int32]]]:
    """What each sample of a resized axis is a sum of: the first index, and weights of 22 bits.

    A triangle, as wide as the axis shrinks; the weights are Pillow's to the bit.
    """
    scale = length_in / length_out
    widen = max(scale, 1.0)
    taps = []
    for index in range(length_out):
        centre = (index + 0.5) * scale
        first = max(int(centre - widen + 0.5), 0)
        end = min(int(centre + widen + 0.5), length_in)
        distance = np.abs((np.arange(first, end) - centre + 0.5) * (1 / widen))
        weights = np.maximum(1 - distance, 0.0)
        weights *= 1 / weights.cumsum()[-1]  # summed one by one, as there
        taps.append((first, np.floor(weights * (1 << _BITS) + 0.5).astype(np.int32)))
    return taps


def _first_axis(values: ImageU8, length_out: int) -> ImageU8:
    """(n, k) uint8 -> (length_out, k).

    Sums, no matrix product: BLAS would start threads for it beside the model's.
    """
    out = np.empty((length_out, values.shape[1]), np.uint8)
    for row, (first, weights) in zip(out, _taps(len(values), length_out), strict=True):
        some = values[first : first + len(weights)].astype(np.int32)
        mixed = np.einsum("n,nk->k", weights, some)  # below 2^31: the weights sum to 2^22
        row[:] = np.clip((mixed + (1 << (_BITS - 1))) >> _BITS, 0, 255)
    return out


def resize_bilinear(image_rgb_u8: ImageU8, size_hw: tuple[int, int]) -> ImageU8:
    """Antialiased bilinear resize of (H, W, 3): Pillow's, to the bit.

    The sides are one after the other, so the cost grows with the image and not with its square.
    """
    height, width = image_rgb_u8.shape[:2]
    if (height, width) == tuple(size_hw):
        return image_rgb_u8
    columns: ImageU8 = np.ascontiguousarray(image_rgb_u8)
    if width != size_hw[1]:
        turned = np.asarray(cv2.transpose(columns), np.uint8).reshape(width, -1)
        turned = _first_axis(turned, size_hw[1])
        columns = np.asarray(cv2.transpose(turned.reshape(size_hw[1], height, 3)), np.uint8)
    if height != size_hw[0]:
        flat = columns.reshape(height, -1)
        flat = _first_axis(flat, size_hw[0])
        columns = flat.reshape(*size_hw, 3)
    return columns


def encoder_input(image_rgb_u8: ImageU8, side: int, mean_rgb: tuple[float, float, float]) -> Floats:
    """An image as the encoder's input.

    Args:
        image_rgb_u8: (H, W, 3).
        side: of the encoder's square, 512 or 1024.
        mean_rgb: the model's mean of RGB in 0..1, which fills the square on the right and below:
            it is zero after normalisation.

    Returns:
        (1, side, side, 3) float32 RGB in 0..255.

    Raises:
        ValueError: it is not such an image.
    """
    check_image(image_rgb_u8)
    image = resize_bilinear(image_rgb_u8, frame_hw(image_rgb_u8.shape[:2], side))
    square = np.empty((1, side, side, 3), np.float32)
    square[:] = np.asarray(mean_rgb, np.float32) * np.float32(255)
    square[0, : image.shape[0], : image.shape[1]] = image
    return square


def check_image(image_rgb_u8: npt.NDArray[Any]) -> None:
    """Make sure of a picture.

    Raises:
        ValueError: it is not (H, W, 3) uint8.
    """
    if image_rgb_u8.ndim != 3 or image_rgb_u8.shape[2] != 3 or image_rgb_u8.size == 0:
        raise ValueError(f"an image must be (H, W, 3), got shape {image_rgb_u8.shape}")
    if image_rgb_u8.dtype != np.uint8:
        raise ValueError(f"an image must be uint8, got {image_rgb_u8.dtype}")


def full_size(low_res: npt.NDArray[Any], image_hw: tuple[int, int]) -> Floats:
    """Logits (K, 256, 256) over the square -> (K, H, W) float32 over the image.

    Bilinear to 1024, cut to the image's part of the square, bilinear to the image. OpenCV's
    bilinear is PyTorch's with `align_corners=False`.
    """
    height, width = frame_hw(image_hw)
    out = np.empty((len(low_res), *image_hw), np.float32)
    for mask, place in zip(low_res, out, strict=True):
        square = cv2.resize(
            np.asarray(mask, np.float32), (FRAME_SIDE, FRAME_SIDE), interpolation=cv2.INTER_LINEAR
        )
        cut = np.ascontiguousarray(square[:height, :width])
        place[:] = cv2.resize(cut, image_hw[::-1], interpolation=cv2.INTER_LINEAR)
    return out
