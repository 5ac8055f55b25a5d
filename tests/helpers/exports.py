"""Small models for exports: healthy random ones, and one of a single convolution."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from evit_cli.export.images import ImageSet, load_images
from evit_cli.export.job import ExportJob, ExportReport, run_export
from evit_cli.export.plan import ExportPlan, ExportRequest, make_plan
from evit_cli.models.build import build_model
from evit_cli.models.classes import numbered_classes
from evit_cli.models.variants import get_variant
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Preprocess, Task

CLASSES = 7
SIZE = ImageSize(64, 128)
SQUARE = ImageSize(96, 96)


@functools.cache
def photos(limit: int = 3) -> ImageSet:
    """Some of the photographs that travel with evit."""
    return load_images(None, limit=limit)


def _normalised(size_hw: ImageSize) -> torch.Tensor:
    """All embedded photographs, (N, 3, H, W)."""
    canvases = [
        cv2.resize(image, size_hw[::-1], interpolation=cv2.INTER_AREA) for image in photos(8)
    ]
    x = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2).float() / 255
    usual = Preprocess(size_hw)
    mean, std = torch.tensor(usual.mean_rgb), torch.tensor(usual.std_rgb)
    return (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@functools.cache
def healthy_model(name: str) -> nn.Module:
    """Random weights with the statistics of photographs, so that every layer has a say."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = build_model(get_variant(name, num_classes=CLASSES))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # the plain average of what it sees
                module.reset_running_stats()
        model.train()(_normalised(SQUARE if name.startswith("cls") else SIZE))
    return model.eval()


def info_of(name: str, size_hw: ImageSize | None = None) -> ModelInfo:
    """A description for `healthy_model(name)`."""
    classify = name.startswith("cls")
    size_hw = size_hw or (SQUARE if classify else SIZE)
    task = Task.CLASSIFY if classify else Task.SEGMENT
    return ModelInfo(name, task, Preprocess(size_hw), numbered_classes(CLASSES), "MIT", "x", "ab12")


def tiny_model() -> nn.Module:
    """One strided convolution: the shortest way through the whole of an export."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, CLASSES, 8, stride=8)).eval()


def tiny_info() -> ModelInfo:
    """A description for `tiny_model()`."""
    return ModelInfo(
        "tiny", Task.SEGMENT, Preprocess(ImageSize(64, 96)), numbered_classes(CLASSES), "MIT"
    )


def tiny_plan(out: Path, target: Backend = Backend.ONNX) -> ExportPlan:
    """A float32 export of `tiny_model()`."""
    return make_plan(ExportRequest(target=target, out=out), tiny_info())


def tiny_job(out: Path, target: Backend = Backend.ONNX, *, force: bool = False) -> ExportJob:
    """The same as a job that compares."""
    plan = tiny_plan(out, target)
    return ExportJob(plan, tiny_model(), images=photos(), force=force, threads=1)


def run_request(name: str, request: ExportRequest) -> tuple[ExportPlan, ExportReport]:
    """Export `healthy_model(name)`, compared on photographs."""
    plan = make_plan(request, info_of(name))
    calibration = photos(8) if plan.precision is Precision.INT8 else None
    job = ExportJob(plan, healthy_model(name), calibration, images=photos(), threads=1)
    return plan, run_export(job)


def random_images(*shape: int, seed: int = 0, count: int = 1) -> Iterator[np.ndarray]:
    """Smooth uint8 pictures of (H, W, 3): noise would leave every pixel undecided."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        yield np.asarray(cv2.resize(small, shape[1::-1], interpolation=cv2.INTER_CUBIC))
