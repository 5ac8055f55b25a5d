"""The tables beside the published checkpoints: our models with more digits and more sizes.

The READMEs say: TensorRT, fp16, data transfer included; Jetson latencies of one image; throughput
on the A100 with batch 1 (Cityscapes) and 16 (ADE20K, SAM). For ImageNet they give no batch.
"""

from __future__ import annotations

from evit_cli.bench.published.entry import Line, Table
from evit_cli.types import ImageSize, Task

_README = "README of the published EfficientViT models"

# model, side: top-1, top-5, parameters (M), GMACs, Nano ms, Orin ms
_CLASSIFY_B = (
    ("b1", 224, 79.390, 94.346, 9.1, 0.52, 24.8, 1.48),
    ("b1", 256, 79.918, 94.704, 9.1, 0.68, 28.5, 1.57),
    ("b1", 288, 80.410, 94.984, 9.1, 0.86, 34.5, 1.82),
    ("b2", 224, 82.100, 95.782, 24, 1.6, 50.6, 2.63),
    ("b2", 256, 82.698, 96.096, 24, 2.1, 58.5, 2.84),
    ("b2", 288, 83.086, 96.302, 24, 2.6, 69.9, 3.30),
    ("b3", 224, 83.468, 96.356, 49, 4.0, 101, 4.36),
    ("b3", 256, 83.806, 96.514, 49, 5.2, 120, 4.74),
    ("b3", 288, 84.150, 96.732, 49, 6.5, 141, 5.63),
)

# model, side: top-1, top-5, parameters (M), GMACs, A100 images/s
_CLASSIFY_L = (
    ("l1", 224, 84.484, 96.862, 53, 5.3, 6207),
    ("l2", 224, 85.050, 97.090, 64, 6.9, 4998),
    ("l2", 256, 85.366, 97.216, 64, 9.1, 3969),
    ("l2", 288, 85.630, 97.364, 64, 11, 3102),
    ("l2", 320, 85.734, 97.438, 64, 14, 2525),
    ("l2", 384, 85.978, 97.518, 64, 20, 1784),
    ("l3", 224, 85.814, 97.198, 246, 28, 2081),
    ("l3", 256, 85.938, 97.318, 246, 36, 1641),
    ("l3", 288, 86.070, 97.440, 246, 46, 1276),
    ("l3", 320, 86.230, 97.474, 246, 56, 1049),
    ("l3", 384, 86.408, 97.632, 246, 81, 724),
)


def _classify() -> tuple[Line, ...]:
    lines = [
        Line(
            f"cls-{name}-r{side}", top1, millions * 1e6, gmacs, nano_ms, orin_ms,
            size_hw=ImageSize(side, side), also={"top-5": top5},
        )
        for name, side, top1, top5, millions, gmacs, nano_ms, orin_ms in _CLASSIFY_B
    ]  # fmt: skip
    lines += [
        Line(
            f"cls-{name}-r{side}", top1, millions * 1e6, gmacs, a100_per_s=a100,
            size_hw=ImageSize(side, side), also={"top-5": top5},
        )
        for name, side, top1, top5, millions, gmacs, a100 in _CLASSIFY_L
    ]  # fmt: skip
    return tuple(lines)


README_CLASSIFY = Table(
    "readme-imagenet",
    f"{_README}, ImageNet",
    Task.CLASSIFY,
    "ImageNet val",
    "top-1",
    _classify(),
    a100_batch=16,
    batch_known=False,
)

# mIoU, parameters, GMACs, Nano ms, Orin ms, A100 images/s
README_CITYSCAPES = Table(
    "readme-cityscapes",
    f"{_README}, Cityscapes",
    Task.SEGMENT,
    "Cityscapes val",
    "mIoU",
    (
        Line("seg-b0-cityscapes", 75.653, 0.7e6, 4.4, 275, 9.9),
        Line("seg-b1-cityscapes", 80.547, 4.8e6, 25, 819, 24.3),
        Line("seg-b2-cityscapes", 82.073, 15e6, 74, 1676, 46.5),
        Line("seg-b3-cityscapes", 83.016, 40e6, 179, 3192, 81.8),
        Line("seg-l1-cityscapes", 82.716, 40e6, 282, None, 45.9, 122),
        Line("seg-l2-cityscapes", 83.228, 53e6, 396, None, 60.0, 102),
    ),
    size_hw=ImageSize(1024, 2048),
)

README_ADE20K = Table(
    "readme-ade20k",
    f"{_README}, ADE20K",
    Task.SEGMENT,
    "ADE20K val",
    "mIoU",
    (
        Line("seg-b1-ade20k", 42.840, 4.8e6, 3.1, 110, 4.0),
        Line("seg-b2-ade20k", 45.941, 15e6, 9.1, 212, 7.3),
        Line("seg-b3-ade20k", 49.013, 39e6, 22, 411, 12.5),
        Line("seg-l1-ade20k", 49.191, 40e6, 36, None, 7.2, 947),
        Line("seg-l2-ade20k", 50.702, 51e6, 45, None, 9.0, 758),
    ),
    size_hw=ImageSize(512, 512),
    a100_batch=16,
)


def _sam(name: str, side: int, ap: tuple[float, float], rest: tuple[float, ...]) -> Line:
    millions, gmacs, orin_ms, a100 = rest
    return Line(
        name, ap[0], millions * 1e6, gmacs, None, orin_ms, a100,
        size_hw=ImageSize(side, side), also={"LVIS mAP": ap[1]},
    )  # fmt: skip


README_SAM = Table(
    "readme-sam",
    f"{_README}, SAM",
    Task.SAM,
    "COCO val, ViTDet boxes",
    "mAP",
    (
        _sam("sam-l0", 512, (45.7, 41.8), (34.8, 35, 8.2, 762)),
        _sam("sam-l1", 512, (46.2, 42.1), (47.7, 49, 10.2, 638)),
        _sam("sam-l2", 512, (46.6, 42.7), (61.3, 69, 12.9, 538)),
        _sam("sam-xl0", 1024, (47.5, 43.9), (117.0, 185, 22.5, 278)),
        _sam("sam-xl1", 1024, (47.8, 44.4), (203.3, 322, 37.2, 182)),
    ),
    size_hw=ImageSize(1024, 1024),
    a100_batch=16,
)
