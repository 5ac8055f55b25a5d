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
from typing import Any

import numpy as np
import numpy.typing as npt

_FIRST_CHARACTER = 48
_BITS = 5
_MORE, _SIGN, _VALUE = 0x20, 0x10, 0x1F


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


def mask_of_counts(counts: Sequence[int], size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
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
