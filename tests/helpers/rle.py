"""Writes COCO's run lengths."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def encode_counts(counts: Sequence[int]) -> str:
    """The compressed string of run lengths; `decode_counts` gives them back."""
    characters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        while True:
            group = value & 0x1F
            value >>= 5
            last = value == (-1 if group & 0x10 else 0)
            characters.append(chr(48 + group + (0 if last else 0x20)))
            if last:
                break
    return "".join(characters)


def counts_of_mask(mask: npt.NDArray[np.bool_]) -> list[int]:
    """The run lengths of an (H, W) mask; `mask_of_counts` gives it back."""
    flat = np.asarray(mask, np.bool_).T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = [0, *edges.tolist(), flat.size]
    first = [0] if flat.size and flat[0] else []
    return first + [b - a for a, b in itertools.pairwise(bounds)]
