"""What a 1280x720 video frame costs besides the model, step by step and in the whole pipeline.

`python -m benchmarks.frame_cost [VIDEO]`: without VIDEO a 1280x720 street clip is drawn. Each step
is timed alone. "all of these" is the wall time per frame of a real `segment_source` run in which
the model answers at once and the class map is given: decoding, resizing, normalising, colouring and
encoding as they overlap. The row after it makes the class map from logits as well.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch

from evit_cli.inference.class_map import class_map
from evit_cli.inference.preprocess import fit, place
from evit_cli.inference.segment_job import SegmentRequest, segment_source
from evit_cli.inference.segmenter import Segmenter, class_shares
from evit_cli.media.drawing import Palette, blend, draw_legend
from evit_cli.media.open import find_source
from evit_cli.media.street_scene import write_street_clip
from evit_cli.media.video_writer import VideoWriter
from evit_cli.models.classes import class_set
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task

SIZE = ImageSize(720, 1280)
INFO = ModelInfo(
    "stand-in", Task.SEGMENT, Preprocess(ImageSize(1024, 2048)), classes=class_set("cityscapes")
)


class InstantSession(TorchSession):
    """Normalises as the real one does, and answers with given logits."""

    def __init__(self, logits: np.ndarray) -> None:
        super().__init__(torch.nn.Identity(), INFO)
        self._logits = logits

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.normalise(inputs["image"])
        return {"logits": self._logits}


def street_logits(image: np.ndarray) -> np.ndarray:
    """(1, 19, h / 8, w / 8) logits with about as many borders as a street scene's.

    Soft memberships of the blurred picture in four brightness bands, no model involved.
    """
    rows, columns = -(-image.shape[0] // 32) * 4, -(-image.shape[1] // 32) * 4
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 2).astype(np.float32)
    logits = np.full((19, rows, columns), -20.0, np.float32)
    bands = np.quantile(small, (0.1, 0.35, 0.6, 0.9)).astype(np.float32)
    logits[:4] = -np.abs(small - bands[:, None, None]) / 4
    return logits[None]


def median_ms(step: Callable[[], Any], seconds: float = 2.0) -> float:
    times: list[float] = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds or len(times) < 10:
        before = time.perf_counter()
        step()
        times.append(time.perf_counter() - before)
    return 1e3 * float(np.median(times))


def steps(video: Path, folder: Path) -> dict[str, float]:
    frames = find_source(str(video)).frames()
    first = next(frames).image_rgb_u8
    images = [next(frames).image_rgb_u8 for _ in range(20)]
    logits = street_logits(first)
    placement = place(first.shape[:2], INFO.preprocess)
    canvas = fit(first, placement)
    labels = class_map(logits[0], SIZE, step_yx=(1 / 8, 1 / 8))
    shares, palette = class_shares(labels, 19), Palette(class_set("cityscapes"))
    color = palette.colorize(labels)
    session = InstantSession(logits)
    encoded = iter(range(10**9))
    writer = VideoWriter(folder / "encoded.mp4", rate=Fraction(25))

    def encode() -> None:
        number = next(encoded)
        writer.write(images[number % len(images)], number / Fraction(25))

    with torch.inference_mode():
        result = {
            "decode to RGB": decode_ms(video),
            "resize, pad": median_ms(lambda: fit(first, placement)),
            "normalise": median_ms(lambda: session.normalise(canvas[None])),
            "(class map from logits)": median_ms(
                lambda: class_map(logits[0], SIZE, step_yx=(1 / 8, 1 / 8))
            ),
            "shares": median_ms(lambda: class_shares(labels, 19)),
            "colour, blend, legend": median_ms(
                lambda: draw_legend(
                    blend(first, palette.colorize(labels), 0.5), class_set("cityscapes"), shares
                )
            ),
            "encode": median_ms(encode),
        }
    writer.abort()
    assert color.shape == first.shape
    return result


def decode_ms(video: Path) -> float:
    started = time.perf_counter()
    count = sum(1 for _ in find_source(str(video)).frames())
    return 1e3 * (time.perf_counter() - started) / count


def pipeline_ms(video: Path, folder: Path, *, with_class_map: bool) -> float:
    """Wall time per frame of a whole run without the model."""
    image = next(find_source(str(video)).frames()).image_rgb_u8
    logits = street_logits(image)
    labels = class_map(logits[0], SIZE, step_yx=(1 / 8, 1 / 8))
    segmenter = Segmenter(InstantSession(logits))
    request = SegmentRequest(out=folder / "out.mp4", force=True)
    # One thread: OpenMP's others would spin in wait for a model that never comes.
    torch.set_num_threads(1)
    given = class_map if with_class_map else lambda *_, **__: labels
    with mock.patch("evit_cli.inference.segmenter.class_map", given):
        report = segment_source(find_source(str(video)), segmenter, request)
    return 1e3 * report.seconds / report.frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", type=Path)
    parser.add_argument("--frames", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        video = options.video or folder / "street.mp4"
        if options.video is None:
            write_street_clip(video, count=options.frames, size_hw=SIZE)
        result = steps(video, folder)
        for with_class_map, name in (
            (False, "all of these, overlapping"),
            (True, "with class map"),
        ):
            result[name] = pipeline_ms(video, folder, with_class_map=with_class_map)
    for step, milliseconds in result.items():
        print(f"{milliseconds:7.2f} ms  {step}")
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), "ms_per_frame": result}))


if __name__ == "__main__":
    main()
