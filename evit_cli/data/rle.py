"""Run lengths of masks as COCO writes them.

The format is described in https://github.com/cocodataset/cocoapi (common/maskApi.h): a mask is read
column by column, and `counts` are the lengths of its runs in turn, the first one of zeros (it may
have length 0). Uncompressed, `counts` is a list of numbers. Compressed, it is a string: from the
fourth number on, the difference to the number two places before is written; every number is cut
into groups of 5 bits, the lowest first, in two's complement; a group becomes the character with
code 48 + group + 32 if another group follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

_FIRST_CHARACTER = 48
_BITS = 5
_MORE, _SIGN, _VALUE = 0x20, 0x10, 0x1F

Counts: TypeAlias = npt.NDArray[np.int64]
"""(runs,) lengths of the runs of a mask, read column by column; the first is of zeros."""


def decode_counts(text: str) -> list[int]:
    """The run lengths in a compressed string.

    Raises:
        ValueError: a character is not of the format, or the last number is cut short.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - _FIRST_CHARACTER
        if not 0 <= group < 64:
            raise ValueError(f"'{character}' is not a character of compressed run lengths")
        value |= (group & _VALUE) << shift
        shift += _BITS
        if group & _MORE:
            continue
        if group & _SIGN:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("the compressed run lengths end in the middle of a number")
    return counts


def mask_of_counts(
    counts: Counts | Sequence[int], size_hw: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The (H, W) mask with these run lengths.

    Raises:
        ValueError: a length is negative, or they do not add up to the number of pixels.
    """
    height, width = size_hw
    runs = np.asarray(counts, np.int64)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ValueError(f"the run lengths do not add up to {height}x{width} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.asarray(np.repeat(values, runs).reshape(width, height).T)


def read_rle(segmentation: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """The (H, W) mask of {"size": [H, W], "counts": list or string}.

    Raises:
        ValueError: it is not such an object, or the lengths are wrong.
    """
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, list | str):
        raise ValueError("run lengths need a size [height, width] and counts")
    numbers = decode_counts(counts) if isinstance(counts, str) else counts
    return mask_of_counts(numbers, (int(size[0]), int(size[1])))


def counts_of_mask(
    mask: npt.NDArray[np.bool_],
    size_hw: tuple[int, int] | None = None,
    *,
    offset_xy: tuple[int, int] = (0, 0),
) -> Counts:
    """The run lengths of a mask; `mask_of_counts` gives it back.

    Args:
        mask: (h, w) bool.
        size_hw: of the image that `mask` is a window of; outside of the window nothing is set.
            By default the mask is the whole image.
        offset_xy: where in the image the window's upper left pixel lies.

    Raises:
        ValueError: the window does not lie inside the image.
    """
    window_h, window_w = mask.shape
    height, width = size_hw or mask.shape
    left, top = offset_xy
    if min(left, top) < 0 or left + window_w > width or top + window_h > height:
        raise ValueError(
            f"a window of {window_h}x{window_w} at {offset_xy} is not inside {height}x{width}"
        )
    # One row per column of the window, between two zeros, so that every run starts and ends in it.
    padded = np.zeros((window_w, window_h + 2), np.uint8)
    if mask.size:
        padded[:, 1:-1] = cv2.transpose(np.ascontiguousarray(mask).view(np.uint8))
    flat = padded.ravel()
    # The changes are a start, an end, a start, ...
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), window_h + 2)
    changes = (column + left) * height + row + top
    # A run that goes on at the top of the next column ends where another starts.
    joined = np.flatnonzero(changes[1:-1:2] == changes[2::2]) * 2 + 1
    changes = np.delete(changes, np.concatenate((joined, joined + 1)))
    counts = np.diff(changes, prepend=0, append=height * width)
    return np.asarray(counts if counts[-1] or len(counts) == 1 else counts[:-1], np.int64)


def encode_counts(counts: Counts | Sequence[int]) -> str:
    """The compressed string of run lengths; `decode_counts` gives them back."""
    values = np.array(counts, np.int64)
    values[3:] -= np.asarray(counts, np.int64)[1:-2]
    groups, written = [], []
    more = np.ones(len(values), np.bool_)
    while more.any():
        group = values & _VALUE
        values = values >> _BITS
        written.append(more)
        # The rest is only the sign, which the group's own highest bit says already.
        more = more & (values != np.where(group & _SIGN, -1, 0))
        groups.append(_FIRST_CHARACTER + group + np.where(more, _MORE, 0))
    if not groups:
        return ""
    characters = np.stack(groups, 1)[np.stack(written, 1)]
    return characters.astype(np.uint8).tobytes().decode("ascii")


def encode_rle(mask: npt.NDArray[np.bool_]) -> dict[str, Any]:
    """{"size": [H, W], "counts": compressed string} of an (H, W) bool mask; `read_rle` reads it."""
    return {"size": list(mask.shape), "counts": encode_counts(counts_of_mask(mask))}
