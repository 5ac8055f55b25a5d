"""Intersection over union of single masks, averaged over objects and per band of sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]

BANDS = ("small", "medium", "large")
"""Names of COCO's bands of areas; the edges are 32 x 32 and 96 x 96 pixels."""

_EDGES = (32.0**2, 96.0**2)


def mask_iou(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Intersection over union of masks, pair by pair.

    Args:
        found: (..., H, W) bool.
        truth: likewise, of the same shape.

    Returns:
        (...) in [0, 1]; two empty masks agree, 1.

    Raises:
        ValueError: the shapes differ.
    """
    if found.shape != truth.shape:
        raise ValueError(f"the masks found are {found.shape}, the true ones {truth.shape}")
    both = np.count_nonzero(found & truth, axis=(-2, -1))
    either = np.count_nonzero(found | truth, axis=(-2, -1))
    return np.where(either == 0, 1.0, both / np.maximum(either, 1))


def band_of(area: float) -> int:
    """The index in `BANDS` of an object of `area` pixels: an edge belongs to the larger band."""
    return sum(area >= edge for edge in _EDGES)


class BandedIou:
    """Mean intersection over union of objects, overall and per band of their areas.

    Every object counts the same, as in the published evaluation of EfficientViT-SAM (arXiv
    2402.05008). Only sums are kept.
    """

    def __init__(self) -> None:
        self.sums = np.zeros(len(BANDS))
        self.counts = np.zeros(len(BANDS), np.int64)

    def update(self, iou: float, area: float) -> None:
        """Add one object.

        Args:
            iou: of its mask, in [0, 1].
            area: its size in pixels, by which it gets its band.
        """
        band = band_of(area)
        self.sums[band] += iou
        self.counts[band] += 1

    @property
    def mean(self) -> float:
        """Over all objects, in [0, 1]; NaN before the first."""
        count = int(self.counts.sum())
        return float(self.sums.sum() / count) if count else float("nan")

    @property
    def band_means(self) -> dict[str, float]:
        """Per band, in [0, 1]; NaN for bands without objects."""
        return {
            name: float(total / count) if count else float("nan")
            for name, total, count in zip(BANDS, self.sums, self.counts, strict=True)
        }
