"""A SAM session whose masks a test decides, and objects in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from evit_cli.data.instances import Instance, instance_of
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task

FRAME, LOW = 1024, 256

Answer = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(N, 2) points in pixels of the image and (N,) labels -> the (H, W) mask."""


class AnsweringSession:
    """Draws what `answer` says, as one of three masks: the one with the highest predicted IoU.

    The others, and the mask of token 0, are the opposite. Image sides must divide 256.

    Args:
        answer: see `Answer`; gets no padding points.
        image_hw: the size of all images.
    """

    backend, precision, input_side = Backend.TORCH, Precision.FP32, 64
    embedding_shape = (1, 2, 64, 64)

    def __init__(self, answer: Answer, image_hw: tuple[int, int]) -> None:
        self.info = ModelInfo("answers", Task.SAM, Preprocess(ImageSize(64, 64)))
        self.answer, self.image_hw = answer, image_hw
        self.encoded = 0
        self.labels: list[np.ndarray] = []

    def encode(self, image: np.ndarray) -> np.ndarray:
        assert image.shape == (1, 64, 64, 3)
        assert image.dtype == np.float32
        self.encoded += 1
        return np.zeros(self.embedding_shape, np.float32)

    def decode(
        self,
        embedding: np.ndarray,
        points_xy: np.ndarray,
        labels: np.ndarray,
        mask_input: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        assert embedding.shape == self.embedding_shape
        assert points_xy.dtype == labels.dtype == np.float32
        assert mask_input is None
        self.labels.append(labels)
        scale = max(self.image_hw) / FRAME
        masks = np.full((len(labels), 4, LOW, LOW), 1, np.float32)
        iou = np.tile(np.array([0.99, 0.2, 0.1, 0.3], np.float32), (len(labels), 1))
        for number, (points, kinds) in enumerate(zip(points_xy, labels, strict=True)):
            real = kinds >= 0
            mask = self._low(self.answer(points[real] * scale, kinds[real]))
            token = 1 + number % 3
            masks[number] = -mask
            masks[number, token] = mask
            iou[number, token] = 0.9
        return masks, iou

    def _low(self, mask: np.ndarray) -> np.ndarray:
        times = LOW // max(self.image_hw)
        logits = np.full((LOW, LOW), -1, np.float32)
        large = np.kron(mask, np.ones((times, times)))
        logits[: large.shape[0], : large.shape[1]] = np.where(large, 1, -1)
        return logits

    def close(self) -> None:
        """Nothing to free."""


class MemoryObjects:
    """Objects of images in memory.

    Args:
        masks: of each image.
    """

    name, caveat = "memory", ""

    def __init__(self, masks: Sequence[Sequence[np.ndarray]]) -> None:
        self.masks = masks

    def __len__(self) -> int:
        return len(self.masks)

    def read(self, index: int) -> tuple[np.ndarray, Iterator[Instance]]:
        some = self.masks[index]
        image = np.zeros((*some[0].shape, 3), np.uint8)
        return image, (instance_of(mask) for mask in some)
