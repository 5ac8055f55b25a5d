"""A picture of what a model makes of a few images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.media.drawing import Palette, blend
from evit_cli.types import ClassSet

_WIDTH = 480
_ALPHA = 0.6

Row = tuple[npt.NDArray[np.uint8], npt.NDArray[np.signedinteger[Any]], npt.NDArray[Any]]


def prediction_grid(rows: Sequence[Row], classes: ClassSet) -> npt.NDArray[np.uint8] | None:
    """One row per example: the image, the labels over it, the prediction over it.

    Args:
        rows: (H, W, 3) RGB, (H, W) labels with negative values for void, (H, W) prediction.
        classes: names and colours.

    Returns:
        (height, width, 3) RGB; None without rows.
    """
    if not rows:
        return None
    palette = Palette(classes)
    return np.concatenate([_row(palette, *row) for row in rows])


def _row(
    palette: Palette,
    image: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.signedinteger[Any]],
    found: npt.NDArray[Any],
) -> npt.NDArray[np.uint8]:
    kind = np.uint8 if len(palette.table) <= 256 else np.uint16
    truth = palette.colorize(np.maximum(labels, 0).astype(kind))
    truth[labels < 0] = 0
    shown = [image, blend(image, truth, _ALPHA), blend(image, palette.colorize(found), _ALPHA)]
    height = max(1, round(_WIDTH * image.shape[0] / image.shape[1]))
    small = [cv2.resize(p, (_WIDTH, height), interpolation=cv2.INTER_AREA) for p in shown]
    return np.concatenate(small, axis=1).astype(np.uint8, copy=False)


_CUT = 192
"""Side of what is shown of a result that is compared with its original."""

Comparison = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


def comparison_rows(rows: Sequence[Comparison]) -> npt.NDArray[np.uint8] | None:
    """The middle of a small image (every pixel repeated), of its enlargement and of the original.

    Args:
        rows: (h, w, 3) small, (H, W, 3) enlarged, (H, W, 3) original, all RGB.

    Returns:
        (height, width, 3) RGB; None without rows.
    """
    if not rows:
        return None
    drawn = []
    for small, enlarged, original in rows:
        size = original.shape[1::-1]
        coarse = cv2.resize(small, size, interpolation=cv2.INTER_NEAREST)
        drawn.append(np.concatenate([_middle(p) for p in (coarse, enlarged, original)], axis=1))
    return np.concatenate(drawn).astype(np.uint8, copy=False)


def _middle(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(_CUT, _CUT, 3) of the middle; white where the image is smaller."""
    canvas = np.full((_CUT, _CUT, 3), 255, np.uint8)
    top, left = (max(0, (side - _CUT) // 2) for side in image.shape[:2])
    cut = image[top : top + _CUT, left : left + _CUT]
    canvas[: cut.shape[0], : cut.shape[1]] = cut
    return canvas


_TILE, _COLUMNS = 160, 4
_RIGHT, _WRONG = (40, 160, 60), (200, 50, 40)

Tile = tuple[npt.NDArray[np.uint8], str, bool]


def prediction_tiles(tiles: Sequence[Tile]) -> npt.NDArray[np.uint8] | None:
    """Small images with their predicted class below, green where it is right and red where not.

    Args:
        tiles: (H, W, 3) RGB, the predicted name, whether it is right.

    Returns:
        (height, width, 3) RGB; None without tiles.
    """
    if not tiles:
        return None
    drawn = [_tile(*tile) for tile in tiles]
    drawn += [np.full_like(drawn[0], 255)] * (-len(drawn) % _COLUMNS)
    rows = [np.concatenate(drawn[i : i + _COLUMNS], 1) for i in range(0, len(drawn), _COLUMNS)]
    return np.concatenate(rows)


def _tile(image: npt.NDArray[np.uint8], name: str, right: bool) -> npt.NDArray[np.uint8]:
    side = min(image.shape[:2])
    top, left = ((length - side) // 2 for length in image.shape[:2])
    square = image[top : top + side, left : left + side]
    small = cv2.resize(square, (_TILE, _TILE), interpolation=cv2.INTER_AREA)
    below = np.full((24, _TILE, 3), _RIGHT if right else _WRONG, np.uint8)
    text = name.encode("ascii", "replace").decode()[:22]
    cv2.putText(below, text, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255, 255, 255), 1)
    return np.concatenate([small, below]).astype(np.uint8, copy=False)
