"""Where everything mode spends its time, stage by stage.

`python -m benchmarks.everything_stages [--model NAME [--random]] [--size HxW ...]`. Without a model
a stand-in answers at once, with blobs of all sizes around each point; two of five are rated high
enough. With one, its encoder and decoder are timed too; with random weights their time is real,
but the masks are noise. "as published" is what enlarging every mask to the whole image would take,
from eight points.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import cv2
import numpy as np

from evit_cli.inference import mask_generator
from evit_cli.inference.everything import candidates, windows
from evit_cli.inference.mask_generator import Generated, GeneratorOptions, MaskGenerator
from evit_cli.inference.sam_frame import full_size
from evit_cli.types import Backend, ImageSize, ModelInfo, Preprocess, Task

STAGES = (
    (mask_generator, "encoder_input", "resize for the encoder"),
    (windows.Enlarger, "window", "enlarge"),
    (mask_generator, "stability", "stability"),
    (mask_generator, "box_of", "boxes"),
    (mask_generator, "counts_of_mask", "run lengths"),
    (candidates, "suppress", "suppression"),
    (candidates, "_clean", "clean-up"),
    (mask_generator, "encode_counts", "strings"),
)


class BlobSession:
    """Answers every prompt with blobs around it."""

    info = ModelInfo("stand-in", Task.SAM, Preprocess(ImageSize(512, 512)))
    backend = Backend.TORCH
    input_side = 512
    embedding_shape = (1, 1, 64, 64)

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._blobs = [self._blob(rng) for _ in range(150)]
        self._rng = rng

    def _blob(self, rng: np.random.Generator) -> np.ndarray:
        """(511, 511) logits with a blob in the middle; radii from 3 to 100 samples, most small."""
        logits = np.full((511, 511), -12, np.float32)
        axes = np.exp(rng.uniform(np.log(3), np.log(100), 2)).astype(int)
        cv2.ellipse(logits, (255, 255), axes.tolist(), int(rng.integers(180)), 0, 360, 10, -1)
        wobble = cv2.GaussianBlur(rng.standard_normal((511, 511)).astype(np.float32), (0, 0), 3)
        return cv2.GaussianBlur(logits, (0, 0), 1.2) + 8 * wobble

    def encode(self, image: np.ndarray) -> np.ndarray:
        return np.zeros(self.embedding_shape, np.float32)

    def decode(
        self, embedding: np.ndarray, points_xy: np.ndarray, labels: np.ndarray, mask_input: None
    ) -> tuple[np.ndarray, np.ndarray]:
        masks = np.empty((len(labels), 4, 256, 256), np.float32)
        for place, (x, y) in zip(masks, points_xy[:, 0].astype(int) // 4, strict=True):
            for mask in place:
                blob = self._blobs[self._rng.integers(len(self._blobs))]
                mask[:] = blob[255 - y : 511 - y, 255 - x : 511 - x]
        return masks, self._rng.uniform(0.7, 1, (len(labels), 4)).astype(np.float32)


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, function: Callable[..., Any], stage: str) -> Callable[..., Any]:
        def run(*values: Any, **named: Any) -> Any:
            before = time.perf_counter()
            try:
                return function(*values, **named)
            finally:
                self.seconds[stage] += time.perf_counter() - before

        return run

    @contextlib.contextmanager
    def on(self, session: Any) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name in ("encode", "decode"):
                timed = self.timed(getattr(session, name), f"{name}r")
                stack.enter_context(mock.patch.object(session, name, timed))
            for place, name, stage in STAGES:
                timed = self.timed(getattr(place, name), stage)
                stack.enter_context(mock.patch.object(place, name, timed))
            yield


def measure(session: Any, size_hw: ImageSize, options: GeneratorOptions) -> dict[str, Any]:
    """Milliseconds per stage for one picture."""
    rng = np.random.default_rng(1)
    small = rng.uniform(0, 255, (9, 9, 3)).astype(np.float32)
    image = cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 255)
    image = image.astype(np.uint8)
    generator, clock = MaskGenerator(session, options), Clock()
    with clock.on(session):
        before = time.perf_counter()
        result: Generated = generator.generate(image)
        total = time.perf_counter() - before
    stages = {name: 1e3 * value for name, value in clock.seconds.items()}
    stages["all else"] = 1e3 * total - sum(stages.values())
    return {
        "size": str(size_hw),
        "total_ms": 1e3 * total,
        "stages_ms": stages,
        "as_published_ms": published_ms(session, size_hw) * options.points_per_side**2,
        "counts": vars(result.counts),
    }


def published_ms(session: Any, size_hw: ImageSize) -> float:
    """Per point: three masks enlarged to the whole image, with three cuts."""
    prompts = np.full((8, 2, 2), 500, np.float32)
    labels = np.tile(np.array([1, -1], np.float32), (8, 1))
    masks, _ = session.decode(np.zeros(session.embedding_shape, np.float32), prompts, labels, None)
    before = time.perf_counter()
    for low_res in masks:
        logits = full_size(low_res[1:], tuple(size_hw))
        for mask in logits:
            windows.stability(mask, 0.0, 1.0)
            candidates.box_of(mask > 0)
    return 1e3 * (time.perf_counter() - before) / len(masks)


def open_session(model: str, *, random: bool) -> Any:
    from evit_cli.runtime.sam import SamSession, open_sam

    if not random:
        return open_sam(model)
    from evit_cli.runtime.torch_sam import torch_halves
    from evit_cli.weights.untrained import untrained_model

    whole: Any
    whole, info = untrained_model(model)
    return SamSession(*torch_halves(whole, info))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a catalog name or an artifact")
    parser.add_argument("--random", action="store_true", help="with random weights")
    parser.add_argument("--size", nargs="*", type=ImageSize.parse)
    parser.add_argument("--points", type=int, default=32, help="per side")
    parser.add_argument("--clean", type=int, default=100, help="smallest region, pixels")
    given = parser.parse_args()
    session: Any = BlobSession()
    if given.model:
        session = open_session(given.model, random=given.random)
    options = GeneratorOptions(points_per_side=given.points, min_region_px=given.clean)
    rows = []
    for size_hw in given.size or [
        ImageSize(768, 1024),
        ImageSize(720, 1280),
        ImageSize(3024, 4032),
    ]:
        row = measure(session, size_hw, options)
        print(f"{row['size']}: {row['total_ms']:.0f} ms, masks by stage {row['counts']}")
        for stage, milliseconds in row["stages_ms"].items():
            print(f"{milliseconds:9.1f} ms  {stage}")
        print(f"{row['as_published_ms']:9.1f} ms  (enlarging and cutting as published)")
        rows.append(row)
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), "rows": rows}))


if __name__ == "__main__":
    main()
