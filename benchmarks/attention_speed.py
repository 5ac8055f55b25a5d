"""ReLU linear attention alone in LiteRT: against softmax attention, and how it grows.

`python -m benchmarks.attention_speed [--threads N]`, batch 1, float32. The first table sets softmax
attention (4 heads of 16 channels) beside linear attention of the same shape, and beside linear
attention made so wide (one head) that it costs as many multiply-accumulates, as in the paper's
Figure 4. The second runs the attention block of seg-b1's stage 4 (stride 32) at input sizes from
512x512 to 2048x2048 and fits the exponent of its time in the number of tokens.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.timing import litert_call, medians_ms, ratios
from evit_cli.export.attention import TokenAttention
from evit_cli.export.quiet import quiet_libraries
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.fuse import fuse

DIM = 16
HEADS = 4
SIDES = (14, 20, 28, 32, 48, 64)
INPUTS = (512, 724, 1024, 1448, 2048)
STRIDE = 32


class Softmax(nn.Module):
    """Softmax attention over (heads, N, dim)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        scores = (q @ k.transpose(-1, -2)) * DIM**-0.5
        return torch.softmax(scores, dim=-1) @ v


class Linear(nn.Module):
    """ReLU linear attention over (heads, N, dim), Eq. (3)."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = torch.relu(q), torch.relu(k)
        context = k.transpose(-1, -2) @ v
        total = k.sum(dim=1).unsqueeze(-1)
        return (q @ context) / (q @ total).clamp(min=1e-12)


class ChannelsLast(nn.Module):
    """A block with (B, H, W, C) in and out, as LiteRT has it."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def convert(module: nn.Module, sample: tuple[Tensor, ...], path: Path) -> Path:
    import litert_torch

    with quiet_libraries():
        litert_torch.convert(module.eval(), sample).export(str(path))
    return path


def against_softmax(folder: Path, threads: int, rounds: int) -> list[dict[str, float]]:
    rows = []
    for side in SIDES:
        n = side * side
        # Multiply-accumulates: 2 N^2 dim a head with softmax, 2 N dim^2 a head without.
        wide = round((HEADS * n * DIM) ** 0.5)
        calls = {}
        for name, module, shape in (
            ("softmax", Softmax(), (HEADS, n, DIM)),
            ("linear, same shape", Linear(), (HEADS, n, DIM)),
            ("linear, same MACs", Linear(), (1, n, wide)),
        ):
            sample = tuple(torch.randn(shape) for _ in range(3))
            path = convert(module, sample, folder / f"{name}{side}.tflite")
            calls[name] = litert_call(path, threads)
        result = medians_ms(calls, rounds)
        macs = 2 * HEADS * n * n * DIM / 1e6
        print(f"{n} tokens, softmax {macs:.0f}M MACs, wide head {wide} channels")
        print(ratios(result))
        rows.append({"tokens": n, "macs_m": macs, **result})
    return rows


def growth(folder: Path, threads: int, rounds: int) -> float:
    torch.manual_seed(0)
    block = TokenAttention(fuse(MultiScaleLinearAttention(256, DIM, (5,), 1e-5)))
    calls = {}
    for side in INPUTS:
        tokens = -(-side // STRIDE)
        sample = (torch.randn(1, tokens, tokens, 256),)
        path = convert(ChannelsLast(block), sample, folder / f"block{side}.tflite")
        calls[str(tokens * tokens)] = litert_call(path, threads)
    result = medians_ms(calls, rounds)
    n = np.log([float(name) for name in result])
    exponent = float(np.polyfit(n, np.log(list(result.values())), 1)[0])
    print(f"time grows as N^{exponent:.3f}, N tokens:")
    print(ratios(result))
    print(json.dumps({"growth": exponent, "median_ms": result}))
    return exponent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = against_softmax(Path(folder), options.threads, options.rounds)
        print(json.dumps(rows))
        growth(Path(folder), options.threads, options.rounds)


if __name__ == "__main__":
    main()
