"""Rows as a real sweep gives them: measured, published, estimated and failed ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from evit_cli.bench.row import Kind, Latency, Point, Row, single
from evit_cli.types import Backend, ImageSize, Precision, Task

CITYSCAPES = ImageSize(1024, 2048)
# model: mIoU, parameters, MACs, published ms on a Jetson AGX Orin
SEGMENT = {
    "seg-b0-cityscapes": (75.653, 706_691, 4_390_000_000, 9.9),
    "seg-b1-cityscapes": (80.547, 4_803_443, 25_110_000_000, 24.3),
    "seg-b2-cityscapes": (82.073, 15_323_779, 73_640_000_000, 46.5),
    "seg-b3-cityscapes": (83.016, 39_603_155, 179_230_000_000, 81.8),
    "seg-l1-cityscapes": (82.716, 40_242_227, 282_480_000_000, 45.9),
    "seg-l2-cityscapes": (83.228, 52_607_923, 396_120_000_000, 60.0),
}
CLASSIFY = {
    "cls-b1-r224": (79.390, 9_102_024, 519_000_000, 1.48),
    "cls-b1-r288": (80.410, 9_102_024, 856_000_000, 1.82),
    "cls-b2-r224": (82.100, 24_330_712, 1_585_000_000, 2.63),
    "cls-b2-r288": (83.086, 24_330_712, 2_614_000_000, 3.30),
    "cls-b3-r224": (83.468, 48_646_056, 3_954_000_000, 4.36),
    "cls-b3-r288": (84.150, 48_646_056, 6_530_000_000, 5.63),
}
WORKSTATION: dict[str, Any] = {
    "cpu": "AMD EPYC 7B13",
    "architecture": "x86_64",
    "cores": 8,
    "memory_gib": 31.4,
    "os": "Debian GNU/Linux 12 (bookworm), Linux 6.1",
    "governor": "performance",
    "turbo": True,
    "clocks_mhz": {"now": 3400, "max": 3500},
    "load": [0.12, 0.2, 0.3],
    "versions": {"evit": "0.1.0", "python": "3.11.7", "ai-edge-litert": "2.3.0"},
}
ORIN: dict[str, Any] = {
    "cpu": "NVIDIA Jetson AGX Orin Developer Kit (Cortex-A78AE)",
    "architecture": "aarch64",
    "cores": 12,
    "power_mode": "MAXN",
    "jetson_clocks": True,
    "gpu": {"name": "Orin", "driver": "540.4.0"},
    "temperatures_c": {"cpu-thermal": 51.2, "gpu-thermal": 49.8},
    "versions": {"evit": "0.1.0", "python": "3.10.12", "tensorrt": "10.3.0"},
}


def latency(p50: float, *, spread: float = 0.012) -> Latency:
    return Latency(
        n=311,
        min=0.97 * p50,
        p50=p50,
        p90=1.02 * p50,
        p95=1.04 * p50,
        p99=1.11 * p50,
        mean=1.01 * p50,
        iqr_ratio=spread,
    )


def _metric(task: Task, value: float) -> dict[str, Any]:
    named = {
        Task.SEGMENT: {"name": "mIoU", "dataset": "Cityscapes val"},
        Task.CLASSIFY: {"name": "top-1", "dataset": "ImageNet val"},
    }
    return {**named[task], "value": value, "source": "published"}


def _row(kind: Kind, model: str, backend: Backend, precision: Precision, **more: Any) -> Row:
    task = Task.SEGMENT if model in SEGMENT else Task.CLASSIFY
    value, params, macs, _ = SEGMENT.get(model) or CLASSIFY[model]
    side = int(model[-3:]) if task is Task.CLASSIFY else 0
    size = ImageSize(side, side) if side else CITYSCAPES
    point = Point(model, task, backend, precision, size)
    row = Row(kind, point, params=params, macs=macs, metric=_metric(task, value))
    return replace(row, **more)


def published() -> list[Row]:
    return [
        _row(
            Kind.PUBLISHED,
            model,
            Backend.TENSORRT,
            Precision.FP16,
            host=single(ms),
            device="jetson-agx-orin",
            source="README of the published EfficientViT models; TensorRT fp16",
        )
        for model, (_, _, _, ms) in {**SEGMENT, **CLASSIFY}.items()
    ]


def estimates() -> list[Row]:
    return [
        _row(
            Kind.ESTIMATE,
            model,
            Backend.TENSORRT,
            Precision.FP16,
            host=single(1.09 * ms),
            device="jetson-agx-orin",
            estimate={
                "method": "roofline per layer",
                "median_error": 0.08,
                "rows": 53,
                "low_ms": 0.95 * ms,
                "high_ms": 1.24 * ms,
            },
        )
        for model, (_, _, _, ms) in SEGMENT.items()
    ]


def measured() -> list[Row]:
    rows = [
        _row(
            Kind.MEASURED,
            model,
            Backend.TENSORRT,
            Precision.FP16,
            host=latency(1.03 * ms),
            compute=latency(0.9 * ms),
            device="jetson-agx-orin",
            host_name="orin",
            environment=ORIN,
            file_bytes=2_000_000,
            energy_j=0.02 * ms,
            energy_counter="ina",
            time="2026-11-20T10:00:00+00:00",
        )
        for model, (_, _, _, ms) in SEGMENT.items()
    ]
    for backend, precision, factor in (
        (Backend.TFLITE, Precision.FP32, 38.0),
        (Backend.TFLITE, Precision.INT8, 21.0),
        (Backend.ONNX, Precision.FP32, 44.0),
    ):
        for model, (_, _, _, ms) in {**SEGMENT, **CLASSIFY}.items():
            rows.append(
                _row(
                    Kind.MEASURED,
                    model,
                    backend,
                    precision,
                    host=latency(factor * ms),
                    compute=latency(0.97 * factor * ms),
                    e2e=latency(1.2 * factor * ms),
                    device="x86",
                    environment=WORKSTATION,
                    file_bytes=2_924_013,
                    peak_rss_bytes=312_000_000,
                    time="2026-11-20T09:00:00+00:00",
                )
            )
    rows[8] = replace(
        rows[8],
        tainted=("another process was busy", "IQR/median is 7.1 %"),
        host=latency(rows[8].latency_ms or 0, spread=0.071),
    )
    return [*rows, peer()]


def peer() -> Row:
    return Row(
        Kind.MEASURED,
        Point(
            "segformer-b1",
            Task.SEGMENT,
            Backend.TFLITE,
            Precision.FP32,
            CITYSCAPES,
            threads=4,
            peer=True,
            weights="random",
        ),
        host=latency(3150.0),
        device="x86",
        params=13_700_000,
        macs=243_700_000_000,
        ratio={"to": "seg-b1-cityscapes", "value": 3.41, "low": 3.32, "high": 3.56},
        environment=WORKSTATION,
    )


def failed() -> list[Row]:
    return [
        _row(
            Kind.FAILED,
            "seg-l2-cityscapes",
            Backend.ONNX,
            Precision.FP16,
            error={"reason": "out of memory", "hint": "take a smaller --size"},
        ),
        _row(
            Kind.FAILED,
            "seg-b0-cityscapes",
            Backend.TENSORRT,
            Precision.FP16,
            error={"reason": "the output holds NaN: it is broken, not fast"},
        ),
    ]


def every_kind() -> list[Row]:
    return [*measured(), *published(), *estimates(), *failed()]
