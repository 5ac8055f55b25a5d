"""The clicks that a careful user would make, simulated for evaluation.

A click goes to the inner-most point of what is wrong: the pixel that is farthest from the border
of the region of its kind. The first click is the inner-most point of the object itself. So clicks
are placed in the evaluations of interactive segmentation, and in the published one.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


class Click(NamedTuple):
    """A click at pixel (x, y); positive on what belongs to the object."""

    x: int
    y: int
    positive: bool


def depth(region: Mask) -> npt.NDArray[np.float32]:
    """(H, W) Euclidean distance in pixels to the nearest pixel outside; 0 outside.

    What lies beyond the image is outside too.
    """
    padded = np.pad(region.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance[1:-1, 1:-1], np.float32)


def next_click(truth: Mask, found: Mask, clicked: Mask | None = None) -> Click | None:
    """The next click, given what the model found so far.

    Args:
        truth: (H, W) the object.
        found: (H, W) what the model found, all False before the first click.
        clicked: (H, W) pixels that were clicked before, where no further click goes.

    Returns:
        A positive click where a part of the object is missing, a negative one where something
        else was found; None if nothing is wrong that was not clicked before.

    Raises:
        ValueError: the shapes differ.
    """
    if truth.shape != found.shape:
        raise ValueError(f"the object's mask is {truth.shape}, the one found {found.shape}")
    missing, surplus = depth(truth & ~found), depth(found & ~truth)
    if clicked is not None:
        missing[clicked] = surplus[clicked] = 0
    positive = bool(missing.max() > surplus.max())
    chosen = missing if positive else surplus
    if chosen.max() <= 0:
        return None
    y, x = np.unravel_index(int(chosen.argmax()), chosen.shape)
    return Click(int(x), int(y), positive)


class Clicker:
    """The clicks on one object.

    Args:
        truth: (H, W) its mask.
    """

    def __init__(self, truth: Mask) -> None:
        self.truth = truth
        self.clicks: list[Click] = []
        self._clicked = np.zeros_like(truth)

    def add(self, found: Mask) -> bool:
        """Make the next click on (H, W) `found`; False if there is none to make."""
        click = next_click(self.truth, found, self._clicked)
        if click is None:
            return False
        self.clicks.append(click)
        self._clicked[click.y, click.x] = True
        return True

    @property
    def points_xy(self) -> npt.NDArray[np.float32]:
        """(N, 2) pixels of the image."""
        return np.array([(c.x, c.y) for c in self.clicks], np.float32).reshape(-1, 2)

    @property
    def labels(self) -> npt.NDArray[np.float32]:
        """(N,) 1 for positive, 0 for negative."""
        return np.array([c.positive for c in self.clicks], np.float32)
