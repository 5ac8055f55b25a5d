"""Full-size logits of a mask, computed only where they can matter.

SAM's masks are 256x256 logits over the padded 1024 frame. Published, each is enlarged over the
whole frame, cut to the part that shows the image, and resized to the image. Most masks are small:
everywhere else the logits lie far below the threshold. Interpolation never leaves the range of its
neighbours, so the samples above a floor bound the pixels that can be above it, and only the window
around them is enlarged.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.inference.sam_frame import FRAME_SIDE, LOW_SIDE, frame_hw

Logits = npt.NDArray[np.float32]
ENLARGED = FRAME_SIDE // LOW_SIDE
"""Pixels of the 1024 frame per sample of a mask, in each direction."""
_ROUNDING = 1e-4
"""Relative slack for the float32 rounding of interpolation."""


class Window(NamedTuple):
    """A part of a mask's full-size logits.

    Attributes:
        logits: (h, w) float32; what lies outside of the window is below the floor it was made for.
        left: column of the image where it starts.
        top: row of the image where it starts.
    """

    logits: Logits
    left: int
    top: int


class _Span(NamedTuple):
    """Along one side: samples to read, pixels of the frame to take, pixels of the image."""

    samples: slice
    frame: slice
    first: int
    length: int


class _Side:
    """One side of the frame and of the image.

    A window of the frame may be resized alone where its ends fall on whole pixels of the image:
    then its pixels interpolate between the same neighbours, with the same weights, as in the whole
    frame. That is at every `period`; where the two lengths have no common divisor only the whole
    side will do.
    """

    def __init__(self, frame: int, image: int) -> None:
        self.frame, self.image = frame, image
        self.period = frame // math.gcd(frame, image)

    def span(self, first: int, last: int, samples: int) -> _Span | None:
        """What to compute so that all pixels are there which samples first..last take part in."""
        # One sample reaches to the centres of its neighbours; beyond that one pixel of the frame
        # is added, so that the window's own border repeats a pixel that is below the floor.
        low = max(0, (first - 1) * ENLARGED)
        high = min(self.frame, (last + 2) * ENLARGED)
        if low >= high:
            return None  # in the padding
        low = low // self.period * self.period
        high = min(self.frame, -(-high // self.period) * self.period)
        start = max(0, low // ENLARGED - 1)
        end = min(samples, -(-high // ENLARGED) + 1)
        shift = start * ENLARGED
        return _Span(
            slice(start, end),
            slice(low - shift, high - shift),
            low * self.image // self.frame,
            (high - low) * self.image // self.frame,
        )


class Enlarger:
    """Makes windows of the masks of one image."""

    def __init__(self, image_hw: tuple[int, int]) -> None:
        frame = frame_hw(image_hw)
        self._rows, self._columns = map(_Side, frame, image_hw)

    def window(self, low_res: Logits, floor: float) -> Window:
        """The part of a mask's logits that may be above `floor`; one pixel of -inf if none may.

        Args:
            low_res: (256, 256) float32 logits over the 1024 frame.
            floor: a logit; all values above it are in the window.

        Returns:
            The values that `sam_frame.full_size` gives there, but for its outermost pixels inside
            the image, which are below the floor in both. Where the image's sides are those of the
            frame, or that times a power of two, they are the same bits; else the positions that
            are interpolated at are rounded elsewhere, by at most 1e-4 of a pixel.
        """
        hot = low_res > floor - _ROUNDING * (1 + abs(floor))
        in_rows = np.flatnonzero(hot.any(axis=1))
        if not in_rows.size:
            return _nothing()
        in_columns = np.flatnonzero(hot[in_rows[0] : in_rows[-1] + 1].any(axis=0))
        samples_h, samples_w = low_res.shape
        rows = self._rows.span(int(in_rows[0]), int(in_rows[-1]), samples_h)
        columns = self._columns.span(int(in_columns[0]), int(in_columns[-1]), samples_w)
        if rows is None or columns is None:
            return _nothing()
        part = low_res[rows.samples, columns.samples]
        size_wh = (part.shape[1] * ENLARGED, part.shape[0] * ENLARGED)
        logits = cv2.resize(part, size_wh, interpolation=cv2.INTER_LINEAR)
        logits = logits[rows.frame, columns.frame]
        if logits.shape != (rows.length, columns.length):
            size_wh = (columns.length, rows.length)
            logits = cv2.resize(logits, size_wh, interpolation=cv2.INTER_LINEAR)
        return Window(np.asarray(logits, np.float32), columns.first, rows.first)


def _nothing() -> Window:
    return Window(np.full((1, 1), -np.inf, np.float32), 0, 0)


def stability(logits: Logits, threshold: float, offset: float) -> float:
    """IoU of the mask cut at threshold + offset and at threshold - offset.

    The first lies inside the second, so it is the ratio of their areas; NaN where both are empty.
    In float32, as published.
    """
    shared = np.float32(np.count_nonzero(logits > threshold + offset))
    joined = np.float32(np.count_nonzero(logits > threshold - offset))
    with np.errstate(invalid="ignore"):
        return float(shared / joined)
