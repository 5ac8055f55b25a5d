"""A session that finds discs around points and the surface of boxes, so that answers are known."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.runtime.sam import SamSession
from evit_cli.runtime.sam_part import DECODER, ENCODER, SamPart
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task

RADII = (120, 60, 120, 200)
"""Of the four masks, in the frame of 1024; the first is for prompts that are not ambiguous."""
NEGATIVE_RADIUS = 50
IOU = (0.9, 0.7, 0.95, 0.8)
SIDE = 256
Array = npt.NDArray[Any]


class _Half:
    """What a session asks of its halves when it is made; neither of them ever runs."""

    info = ModelInfo("sam-discs", Task.SAM, Preprocess(ImageSize(64, 64)))
    backend, precision = Backend.TORCH, Precision.FP32

    def __init__(self, part: str) -> None:
        self.sam = SamPart(part, (4, 64, 64), prompts=(1, 999), points=(1, 999))

    def close(self) -> None:
        pass


class DiscSession(SamSession):
    """A disc around every positive point, or the box, less a disc around every negative point.

    Attributes:
        encoded: mean colour of each image that was encoded, in order.
        decoded: how often masks were asked for.
        at_once: the most calls that ever ran at the same time.
        pause_s: how long each call takes.
        fail: raised by the next call.
    """

    def __init__(self) -> None:
        halves: list[Any] = [_Half(ENCODER), _Half(DECODER)]
        super().__init__(*halves)
        self.encoded: list[float] = []
        self.decoded = 0
        self.at_once, self._running = 0, 0
        self.pause_s = 0.0
        self.fail: BaseException | None = None
        self._lock = threading.Lock()

    def _work(self) -> None:
        with self._lock:
            self._running += 1
            self.at_once = max(self.at_once, self._running)
        time.sleep(self.pause_s)
        with self._lock:
            self._running -= 1
        if self.fail is not None:
            error, self.fail = self.fail, None
            raise error

    def encode(self, image: Array) -> Array:
        self._work()
        self.encoded.append(float(image.mean()))
        return np.zeros(self.embedding_shape, np.float32)

    def decode(
        self, embedding: Array, points_xy: Array, labels: Array, mask_input: Array | None = None
    ) -> tuple[Array, Array]:
        self._work()
        self.decoded += 1
        rows = [self._logits(p, n) for p, n in zip(points_xy, labels, strict=True)]
        return np.stack(rows), np.tile(np.array(IOU, np.float32), (len(rows), 1))

    @staticmethod
    def _logits(points: Array, labels: Array) -> Array:
        centres = (np.arange(SIDE, dtype=np.float32) + 0.5) * (1024 / SIDE)
        y, x = np.meshgrid(centres, centres, indexing="ij")

        def far(point: Array) -> Array:
            return np.asarray(np.hypot(x - point[0], y - point[1]))

        out = []
        for radius in RADII:
            inside = [np.full((SIDE, SIDE), -1.0)]
            inside += [radius - far(p) for p in points[labels == 1]]
            corners = points[(labels == 2) | (labels == 3)]
            if len(corners) == 2:
                (x0, y0), (x1, y1) = corners
                inside.append(np.minimum.reduce([x - x0, x1 - x, y - y0, y1 - y]))
            outside = [far(p) - NEGATIVE_RADIUS for p in points[labels == 0]]
            out.append(np.minimum.reduce([np.maximum.reduce(inside), *outside]))
        return np.stack(out).astype(np.float32)
