"""Masks on their way through everything mode: kept as run lengths, sifted stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.rle import Counts, counts_of_mask, mask_of_counts
from evit_cli.inference.everything.boxes import suppress
from evit_cli.inference.everything.grid import Crop
from evit_cli.inference.everything.regions import drop_islands, fill_holes

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Candidate:
    """One mask that may stay.

    Attributes:
        counts: its run lengths over the image.
        box_xyxy: its outermost pixels, (0, 0) of its crop where it is empty.
        area: pixels.
        predicted_iou: the model's own rating.
        stability: see `windows.stability`.
        point_xy: the prompt, pixels of the image.
        crop: where it was found.
    """

    counts: Counts
    box_xyxy: tuple[int, int, int, int]
    area: int
    predicted_iou: float
    stability: float
    point_xy: tuple[float, float]
    crop: Crop


def box_of(mask: Mask) -> tuple[int, int, int, int] | None:
    """x0, y0, x1, y1 of a mask's outermost pixels, None where it is empty."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    return (left, top, left + width - 1, top + height - 1) if width else None


def distinct(found: Sequence[Candidate], max_iou: float) -> list[Candidate]:
    """Without those whose box is that of a mask with a higher predicted IoU; best first."""
    return _suppressed(found, [one.predicted_iou for one in found], max_iou)


def distinct_across_crops(found: Sequence[Candidate], max_iou: float) -> list[Candidate]:
    """Without those whose box is that of a mask from a smaller crop; smallest crops first."""
    sizes = [one.crop.size_hw for one in found]
    return _suppressed(found, [np.float32(1) / np.float32(h * w) for h, w in sizes], max_iou)


def cleaned(
    found: Sequence[Candidate], image_hw: tuple[int, int], *, min_px: int, max_iou: float
) -> list[Candidate]:
    """With small holes filled and small islands dropped, and without the duplicates this makes.

    Masks that needed no cleaning come first, and win over those that did.
    """
    after = [_clean(one, image_hw, min_px) for one in found]
    untouched = [float(new is old) for new, old in zip(after, found, strict=True)]
    return _suppressed(after, untouched, max_iou)


def _suppressed(
    found: Sequence[Candidate], scores: Sequence[Any], max_iou: float
) -> list[Candidate]:
    boxes = np.array([one.box_xyxy for one in found], np.float32).reshape(-1, 4)
    return [found[index] for index in suppress(boxes, np.array(scores, np.float32), max_iou)]


def _clean(one: Candidate, image_hw: tuple[int, int], min_px: int) -> Candidate:
    """The same candidate where there was nothing to clean."""
    height, width = image_hw
    x0, y0, x1, y1 = one.box_xyxy
    # One pixel more on each side, so that what lies around the mask is a region of the window.
    top, bottom = _closed(y0 - 1, y1 + 2, height, min_px / width)
    left, right = _closed(x0 - 1, x1 + 2, width, min_px / (bottom - top))
    goes_on = (left > 0, top > 0, right < width, bottom < height)
    mask = _columns(one.counts, height, left, right)[top:bottom]
    new = drop_islands(fill_holes(mask, min_px, goes_on=goes_on), min_px)
    if new is mask:
        return one
    box = box_of(new)
    assert box is not None  # filling adds, and the largest island stays
    return replace(
        one,
        counts=counts_of_mask(new, image_hw, offset_xy=(left, top)),
        box_xyxy=(box[0] + left, box[1] + top, box[2] + left, box[3] + top),
        area=int(np.count_nonzero(new)),
    )


def _closed(first: int, end: int, length: int, least: float) -> tuple[int, int]:
    """A span of a side; with all up to the side's ends where fewer than `least` would be left.

    It starts at an even pixel, as OpenCV walks in blocks of two: then the first of equally large
    islands is the same in the window as in the image.
    """
    first -= first % 2
    return (0 if first < max(least, 1) else first), (length if length - end < least else end)


def _columns(counts: Counts, height: int, first: int, end: int) -> Mask:
    """(height, end - first) bool: some columns of the mask with these run lengths."""
    ends = np.clip(np.cumsum(counts), first * height, end * height)
    return mask_of_counts(np.diff(ends, prepend=first * height), (height, end - first))
