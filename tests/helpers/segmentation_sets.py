"""Tiny segmentation sets on disk, in each of the published layouts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def write_image(path: Path, size_hw: tuple[int, int], seed: int) -> None:
    """A random RGB picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    cv2.imwrite(str(path), rng.integers(0, 256, (*size_hw, 3), dtype=np.uint8))


def write_labels(path: Path, labels: np.ndarray) -> None:
    """A grey PNG of label values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), labels)


def write_folders(root: Path, labels: list[np.ndarray]) -> Path:
    """images/N.png and labels/N.png."""
    for number, label in enumerate(labels):
        write_image(root / "images" / f"{number}.png", label.shape[:2], number)
        write_labels(root / "labels" / f"{number}.png", label)
    return root
