"""Tables 2 to 6 of the EfficientViT paper (arXiv 2205.14756, version 6), line by line.

Read from the paper's text and checked against the models' published READMEs, where most of ours
stand with more digits (`readme.py`), and against the speed-ups that its text states (`claims.py`).

- MACs and parameters are rounded as printed. MACs of peers on Cityscapes are of 1024x2048.
- Latencies on Jetson boards are of one image. For the A100, READMEs give the batch: 1 on
  Cityscapes, 16 on ADE20K and for SAM. For ImageNet nobody does.
- The latency for the phone (Snapdragon 8 Gen 1, TFLite, fp32) is drawn in figures and stands in no
  table of version 6, so it is not here.
- The rules between groups are ours by the order of the lines: peers before the model of ours that
  reaches them.
"""

from __future__ import annotations

from evit_cli.bench.published.entry import Line, Table
from evit_cli.types import ImageSize, Task

_PAPER = "EfficientViT paper (arXiv 2205.14756v6)"
_R256, _R288, _R384, _R480 = (ImageSize(side, side) for side in (256, 288, 384, 480))
_FFHQ = ImageSize(512, 512)
_SAM_METRICS = (
    "AP small", "AP medium", "AP large",
    "LVIS mAP", "LVIS AP small", "LVIS AP medium", "LVIS AP large",
)  # fmt: skip


def _imagenet(
    model: str,
    numbers: tuple[float, float, float, float | None, float | None, float],
    group: int,
    *,
    top5: float | None = None,
    size_hw: ImageSize | None = None,
) -> Line:
    top1, params_m, gmacs, nano_ms, orin_ms, a100 = numbers
    also = {} if top5 is None else {"top-5": top5}
    return Line(
        model, top1, params_m * 1e6, gmacs, nano_ms, orin_ms, a100,
        size_hw=size_hw, group=group, also=also,
    )  # fmt: skip


def _segment(
    model: str,
    numbers: tuple[float, float, float, float | None, float | None, float | None],
    group: int,
) -> Line:
    miou, params_m, gmacs, nano_ms, orin_ms, a100 = numbers
    return Line(model, miou, params_m * 1e6, gmacs, nano_ms, orin_ms, a100, group=group)


def _upscale(
    model: str, ffhq: tuple[float, float, float] | None, bsd100: tuple[float, float, float]
) -> tuple[Line, ...]:
    """PSNR, SSIM and milliseconds at 512x512 and at 160x240."""
    psnr, ssim, ms = bsd100
    small = Line(model, psnr, a100_ms=ms, group=2, also={"ssim": ssim})
    if ffhq is None:
        return (small,)
    psnr, ssim, ms = ffhq
    large = Line(model, psnr, a100_ms=ms, size_hw=_FFHQ, group=1, also={"ssim": ssim})
    return large, small


def _sam(model: str, params_m: float, gmacs: float, a100: float, aps: tuple[float, ...]) -> Line:
    side = 512 if model in ("sam-l0", "sam-l1", "sam-l2") else 1024
    also = dict(zip(_SAM_METRICS, aps[1:], strict=True))
    return Line(
        model, aps[0], params_m * 1e6, gmacs, None, None, a100,
        size_hw=ImageSize(side, side), group=1, also=also,
    )  # fmt: skip


# top-1, parameters (M), GMACs, Nano ms, Orin ms, A100 images/s
TABLE2 = Table(
    "table2",
    f"{_PAPER}, Table 2",
    Task.CLASSIFY,
    "ImageNet val",
    "top-1",
    (
        _imagenet("coatnet-0", (81.6, 25, 4.2, 95.8, 4.5, 3011), 1),
        _imagenet("convnext-t", (82.1, 29, 4.5, 87.9, 3.8, 3303), 1),
        _imagenet("cls-b2-r256", (82.7, 24, 2.1, 58.5, 2.8, 5325), 1, top5=96.1, size_hw=_R256),
        _imagenet("swin-b", (83.5, 88, 15, 240, 6.0, 2236), 2),
        _imagenet("coatnet-1", (83.3, 42, 8.4, 171, 8.3, 1512), 2),
        _imagenet("convnext-s", (83.1, 50, 8.7, 146, 6.5, 2081), 2),
        _imagenet("cls-b3-r224", (83.5, 49, 4.0, 101, 4.4, 3797), 2, top5=96.4),
        _imagenet("coatnet-2", (84.1, 75, 16, 254, 10.3, 1174), 3),
        _imagenet("convnext-b", (83.8, 89, 15, 211, 7.8, 1579), 3),
        _imagenet("cls-b3-r288", (84.2, 49, 6.5, 141, 5.6, 2372), 3, top5=96.7, size_hw=_R288),
        _imagenet("coatnet-3", (84.5, 168, 35, None, 15.4, 642), 4),
        _imagenet("convnext-l", (84.3, 198, 34, None, 11.5, 1032), 4),
        _imagenet("efficientnetv2-s", (83.9, 22, 8.8, None, 4.3, 2869), 4, size_hw=_R384),
        _imagenet("cls-l1-r224", (84.5, 53, 5.3, None, 2.6, 6207), 4, top5=96.9),
        _imagenet("efficientnetv2-m", (85.2, 54, 25, None, 9.2, 1160), 5, size_hw=_R480),
        _imagenet("fastervit-4", (85.4, 425, 37, None, 13.0, 1382), 5, top5=97.3),
        _imagenet("cls-l2-r288", (85.6, 64, 11, None, 4.3, 3102), 5, top5=97.4, size_hw=_R288),
        _imagenet("fastervit-6", (85.8, 1360, 142, None, None, 594), 6, top5=97.4),
        _imagenet("efficientnetv2-l", (85.7, 120, 53, None, None, 696), 6, size_hw=_R480),
        _imagenet("cls-l2-r384", (86.0, 64, 20, None, None, 1784), 6, top5=97.5, size_hw=_R384),
    ),
    a100_batch=16,
    batch_known=False,
)

# mIoU, parameters (M), GMACs, Nano ms, Orin ms, A100 images/s
TABLE3 = Table(
    "table3",
    f"{_PAPER}, Table 3",
    Task.SEGMENT,
    "Cityscapes val",
    "mIoU",
    (
        _segment("deeplabv3plus-mbv2", (75.2, 15, 555, None, 83.5, 102), 1),
        _segment("seg-b0-cityscapes", (75.7, 0.7, 4.4, 280, 9.9, 263), 1),
        _segment("segformer-b1", (78.5, 14, 244, 5600, 146, 49), 2),
        _segment("segnext-t", (79.8, 4.3, 51, 2200, 93.2, 95), 2),
        _segment("seg-b1-cityscapes", (80.5, 4.8, 25, 820, 24.3, 175), 2),
        _segment("segformer-b3", (81.7, 47, 963, None, 407, 18), 3),
        _segment("segnext-s", (81.3, 14, 125, 3400, 127, 70), 3),
        _segment("seg-b2-cityscapes", (82.1, 15, 74, 1700, 46.5, 112), 3),
        _segment("segformer-b5", (82.4, 85, 1460, None, 638, 12), 4),
        _segment("segnext-b", (82.6, 28, 276, None, 228, 41), 4),
        _segment("seg-b3-cityscapes", (83.0, 40, 179, None, 81.8, 70), 4),
        _segment("seg-l1-cityscapes", (82.7, 40, 282, None, 45.9, 122), 4),
        _segment("segnext-l", (83.2, 49, 578, None, 374, 26), 5),
        _segment("seg-l2-cityscapes", (83.2, 53, 396, None, 60.0, 102), 5),
    ),
    size_hw=ImageSize(1024, 2048),
)

TABLE4 = Table(
    "table4",
    f"{_PAPER}, Table 4",
    Task.SEGMENT,
    "ADE20K val",
    "mIoU",
    (
        _segment("segformer-b1-ade20k", (42.2, 14, 16, 389, 12.3, 542), 1),
        _segment("segnext-t-ade20k", (41.1, 4.3, 6.6, 281, 12.4, 842), 1),
        _segment("seg-b1-ade20k", (42.8, 4.8, 3.1, 110, 4.0, 1142), 1),
        _segment("segnext-s-ade20k", (44.3, 14, 16, 428, 17.2, 592), 2),
        _segment("seg-b2-ade20k", (45.9, 15, 9.1, 212, 7.3, 846), 2),
        _segment("mask2former-swin-t", (47.7, 47, 74, None, None, None), 3),
        _segment("maskformer-swin-t", (46.7, 42, 55, None, None, None), 3),
        _segment("segformer-b2-ade20k", (46.5, 28, 62, 920, 24.3, 345), 3),
        _segment("segnext-b-ade20k", (48.5, 28, 35, 806, 32.9, 347), 3),
        _segment("seg-b3-ade20k", (49.0, 39, 22, 411, 12.5, 555), 3),
        _segment("seg-l1-ade20k", (49.2, 40, 36, None, 7.2, 947), 3),
        _segment("segformer-b4-ade20k", (50.3, 64, 96, None, 44.9, 212), 4),
        _segment("seg-l2-ade20k", (50.7, 51, 45, None, 9.0, 758), 4),
    ),
    size_hw=ImageSize(512, 512),
    a100_batch=16,
)

TABLE5 = Table(
    "table5",
    f"{_PAPER}, Table 5",
    Task.SUPERRES,
    "FFHQ (512x512) and BSD100 (160x240), to twice the size",
    "PSNR",
    (
        *_upscale("restormer", (43.43, 0.9806, 92.0), (32.31, 0.9021, 15.1)),
        *_upscale("swinir", (43.49, 0.9807, 61.2), (32.31, 0.9012, 9.7)),
        *_upscale("vapsr", None, (32.27, 0.9011, 4.8)),
        *_upscale("bsrn", None, (32.24, 0.9006, 4.5)),
        # The layout of these two was never published, so they are in no catalog.
        *_upscale("efficientvit-sr-w075", (43.54, 0.9809, 14.3), (32.31, 0.9016, 2.8)),
        *_upscale("efficientvit-sr", (43.58, 0.9810, 17.8), (32.33, 0.9019, 3.2)),
    ),
    size_hw=ImageSize(160, 240),
)

# parameters (M), GMACs of the encoder, A100 images/s; COCO mAP and by size, LVIS mAP and by size
TABLE6 = Table(
    "sam",
    f"{_PAPER}, Table 6",
    Task.SAM,
    "COCO val, ViTDet boxes",
    "mAP",
    (
        _sam("sam-vit-h", 641, 2973, 11, (46.5, 30.8, 51.0, 61.7, 44.2, 31.8, 57.1, 65.3)),
        _sam("sam-l0", 35, 35, 762, (45.7, 28.2, 49.5, 63.4, 41.8, 28.8, 53.4, 64.7)),
        _sam("sam-l1", 48, 49, 638, (46.2, 28.7, 50.4, 64.0, 42.1, 29.1, 54.3, 65.0)),
        _sam("sam-l2", 61, 69, 538, (46.6, 28.9, 50.8, 64.2, 42.7, 29.4, 55.1, 65.5)),
        _sam("sam-xl0", 117, 185, 278, (47.5, 30.0, 51.5, 64.6, 43.9, 31.2, 56.2, 65.9)),
        _sam("sam-xl1", 203, 322, 182, (47.8, 30.5, 51.8, 64.7, 44.4, 31.6, 57.0, 66.4)),
    ),
    size_hw=ImageSize(1024, 1024),
    a100_batch=16,
)
