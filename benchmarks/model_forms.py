"""What fusing BatchNorm and the channels-last layout are worth: medians in one run, and ratios.

`python -m benchmarks.model_forms [--threads N]`. The forms of a model are timed in turn, round by
round, so that a machine that slows down slows all of them down.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch

from evit_cli.models.build import build_model
from evit_cli.models.fuse import fuse
from evit_cli.models.variants import VARIANTS

CASES = {
    "cls-b1": (224, 224),
    "cls-l1": (224, 224),
    "seg-b0-cityscapes": (1024, 2048),
    "seg-b1-cityscapes": (512, 1024),
    "seg-l1-cityscapes": (512, 1024),
}


def forms(name: str, size_hw: tuple[int, int]) -> dict[str, tuple[torch.nn.Module, torch.Tensor]]:
    model = build_model(VARIANTS[name]).eval()
    x = torch.randn(1, 3, *size_hw)
    last = torch.channels_last
    return {
        "as trained": (model, x),
        "fused": (fuse(model), x),
        "fused, channels-last": (fuse(model).to(memory_format=last), x.to(memory_format=last)),
    }


def medians_ms(name: str, size_hw: tuple[int, int], rounds: int) -> dict[str, float]:
    candidates = forms(name, size_hw)
    times: dict[str, list[float]] = {form: [] for form in candidates}
    with torch.inference_mode():
        for number in range(rounds + 2):
            for form, (model, x) in candidates.items():
                before = time.perf_counter()
                model(x)
                if number >= 2:
                    times[form].append(1e3 * (time.perf_counter() - before))
    return {form: float(np.median(values)) for form, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=11)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for name, size_hw in CASES.items():
        result = medians_ms(name, size_hw, options.rounds)
        base = result["as trained"]
        row = ", ".join(f"{form} {ms:.0f} ms ({ms / base:.2f}x)" for form, ms in result.items())
        print(f"{name} {size_hw[0]}x{size_hw[1]}: {row}")
        print(json.dumps({"model": name, "size_hw": size_hw, "median_ms": result}))


if __name__ == "__main__":
    main()
