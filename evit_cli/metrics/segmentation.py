"""Mean intersection over union, accumulated over a data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class Confusion:
    """Counts of (true class, predicted class) over all pixels seen so far.

    Args:
        num_classes: labels outside 0 .. num_classes - 1 are ignored.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, truth: npt.NDArray[np.integer[Any]], found: npt.NDArray[Any]) -> None:
        """Add the pixels of one image.

        Args:
            truth: label per pixel, any shape, any integer dtype.
            found: predicted class per pixel, same shape, in 0 .. num_classes - 1.

        Raises:
            ValueError: the shapes differ, or a prediction is out of range.
        """
        n = len(self.counts)
        if truth.shape != found.shape:
            raise ValueError(f"labels are {truth.shape}, predictions {found.shape}")
        valid = (truth >= 0) & (truth < n)
        pairs = truth[valid].astype(np.int64) * n + found[valid]
        if found[valid].size and not 0 <= found[valid].min() <= found[valid].max() < n:
            raise ValueError(f"predictions must be in 0..{n - 1}, got {found[valid].max()}")
        self.counts += np.bincount(pairs, minlength=n * n).reshape(n, n)

    @property
    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union per class; NaN for classes that occur in neither map."""
        hit = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(axis=0) + self.counts.sum(axis=1) - hit
        iou = np.full(len(hit), np.nan)
        np.divide(hit, union, out=iou, where=union > 0)
        return iou

    @property
    def mean_iou(self) -> float:
        """Mean over the classes that occur, in [0, 1]; NaN before the first pixel."""
        iou = self.iou
        return float(np.nanmean(iou)) if np.isfinite(iou).any() else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of the labelled pixels that have their class, in [0, 1]."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts) / total) if total else float("nan")
