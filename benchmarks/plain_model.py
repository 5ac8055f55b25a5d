"""The yardstick of the export's speed: the model as anybody would convert it.

The published layout and formulas without this project's graph work: v padded with ones, as a fourth
of the published attention; bilinear upsampling, which converters have; float NCHW input; then
torch.onnx and litert-torch as their documentation shows them.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.export.lower import replace_modules
from evit_cli.export.quiet import quiet_libraries
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.layers import BicubicResize


class PlainAttention(nn.Module):
    """Eq. (3) by one product with [v; 1], whose last row is the denominator."""

    def __init__(self, source: MultiScaleLinearAttention) -> None:
        super().__init__()
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        block = self.source
        b, _, h, w = x.shape
        dim = block.head_dim
        qkv = block.qkv(x)
        multi = torch.cat([qkv, *(scale(qkv) for scale in block.scales)], dim=1)
        multi = multi.reshape(b, -1, 3 * dim, h * w)
        q, k, v = multi[:, :, :dim], multi[:, :, dim : 2 * dim], multi[:, :, 2 * dim :]
        v = F.pad(v, (0, 0, 0, 1), value=1.0)
        out = (v @ F.relu(k).transpose(-1, -2)) @ F.relu(q)
        out = out[:, :, :-1] / (out[:, :, -1:] + 1e-15)
        return block.proj(out.reshape(b, -1, h, w))


class BilinearResize(nn.Module):
    """What converters have in place of bicubic."""

    def forward(self, x: Tensor, size_hw: tuple[int, int]) -> Tensor:
        if x.shape[-2:] == tuple(size_hw):
            return x
        return F.interpolate(x, size=tuple(size_hw), mode="bilinear", align_corners=False)


def plain(model: nn.Module) -> nn.Module:
    """A copy of a model (normalised RGB (B, 3, H, W) -> logits) in the plain form."""
    copied = copy.deepcopy(model).eval().requires_grad_(False)
    replace_modules(copied, MultiScaleLinearAttention, PlainAttention)
    replace_modules(copied, BicubicResize, lambda _: BilinearResize())
    return copied


def write_plain(model: nn.Module, size_hw: tuple[int, int], folder: Path) -> tuple[Path, Path]:
    """Write plain.tflite and plain.onnx; their input is float32 (1, 3, H, W)."""
    import litert_torch

    sample = (torch.randn(1, 3, *size_hw),)
    tflite, onnx = folder / "plain.tflite", folder / "plain.onnx"
    with quiet_libraries():
        litert_torch.convert(plain(model), sample).export(str(tflite))
        torch.onnx.export(plain(model), sample, str(onnx), dynamo=True, external_data=False)
    return tflite, onnx
