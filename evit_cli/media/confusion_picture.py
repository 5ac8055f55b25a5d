"""Draws a confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.media.frame import ImageU8
from evit_cli.media.images import write_image

_CELL, _MARGIN, _FONT, _SCALE = 44, 150, cv2.FONT_HERSHEY_SIMPLEX, 0.42
_INK, _PAPER = (30, 30, 30), (255, 255, 255)
_SMALLEST_SHOWN = 0.005
_MOST_WITH_NUMBERS = 40


def draw_confusion(counts: npt.NDArray[np.integer[Any]], classes: Sequence[str]) -> ImageU8:
    """Rows are true classes, columns predicted ones, each row as shares of its pixels.

    Args:
        counts: (n, n) counts.
        classes: n names.

    Returns:
        (H, W, 3) RGB. Above 40 classes the cells shrink and carry no numbers.
    """
    n = len(classes)
    cell = _CELL if n <= _MOST_WITH_NUMBERS else max(6, 1800 // n)
    total = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, total, out=np.zeros(counts.shape), where=total > 0)
    side = _MARGIN + n * cell + 10
    image = np.full((side, side, 3), _PAPER, np.uint8)
    for row in range(n):
        for column in range(n):
            share = shares[row, column]
            top, left = _MARGIN + row * cell, _MARGIN + column * cell
            good, bad = np.array([30, 110, 180]), np.array([200, 70, 40])
            color = 255 - (255 - (good if row == column else bad)) * share**0.6
            image[top : top + cell - 1, left : left + cell - 1] = color.astype(np.uint8)
            if cell == _CELL and share >= _SMALLEST_SHOWN:
                ink = _PAPER if share > 0.5 else _INK
                text = f"{100 * share:.0f}" if share >= 0.095 else f"{100 * share:.1f}"
                where = (left + 8, top + 27)
                cv2.putText(image, text, where, _FONT, _SCALE, ink, 1, cv2.LINE_AA)
    if cell == _CELL:
        _write_names(image, classes)
    return image


def _write_names(image: ImageU8, classes: Sequence[str]) -> None:
    """True classes at the left, predicted ones turned upright along the top."""
    strip = np.full((_MARGIN, image.shape[0], 3), _PAPER, np.uint8)
    for index, name in enumerate(classes):
        text = name.encode("ascii", "replace").decode()[:18]
        baseline = _MARGIN + index * _CELL + 27
        cv2.putText(image, text, (6, baseline), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
        column = np.full((_CELL, _MARGIN, 3), _PAPER, np.uint8)
        cv2.putText(column, text, (4, 27), _FONT, _SCALE, _INK, 1, cv2.LINE_AA)
        left = _MARGIN + index * _CELL
        strip[:, left : left + _CELL] = np.rot90(column)
    image[:_MARGIN, _MARGIN:] = strip[:, _MARGIN : image.shape[1]]


def save_confusion(folder: Path, counts: npt.NDArray[np.int64], classes: Sequence[str]) -> Path:
    """Draw the matrix into `folder/confusion.png`; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "confusion.png"
    write_image(path, draw_confusion(counts, classes))
    return path
