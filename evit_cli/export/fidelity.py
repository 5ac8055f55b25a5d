"""How near an artifact that makes images comes to its source, and to originals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.superres import Pairs
from evit_cli.errors import EvitError
from evit_cli.export.verdict import Bar
from evit_cli.inference.enlarge import enlarge, fixed_size, to_eight_bits
from evit_cli.inference.evaluate import spread
from evit_cli.metrics.fidelity import Fidelity
from evit_cli.runtime.session import Session
from evit_cli.types import ImageSize, Precision, Progress

ImageU8 = npt.NDArray[np.uint8]

PSNR_BARS = {
    Precision.FP32: Bar(65.0, 54.0),
    Precision.FP16: Bar(54.0, 49.5),
    Precision.INT8: Bar(49.5, 44.0),
}
"""PSNR in dB between the pictures of the artifact and of its source, in eight bits (RGB).

Pictures that are P dB from the truth, and get an error of Q dB that has nothing to do with that,
lose 10 log10(1 + 10^((P - Q) / 10)) dB: at P = 38, which the best models reach on Set5, 0.1 dB at
54.3, 0.3 dB at 49.5 and 1 dB at 44."""

PSNR_LOSS_BARS = {
    Precision.FP32: Bar(0.01, 0.1),
    Precision.FP16: Bar(0.1, 0.3),
    Precision.INT8: Bar(0.3, 1.0),
}
"""Largest loss of PSNR against originals, dB: that passes, that fails."""

_EQUAL_DB = 100.0
"""Of two pictures that are the same: JSON knows no infinity."""


def centre_tile(image: ImageU8, size_hw: ImageSize) -> ImageU8:
    """The middle of an image at its own scale, mirrored where it is smaller than `size_hw`."""
    height, width = image.shape[:2]
    top, left = (max(0, (own - s) // 2) for own, s in zip((height, width), size_hw, strict=True))
    part = image[top : top + size_hw.height, left : left + size_hw.width]
    below, right = size_hw.height - part.shape[0], size_hw.width - part.shape[1]
    bordered = cv2.copyMakeBorder(part, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(bordered, np.uint8)


class Likeness:
    """The differences between two sets of pictures, in eight bits as they are saved."""

    def __init__(self) -> None:
        self.squares, self.count = 0.0, 0
        self.equal = self.near = 0

    def add(self, found: npt.NDArray[np.float32], expected: npt.NDArray[np.float32]) -> None:
        """Count RGB in 0..1, any shape."""
        a, b = (to_eight_bits(values).astype(np.int16) for values in (found, expected))
        off = np.abs(a - b)
        self.squares += float(np.square(off.astype(np.float64)).sum())
        self.count += off.size
        self.equal += int((off == 0).sum())
        self.near += int((off <= 1).sum())

    @property
    def psnr_db(self) -> float:
        """Over all values, at most 100."""
        if self.squares == 0:
            return _EQUAL_DB
        return min(_EQUAL_DB, 10 * math.log10(255**2 * self.count / self.squares))


@dataclass(frozen=True)
class Originals:
    """Pairs of small images and originals, and how many of them to use."""

    pairs: Callable[[int], Pairs]
    max_images: int | None = None


def open_originals(folder: Path, max_images: int | None) -> Originals:
    """The pairs of a folder, for whatever scale the model has."""
    if not folder.is_dir():
        raise EvitError(f"there is no folder {folder}")
    return Originals(lambda scale: Pairs(folder, scale), max_images)


def psnr_on(
    artifact: Session, source: Session, originals: Originals, progress: Progress
) -> tuple[float, float]:
    """PSNR on Y of the artifact and of its source, dB.

    Both run in the same tiles, where the artifact takes one size only: attention sees less of an
    image in a tile, which is no loss of the artifact.

    Raises:
        EvitError: a pair cannot be read, or does not belong together.
    """
    tile_hw, range_hw = fixed_size(artifact), getattr(artifact, "range_hw", None)
    side = artifact.info.preprocess.stride * 4
    probe = np.zeros((side, side, 3), np.uint8)
    scale = enlarge(source, probe).shape[0] // side
    pairs = originals.pairs(scale)
    items = spread(range(len(pairs)), originals.max_images)
    scores = Fidelity(scale), Fidelity(scale)
    progress.start(len(items), "image")
    try:
        for index in items:
            small, large = pairs.read(index)
            tile = tile_hw if range_hw is None else _within(small, *range_hw)
            for session, score in zip((artifact, source), scores, strict=True):
                score.update(large, to_eight_bits(enlarge(session, small, tile_hw=tile)))
            progress.advance(1)
    finally:
        progress.close()
    return scores[0].psnr_db, scores[1].psnr_db


def _within(image: ImageU8, smallest: ImageSize, largest: ImageSize) -> ImageSize:
    """The image's own size, as far as an artifact with free sizes takes it."""
    stride = 4
    sides = (
        min(max(side + -side % stride, low), high)
        for side, low, high in zip(image.shape[:2], smallest, largest, strict=True)
    )
    return ImageSize(*sides)
