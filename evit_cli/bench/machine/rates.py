"""What a processor or GPU reaches in plain work: the yardstick for a model's throughput."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

_SIDE = {"cuda": 8192, "cpu": 1024}
_COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 26}
_RUNS = 10


def measured_rates(device: str, precision: str) -> dict[str, float]:
    """Rates that PyTorch reaches on a device, the best of ten runs.

    Args:
        device: "cuda" or "cpu".
        precision: "fp32", "fp16" or "bf16".

    Returns:
        "matmul_tera_ops_per_s" of a square matrix product, a multiply-add counting as two, and
        "copy_gb_per_s" of a copy within the device's memory, bytes read and written both counted.
    """
    import torch

    dtypes = {"fp16": torch.float16, "bf16": torch.bfloat16}
    dtype = dtypes.get(precision, torch.float32)
    side = _SIDE[device]
    a = torch.ones(side, side, device=device, dtype=dtype)
    b = torch.ones_like(a)
    c = torch.empty_like(a)
    source = torch.ones(_COPIED_BYTES[device], device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    product_s = _best_s(device, lambda: torch.mm(a, b, out=c))
    copy_s = _best_s(device, lambda: target.copy_(source))
    return {
        "matmul_tera_ops_per_s": 2 * side**3 / product_s / 1e12,
        "copy_gb_per_s": 2 * _COPIED_BYTES[device] / copy_s / 1e9,
    }


def _best_s(device: str, run: Callable[[], Any]) -> float:
    import torch

    best = float("inf")
    for _ in range(_RUNS):
        before = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - before)
    return best
