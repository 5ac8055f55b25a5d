"""Bicubic upsampling without a cubic resize operator, with the published arithmetic.

TensorRT and LiteRT have no cubic resize, and bilinear in its place changes the model. By whole
factors and with aligned centres (a = -0.75) every output pixel is a fixed sum of four inputs per
axis, which can be written in two ways:

- `MatrixResize`, for one input size: a product with a constant matrix per axis; edges are in the
  matrix. In LiteRT this takes a third of the time of the other.
- `PhaseResize`, for any input size: one depthwise convolution per phase and a pixel shuffle.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

_A = -0.75
"""The cubic kernel's parameter in PyTorch and OpenCV."""


def _cubic(distance: float) -> float:
    """Weight of a sample at `distance` (Keys 1981, Eq. 4)."""
    t = abs(distance)
    if t <= 1:
        return ((_A + 2) * t - (_A + 3)) * t * t + 1
    return ((_A * t - 5 * _A) * t + 8 * _A) * t - 4 * _A if t < 2 else 0.0


def _taps(factor: int) -> list[tuple[int, list[float]]]:
    """For each of the `factor` phases: the offset of the first of four samples, their weights."""
    taps = []
    for phase in range(factor):
        position = (phase + 0.5) / factor - 0.5
        first = math.floor(position) - 1
        taps.append((first, [_cubic(position - first - i) for i in range(4)]))
    return taps


def bicubic_matrix(samples: int, factor: int) -> npt.NDArray[np.float32]:
    """The (samples * factor, samples) matrix that upsamples one axis; rows sum to 1."""
    matrix = np.zeros((samples * factor, samples))
    for phase, (first, weights) in enumerate(_taps(factor)):
        for i, weight in enumerate(weights):
            source = np.clip(np.arange(samples) + first + i, 0, samples - 1)  # edges repeat
            np.add.at(matrix, (np.arange(samples) * factor + phase, source), weight)
    return matrix.astype(np.float32)


def phase_kernels(factor: int) -> Tensor:
    """The kernels that give each of the new pixels of a pixel, (factor^2, 5, 5)."""
    axis = torch.zeros(factor, 5)  # offsets -2 to 2 hold the four taps of every phase
    for phase, (first, weights) in enumerate(_taps(factor)):
        axis[phase, first + 2 : first + 6] = torch.tensor(weights)
    return torch.einsum("pi,qj->pqij", axis, axis).reshape(-1, 5, 5)


def with_repeated_edge(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, h + 4, w + 4), without a Pad operator, which parsers restrict."""
    for axis in (2, 3):
        first, end = x.narrow(axis, 0, 1), x.narrow(axis, x.shape[axis] - 1, 1)
        x = torch.cat([first, first, x, end, end], axis)
    return x


class MatrixResize(nn.Module):
    """Bicubic upsampling of one input size by a whole factor, as products with constant matrices.

    Args:
        height: of the input.
        width: of the input.
        factor: of the enlargement.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("rows", torch.from_numpy(bicubic_matrix(height, factor)))
        self.register_buffer("columns", torch.from_numpy(bicubic_matrix(width, factor)))

    def forward(self, x: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
        """(B, C, h, w) -> (B, C, h * factor, w * factor); `size_hw` is not needed."""
        batch, channels, height, width = x.shape
        if batch > 1:
            return self.rows @ x @ self.columns.T
        # Channels last and few dimensions: LiteRT then transposes nothing, nor does OpenVINO if the
        # image is turned before it loses a dimension.
        y = self.columns @ x.permute(0, 2, 3, 1)[0]  # (h, W, C)
        y = self.rows @ y.reshape(height, width * self.factor * channels)
        y = y.reshape(1, height * self.factor, width * self.factor, channels)
        return y.permute(0, 3, 1, 2)


class PhaseResize(nn.Module):
    """Bicubic upsampling by a whole factor as a convolution with every phase, then a pixel shuffle.

    Args:
        channels: of the input.
        factor: of the enlargement.
    """

    kernels: Tensor

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("kernels", phase_kernels(factor)[:, None].repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
        """(B, C, h, w) -> (B, C, h * factor, w * factor); `size_hw` is not needed."""
        groups = self.kernels.shape[0] // self.factor**2
        phases = F.conv2d(with_repeated_edge(x), self.kernels, groups=groups)
        return F.pixel_shuffle(phases, self.factor)
