"""A SAM session without a model: what it finds depends on the picture, and on nothing else."""

from __future__ import annotations

import cv2
import numpy as np

from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task

SIDE = 64


class FakeSamSession:
    """Three masks per point: what has about the colour of the point, ever less strictly."""

    info = ModelInfo("fake-sam", Task.SAM, Preprocess(ImageSize(SIDE, SIDE)))
    backend = Backend.TORCH
    precision = Precision.FP32
    input_side = SIDE
    embedding_shape = (1, 3, 64, 64)

    def __init__(self) -> None:
        self.encoded = 0
        self.batches: list[int] = []

    def encode(self, image: np.ndarray) -> np.ndarray:
        assert image.shape == (1, SIDE, SIDE, 3)
        assert image.dtype == np.float32
        self.encoded += 1
        return np.moveaxis(image, 3, 1)

    def decode(
        self,
        embedding: np.ndarray,
        points_xy: np.ndarray,
        labels: np.ndarray,
        mask_input: np.ndarray | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        assert points_xy.shape == (len(labels), 2, 2)
        assert points_xy.dtype == labels.dtype == np.float32
        assert (labels == (1, -1)).all()
        assert (points_xy[:, 1] == 0).all()
        assert mask_input is None
        self.batches.append(len(labels))
        answers = [self._one(embedding[0], x, y) for x, y in points_xy[:, 0]]
        return np.stack([masks for masks, _ in answers]), np.stack([iou for _, iou in answers])

    def _one(self, embedding: np.ndarray, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        column, row = int(x) * SIDE // 1024, int(y) * SIDE // 1024
        color = embedding[:, row, column]
        distance = np.abs(embedding - color[:, None, None]).sum(axis=0)
        distance = cv2.resize(distance, (256, 256), interpolation=cv2.INTER_LINEAR)
        v, u = np.mgrid[:256, :256].astype(np.float32)
        away = np.hypot(u - x / 4, v - y / 4)
        masks = np.empty((4, 256, 256), np.float32)
        for number in range(4):
            masks[number] = (20 + 25 * number - distance) / 4 - away * (0.4 - 0.1 * number)
        # Anything that is the same at every call, and differs between masks.
        iou = 0.85 + 0.15 * np.abs(np.sin(color.sum() + x * 0.37 + y * 0.11 + np.arange(4)))
        return masks, iou.astype(np.float32)


def picture(height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: soft blobs, and flat discs on them."""
    rng = np.random.default_rng(seed)
    image = rng.uniform(0, 255, (5, 6, 3)).astype(np.float32)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    image = image.astype(np.uint8)
    for _ in range(9):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        radius = int(rng.integers(2, max(3, min(height, width) // 5)))
        cv2.circle(image, centre, radius, [int(value) for value in rng.integers(0, 255, 3)], -1)
    return image
