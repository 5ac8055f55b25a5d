"""Small holes and islands of a mask."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.bool_]


def fill_holes(
    mask: Mask, min_px: int, *, goes_on: tuple[bool, bool, bool, bool] = (False,) * 4
) -> Mask:
    """The mask with each region outside of it set that has fewer than `min_px` pixels.

    Regions hang together over sides and corners (8 neighbours). The image's border closes them.

    Args:
        mask: (H, W) bool: the image, or a window of it that holds the whole mask.
        min_px: pixels; smaller regions are filled.
        goes_on: left, above, right, below: whether the image goes on there, by at least `min_px`
            pixels. Then the pixels on that side of the window must not be set.

    Returns:
        A new mask, or `mask` itself where no region was small.
    """
    labels, sizes = _regions(~mask)
    # A corner of the window lies on either side, in the region that goes on there.
    corners = (labels[0, 0], labels[0, 0], labels[-1, -1], labels[-1, -1])
    for label, more in zip(corners, goes_on, strict=True):
        sizes[label] += more * min_px
    small = sizes < min_px
    small[0] = False  # the mask itself
    return mask | small[labels] if small.any() else mask


def drop_islands(mask: Mask, min_px: int) -> Mask:
    """The mask without its regions of fewer than `min_px` pixels; the largest one always stays.

    Args:
        mask: (H, W) bool, of which a window that holds the whole mask is enough.
        min_px: pixels; smaller regions go.

    Returns:
        A new mask, or `mask` itself where no region was small. A mask whose only region is
        small is new too, with the same pixels: so it counts as published.
    """
    labels, sizes = _regions(mask)
    keep = sizes >= min_px
    keep[0] = False
    if len(sizes) == 1 or keep[1:].all():
        return mask
    if not keep.any():
        keep[1 + int(np.argmax(sizes[1:]))] = True
    return np.asarray(keep[labels])


def _regions(mask: Mask) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """(H, W) labels of the connected regions, 0 where the mask is not set; their sizes by label."""
    count, labels = cv2.connectedComponents(
        np.ascontiguousarray(mask).view(np.uint8), connectivity=8
    )
    # OpenCV's own statistics take several times as long as this.
    sizes = np.bincount(np.ravel(labels), minlength=count)
    return np.asarray(labels, np.int32), sizes
