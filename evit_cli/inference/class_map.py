"""From logits at stride 8 to a full-size class map: bicubic upsampling and argmax, but cheap.

The published protocol resizes the logits bicubically to the image and takes the argmax. Done
literally that is C float planes at full size: 0.35 s for one 1024x2048 Cityscapes frame on two
cores, about as long as the network. But inside a region every interpolated value is known to favour
the region's class, so only the cells near a border need arithmetic, and there only for the few
classes that can still win. The result is the literal one (up to rounding of exact ties).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
ClassMap = npt.NDArray[np.unsignedinteger[Any]]

_A = -0.75
"""The cubic kernel's parameter in OpenCV and PyTorch."""

_NEGATIVE = 2 * 1.1875 * 0.1875
"""Largest total of the negative weights among the 16 of a bicubic kernel with a = -0.75; the
positive ones then sum to 1 + this. Reached half-way between pixels, where the four weights of one
axis are -0.09375, 0.59375, 0.59375, -0.09375."""


_CELLS_AT_ONCE = 4096
"""Bounds the memory when nearly every cell is near a border, as with an untrained model."""


@dataclass(frozen=True)
class _Axis:
    """Where the output pixels of one axis fall among the input samples.

    A cell is the interval between two input samples; cell i lies right of sample i - 1. `start` and
    `count` give the run of output pixels in each cell, `weights` (cells, run, 4) their taps.
    """

    start: IntArray
    count: IntArray
    weights: FloatArray

    @property
    def run(self) -> int:
        return int(self.weights.shape[1])

    def pixels(self, cells: IntArray) -> IntArray:
        """Output indices of each cell's run, (len(cells), run); short runs repeat their last."""
        steps = np.minimum(np.arange(self.run), self.count[cells][:, None] - 1)
        return self.start[cells][:, None] + steps


def _cubic_weights(t: FloatArray) -> FloatArray:
    """Weights of the four taps at offsets -1, 0, 1, 2 for a fraction `t` in [0, 1): (..., 4)."""
    near, far = np.stack([t, 1 - t]), np.stack([t + 1, 2 - t])
    inner = ((_A + 2) * near - (_A + 3)) * near * near + 1
    outer = ((_A * far - 5 * _A) * far + 8 * _A) * far - 4 * _A
    return np.stack([outer[0], inner[0], inner[1], outer[1]], axis=-1).astype(np.float32)


@lru_cache(maxsize=16)
def _axis(samples: int, pixels: int, step: float) -> _Axis:
    position = (np.arange(pixels) + 0.5) * step - 0.5
    position = np.clip(position, -0.999999, samples - 1e-6)  # past the edge the samples repeat
    base = np.floor(position).astype(np.int64)
    cell = base + 1
    count = np.bincount(cell, minlength=samples + 1)
    start = np.cumsum(count) - count
    run = int(count.max())
    index = np.minimum(start[:, None] + np.arange(run), (start + np.maximum(count, 1) - 1)[:, None])
    fraction = (position - base).astype(np.float32)[np.minimum(index, pixels - 1)]
    return _Axis(start, count, _cubic_weights(fraction))


def _windows(padded: FloatArray, reduce: Any) -> FloatArray:
    """Reduce every 4x4 window of (C, h + 4, w + 4) -> (C, h + 1, w + 1)."""
    rows = reduce(padded[:, :-1], padded[:, 1:])
    rows = reduce(rows[:, :-2], rows[:, 2:])
    columns = reduce(rows[:, :, :-1], rows[:, :, 1:])
    return reduce(columns[:, :, :-2], columns[:, :, 2:])  # type: ignore[no-any-return]


def class_map(
    logits: npt.NDArray[Any],
    out_hw: tuple[int, int],
    *,
    step_yx: tuple[float, float] | None = None,
) -> ClassMap:
    """Argmax over the classes of the bicubically resized logits.

    Args:
        logits: (C, h, w), any float dtype.
        out_hw: height and width of the result in pixels.
        step_yx: input samples per output pixel; default `(h / H, w / W)`. Other steps serve inputs
            that were padded: the result then covers the part that is image.

    Returns:
        (H, W) uint8, or uint16 above 256 classes.

    Raises:
        ValueError: `logits` is not three-dimensional.
    """
    if logits.ndim != 3:
        raise ValueError(f"logits must be (C, h, w), got shape {logits.shape}")
    classes, h, w = logits.shape
    dtype = np.uint8 if classes <= 256 else np.uint16
    step_y, step_x = step_yx or (h / out_hw[0], w / out_hw[1])
    y_axis, x_axis = _axis(h, out_hw[0], step_y), _axis(w, out_hw[1], step_x)
    padded = np.pad(logits.astype(np.float32, copy=False), ((0, 0), (2, 2), (2, 2)), mode="edge")
    low, high = _windows(padded, np.minimum), _windows(padded, np.maximum)
    reach = _NEGATIVE * (high - low)
    low, high = low - reach, high + reach  # bounds of the interpolated values in each cell
    winner = low.argmax(axis=0)
    rivals = high >= low.max(axis=0)  # (C, h + 1, w + 1); the winner itself is always among them
    open_cells = np.count_nonzero(rivals, axis=0) > 1
    open_cells &= (y_axis.count > 0)[:, None] & (x_axis.count > 0)
    out = np.repeat(np.repeat(winner.astype(dtype), x_axis.count, axis=1), y_axis.count, axis=0)
    cells_yx = np.nonzero(open_cells)
    for part in range(0, len(cells_yx[0]), _CELLS_AT_ONCE):
        y, x = (cells[part : part + _CELLS_AT_ONCE] for cells in cells_yx)
        border = _near_borders(padded, winner[y, x], rivals[:, y, x], (y, x), y_axis, x_axis, dtype)
        if border is not None:
            rows, columns, labels = border
            out[rows[:, :, None], columns[:, None, :]] = labels
    return out


def _near_borders(
    padded: FloatArray,
    winner: IntArray,
    rivals: npt.NDArray[np.bool_],
    cells_yx: tuple[IntArray, IntArray],
    y_axis: _Axis,
    x_axis: _Axis,
    dtype: type[np.unsignedinteger[Any]],
) -> tuple[IntArray, IntArray, ClassMap] | None:
    """Interpolate the cells that a rival of the winner may take.

    Args:
        padded: the logits with repeated edges, (C, h + 4, w + 4).
        winner: the leading class of each of the K cells.
        rivals: classes that may take a cell, (C, K).
        cells_yx: where the cells are.
        y_axis: sampling of the rows.
        x_axis: sampling of the columns.
        dtype: of the labels.

    Returns:
        Output rows (k, run_y), columns (k, run_x) and labels (k, run_y, run_x) of k of the cells,
        or None if the winners keep all of them.
    """
    cell, rival = np.nonzero(rivals.T)  # pairs, ordered by cell
    apart = rival != winner[cell]
    cell, rival = cell[apart], rival[apart]
    _, height, width = padded.shape
    corner = cells_yx[0] * width + cells_yx[1]
    taps = (np.arange(4)[:, None] * width + np.arange(4)).ravel()
    own = padded.ravel().take((winner * height * width + corner)[:, None] + taps)  # (K, 16)
    lead = padded.ravel().take((rival * height * width + corner[cell])[:, None] + taps)
    lead -= own[cell]  # (pairs, 16): how far the rival is ahead of the winner at the taps
    most, least = lead.max(axis=1), lead.min(axis=1)
    keep = most + _NEGATIVE * (most - least) >= 0  # a tighter bound than each class alone
    cell, rival, lead = cell[keep], rival[keep], lead[keep].reshape(-1, 4, 4)
    if not len(cell):
        return None
    y, x = cells_yx[0][cell], cells_yx[1][cell]
    lead = y_axis.weights[y] @ lead @ x_axis.weights[x].transpose(0, 2, 1)  # (pairs, runs)
    first = np.nonzero(np.diff(cell, prepend=-1))[0]  # each cell's first pair
    rank = np.arange(len(cell)) - np.repeat(first, np.diff(first, append=len(cell)))
    position = np.cumsum(rank == 0) - 1  # of a pair's cell among those that remain
    best = np.zeros((len(first), *lead.shape[1:]), np.float32)  # the winner's own lead is zero
    labels = np.empty(best.shape, dtype)
    labels[:] = winner[cell[first], None, None]
    for turn in range(rank.max() + 1):  # the strongest rivals of all cells at once
        pairs = np.nonzero(rank == turn)[0]
        at = position[pairs] if turn else slice(None)
        ahead = lead[pairs] > best[at]
        labels[at] = np.where(ahead, rival[pairs].astype(dtype)[:, None, None], labels[at])
        best[at] = np.maximum(best[at], lead[pairs])
    return y_axis.pixels(y[first]), x_axis.pixels(x[first]), labels
