"""Stand-ins of an artifact and its source whose difference a test chooses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.models.classes import numbered_classes
from evit_cli.types import (
    Backend,
    ImageSize,
    ModelInfo,
    Precision,
    Preprocess,
    Task,
    TensorSpec,
)

CLASSES = 4
SIDE = ImageSize(64, 96)
Array = npt.NDArray[Any]


def unchanged(logits: Array) -> Array:
    return logits


class FixedSession:
    """Gives the same well separated logits for each image, through `change`.

    Segmentation gives (1, 4, 8, 12): four columns of three, each for a class. Classification gives
    (1, 4) with class 2 the most likely.
    """

    backend = Backend.ONNX

    def __init__(
        self,
        change: Callable[[Array], Array] = unchanged,
        *,
        task: Task = Task.SEGMENT,
        precision: Precision = Precision.FP32,
        margin: float = 10.0,
        free: bool = False,
    ) -> None:
        self.change, self.precision, self.task = change, precision, task
        self.info = ModelInfo(
            "fixed", task, Preprocess(SIDE if task is Task.SEGMENT else ImageSize(32, 32)),
            numbered_classes(CLASSES),
        )  # fmt: skip
        space = (None, None) if free else tuple(self.info.preprocess.size_hw)
        self.inputs = (TensorSpec("image", (1, *space, 3), "uint8"),)
        self.outputs = (TensorSpec("logits", (1, CLASSES, None, None), "float32"),)
        self.margin = margin
        self.seen: list[Array] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        image = inputs["image"]
        self.seen.append(image)
        _, height, width, _ = image.shape
        if self.task is Task.SEGMENT:
            column = np.arange(width // 8) * CLASSES // (width // 8)
            best = np.broadcast_to(column, (height // 8, width // 8))
            logits = self.margin * (np.arange(CLASSES)[:, None, None] == best)
        else:
            logits = self.margin * (np.arange(CLASSES) == 2)
        return {"logits": self.change(logits[None].astype(np.float32))}

    def close(self) -> None:
        """Nothing to free."""
