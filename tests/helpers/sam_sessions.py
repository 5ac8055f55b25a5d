"""A stand-in for a promptable model: objects are what has the colour of the prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.runtime.sam import LOWER_RIGHT, NEGATIVE, POSITIVE, UPPER_LEFT, SamSession
from evit_cli.runtime.sam_part import DECODER, ENCODER, SamPart
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task

Array = npt.NDArray[Any]
SIDE = 256
"""Of the encoder's input; an embedding holds the mean colour of 4x4 of its pixels."""
_EMBEDDING = (3, 64, 64)
_CELL = 1024 // 64
LOGIT = 8.0
SCORES = (0.7, 0.6, 0.95, 0.8)
"""Of the four answers; the second of the three is trusted most."""


def colour_session(sha256: str = "c0ffee" * 10) -> SamSession:
    """A session whose masks can be foretold.

    The object is what has the colour under the first positive point, or in the middle of the box,
    as far as it lies in the box, without what has the colour under a negative point. Token 1 adds
    its bounding box, token 3 is empty; tokens 0 and 2 are the object. An empty answer has score 0.
    """
    info = ModelInfo(
        "colour", Task.SAM, Preprocess(ImageSize(SIDE, SIDE)), source="here", sha256=sha256
    )
    return SamSession(_Encoder(info), _Decoder(info))


class _Part:
    backend = Backend.TORCH
    precision = Precision.FP32
    inputs = outputs = ()

    def __init__(self, info: ModelInfo, part: str) -> None:
        self.info = info
        self.sam = SamPart(part, _EMBEDDING, prompts=(1, 64), points=(1, 64))
        self.seen: list[dict[str, Array]] = []

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.seen.append(dict(inputs))
        return self.answer(inputs)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        raise NotImplementedError

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], object]:
        return lambda: self.run(inputs)

    def close(self) -> None:
        """Nothing to free."""


class _Encoder(_Part):
    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info, ENCODER)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        image = inputs["image"]
        assert image.shape == (1, SIDE, SIDE, 3) and image.dtype == np.float32
        cells = image[0].reshape(64, SIDE // 64, 64, SIDE // 64, 3).mean(axis=(1, 3))
        return {"embedding": cells.transpose(2, 0, 1)[None].astype(np.float32)}


class _Decoder(_Part):
    def __init__(self, info: ModelInfo) -> None:
        super().__init__(info, DECODER)

    def answer(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        colours = inputs["embedding"][0].transpose(1, 2, 0)
        rows = zip(inputs["points_xy"], inputs["labels"], strict=True)
        masks, iou = zip(*(_answers(colours, *row) for row in rows), strict=True)
        return {"masks": np.stack(masks), "iou": np.stack(iou)}


def _answers(colours: Array, points: Array, labels: Array) -> tuple[Array, Array]:
    cells = np.clip(points // _CELL, 0, 63).astype(int)

    def like(cell: Array) -> Array:
        return np.abs(colours - colours[cell[1], cell[0]]).max(axis=2) < 40

    first, last = points[labels == UPPER_LEFT], points[labels == LOWER_RIGHT]
    seeds = cells[labels == POSITIVE]
    inside = np.ones((64, 64), bool)
    if len(first):
        y, x = np.mgrid[:64, :64] * _CELL + _CELL / 2
        inside = (x > first[0, 0]) & (x < last[0, 0]) & (y > first[0, 1]) & (y < last[0, 1])
        seeds = seeds if len(seeds) else ((first + last) / 2 // _CELL).astype(int)
    found = like(seeds[0]) & inside
    for cell in cells[labels == NEGATIVE]:
        found &= ~like(cell)
    whole = np.zeros_like(found)
    if found.any():
        ys, xs = np.nonzero(found)
        whole[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1] = True
    regions = np.stack([found, whole, found, np.zeros_like(found)])
    logits = np.where(regions, LOGIT, -LOGIT).repeat(4, axis=1).repeat(4, axis=2)
    scores = np.where(regions.any(axis=(1, 2)), SCORES, 0.0)
    return logits.astype(np.float32), scores.astype(np.float32)
