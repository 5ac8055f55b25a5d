"""Bicubic resizing as super-resolution papers do it: antialiased when an image shrinks.

The benchmarks' low-resolution images were made with MATLAB's `imresize`. Its kernel is Keys' cubic
with a = -0.5 ("Cubic convolution interpolation", 1981, Eq. 15), widened by the factor when an image
shrinks, with weights that sum to 1. The height is resized first and rounded to eight bits, then the
width. With the edge repeated beyond the image this gives Set5's and Set14's files to the last bit;
mirrored edges, one rounding or the width first do not. OpenCV and PyTorch take a = -0.75.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

ImageU8 = npt.NDArray[np.uint8]

_REACH = 2
"""Of the cubic kernel, in samples."""


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < _REACH, far, 0.0))


Taps = tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]


@lru_cache(maxsize=64)
def bicubic_taps(samples: int, factor: Fraction) -> Taps:
    """What each sample of a resized axis is a sum of: indices and weights, both (new, taps).

    There are ceil(samples * factor) new ones; the weights of each sum to 1.
    """
    scale = float(factor)
    widen = max(1 / scale, 1.0)
    length = -int(-samples * factor // 1)
    centres = (np.arange(length) + 0.5) / scale - 0.5
    first = np.floor(centres - _REACH * widen)
    places = first[:, None] + np.arange(int(np.ceil(2 * _REACH * widen)) + 2)
    weights = _cubic((centres[:, None] - places) / widen)
    weights /= weights.sum(axis=1, keepdims=True)
    used = (weights != 0).any(axis=0)
    indices = np.clip(places.astype(np.int64), 0, samples - 1)  # the edge repeats
    return indices[:, used], weights[:, used].astype(np.float32)


def _resized(values: npt.NDArray[np.float32], factor: Fraction) -> npt.NDArray[np.float32]:
    """The first axis resized, rounded half up and kept in 0..255.

    Sums, no matrix product: BLAS would start threads for it, in every loader process.
    """
    indices, weights = bicubic_taps(len(values), factor)
    shape = (-1,) + (1,) * (values.ndim - 1)
    total = np.zeros((len(indices), *values.shape[1:]), np.float32)
    for tap in range(indices.shape[1]):
        total += weights[:, tap].reshape(shape) * values[indices[:, tap]]
    return np.asarray(np.clip(np.floor(total + 0.5), 0, 255), np.float32)


def resize_bicubic_u8(image: ImageU8, factor: Fraction | int) -> ImageU8:
    """Resize (H, W, C) or (H, W) uint8 by a factor; the sides are rounded up.

    >>> resize_bicubic_u8(np.zeros((9, 6, 3), np.uint8), Fraction(1, 2)).shape
    (5, 3, 3)
    """
    factor = Fraction(factor)
    rows = _resized(image.astype(np.float32), factor)
    columns = _resized(np.ascontiguousarray(rows.swapaxes(0, 1)), factor)
    return np.ascontiguousarray(columns.swapaxes(0, 1)).astype(np.uint8)
