"""What the export's graph work is worth: against the same weights in the plain form, in one run.

`python -m benchmarks.export_speed [--model NAME] [--size HxW] [--weights FILE] [--calib DIR]`.
With `--calib`, int8 files are made and timed too. Export time and peak memory are of the float32
.tflite file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.plain_model import write_plain
from benchmarks.timing import (
    litert_call,
    onnx_call,
    openvino_call,
    paired_ratio,
    ratios,
    times_ms,
)
from evit_cli.export.images import load_images
from evit_cli.export.job import ExportJob, run_export
from evit_cli.export.plan import ExportRequest, make_plan
from evit_cli.models.build import build_model
from evit_cli.models.classes import class_set
from evit_cli.models.variants import get_variant
from evit_cli.runtime.open import open_artifact
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess
from evit_cli.weights.load import load_model

YARDSTICKS = {
    "evit tflite fp32": "plain tflite",
    "evit tflite int8": "plain tflite",
    "evit onnx fp32": "plain onnxruntime",
    "evit openvino fp16": "plain openvino bf16",
    "evit openvino int8": "plain openvino bf16",
}


def open_source(name: str, weights: Path | None) -> tuple[torch.nn.Module, ModelInfo]:
    """The weights, or random ones: they do not change the speed."""
    if weights is not None:
        loaded = load_model(weights=weights)
        return loaded.model, loaded.info
    variant = get_variant(name)
    preprocess = Preprocess(ImageSize(1024, 2048))
    info = ModelInfo(name, variant.task, preprocess, classes=class_set(variant.dataset))
    torch.manual_seed(0)
    return build_model(variant).eval(), info


def artifact_call(path: Path, size_hw: ImageSize, threads: int) -> Callable[[], Any]:
    if path.suffix == ".tflite":
        return litert_call(path, threads)  # the invocation alone, as of the plain file
    session = open_artifact(path, threads=threads)
    image = np.random.default_rng(0).integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
    return lambda: session.run({"image": image})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="seg-b1-cityscapes")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--size", type=ImageSize.parse, default=ImageSize(512, 1024))
    parser.add_argument("--calib", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=31)
    options = parser.parse_args()
    model, info = open_source(options.model, options.weights)
    wanted = [
        (Backend.TFLITE, Precision.FP32),
        (Backend.OPENVINO, Precision.FP16),
        (Backend.ONNX, Precision.FP32),
    ]
    if options.calib is not None:
        wanted += [(b, Precision.INT8) for b in (Backend.TFLITE, Backend.OPENVINO)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        calibration = None if options.calib is None else load_images(options.calib, limit=32)
        calls = {}
        for backend, precision in wanted:
            request = ExportRequest(backend, precision=precision, size_hw=options.size, out=folder)
            plan = make_plan(request, info)
            report = run_export(ExportJob(plan, model, calibration=calibration))
            peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            label = f"evit {backend.value} {precision.value}"
            size_mb = report.size_bytes / 1e6
            print(
                f"{label}: {size_mb:.2f} MB, {report.seconds:.1f} s, peak so far {peak_gb:.1f} GB"
            )
            calls[label] = artifact_call(report.written[0], options.size, options.threads)
        tflite, onnx = write_plain(model, options.size, folder)
        plain = {
            "plain tflite": litert_call(tflite, options.threads),
            "plain onnxruntime": onnx_call(onnx, options.threads),
            "plain openvino f32": openvino_call(onnx, options.threads, "f32"),
            "plain openvino bf16": openvino_call(onnx, options.threads, "bf16"),
        }
        # Each beside its yardstick: what one round compares should follow each other.
        order = [n for p in plain for n in (p, *(c for c in calls if YARDSTICKS[c] == p))]
        times = times_ms({name: (plain | calls)[name] for name in order}, options.rounds)
    print(f"{info.name} at {options.size}, {options.threads} threads")
    result = {name: float(np.median(values)) for name, values in times.items()}
    print(ratios(result))
    compared = {
        name: paired_ratio(times[name], times[plain])
        for name, plain in YARDSTICKS.items()
        if name in times
    }
    for name, (middle, first, third) in compared.items():
        print(f"{name}: {middle:.3f} of {YARDSTICKS[name]} (quartiles {first:.3f}, {third:.3f})")
    print(
        json.dumps(
            {
                "model": info.name,
                "size_hw": options.size,
                "median_ms": result,
                "paired_ratio": compared,
            }
        )
    )


if __name__ == "__main__":
    main()
