"""Stand-ins for a model: sessions that answer with logits a test can predict."""

from __future__ import annotations

from collections.abc import Mapping
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


class GreySession:
    """Segments by brightness: class i of n wins where the grey value lies in the i-th n-th."""

    backend = Backend.TORCH
    precision = Precision.FP32
    inputs = (TensorSpec("image", (None, None, None, 3), "uint8"),)
    outputs = (TensorSpec("logits", (None, None, None, None), "float32"),)

    def __init__(self, num_classes: int = 4) -> None:
        preprocess = Preprocess(ImageSize(64, 64))
        self.info = ModelInfo(
            "grey", Task.SEGMENT, preprocess, classes=numbered_classes(num_classes)
        )
        self.seen: list[tuple[int, ...]] = []

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        image = inputs["image"]
        self.seen.append(image.shape)
        b, h, w, _ = image.shape
        grey = image.mean(axis=3).reshape(b, h // 8, 8, w // 8, 8).mean(axis=(2, 4))
        count = len(self.info.classes or ())
        centres = (np.arange(count) + 0.5) * 256 / count
        logits = -np.abs(grey[:, None] - centres[:, None, None])
        return {"logits": logits.astype(np.float32)}

    def close(self) -> None:
        """Nothing to free."""
