"""Boxes of masks: duplicates, and masks that a crop has cut off."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

EDGE_PX = 20.0
"""A box is at an edge up to this distance."""

Boxes = npt.NDArray[np.float32]
"""(N, 4) x0, y0, x1, y1; of a mask, the indices of its outermost pixels, as SAM has it."""


def suppress(boxes: Boxes, scores: npt.NDArray[np.float32], max_iou: float) -> list[int]:
    """Greedy non-maximum suppression: the indices to keep, best score first.

    Equal scores keep their order. A box goes if its IoU with a kept one is larger than `max_iou`.
    The arithmetic is float32 and the comparison float64, as in torchvision's `nms` on a CPU. Two
    boxes without area have no IoU, so neither suppresses the other.
    """
    rest = np.argsort(-scores, kind="stable")
    sides = np.ascontiguousarray(boxes[rest].T, np.float32)
    area = (sides[2] - sides[0]) * (sides[3] - sides[1])
    kept: list[int] = []
    while rest.size:
        kept.append(int(rest[0]))
        # (2, rest): how far each overlaps with the first along x and y.
        overlap = np.minimum(sides[2:, 1:], sides[2:, :1])
        overlap = np.maximum(overlap - np.maximum(sides[:2, 1:], sides[:2, :1]), np.float32(0))
        shared = overlap[0] * overlap[1]
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = shared / (area[0] + area[1:] - shared)
        left = np.flatnonzero(~(iou.astype(np.float64) > max_iou)) + 1
        rest, sides, area = rest[left], sides[:, left], area[left]
    return kept


def cut_off(box_xyxy: npt.ArrayLike, crop_xyxy: npt.ArrayLike, image_hw: tuple[int, int]) -> bool:
    """Whether a box touches an edge of its crop that is not an edge of the image.

    Touching is being nearer than or at `EDGE_PX`. Boxes and crop are in pixels of the image.
    """
    box = np.asarray(box_xyxy, np.float32)
    image = np.array((0, 0, image_hw[1], image_hw[0]), np.float32)
    at_crop = np.abs(box - np.asarray(crop_xyxy, np.float32)) <= EDGE_PX
    at_image = np.abs(box - image) <= EDGE_PX
    return bool((at_crop & ~at_image).any())
