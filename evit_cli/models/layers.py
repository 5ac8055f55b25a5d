"""The small layers that everything else is made of; shapes are (B, C, H, W)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.models.variants import Activation


def activation(name: Activation) -> nn.Module:
    """The activation module called `name`; "gelu" is the tanh form, as published."""
    if name == "hswish":
        return nn.Hardswish()
    if name == "gelu":
        return nn.GELU(approximate="tanh")
    return nn.ReLU()


class ConvNorm(nn.Module):
    """Convolution with "same" padding, then an optional BatchNorm and an optional activation.

    Args:
        c_in: input channels.
        c_out: output channels.
        kernel: odd kernel size; the padding is `kernel // 2`.
        stride: convolution stride.
        groups: convolution groups.
        norm_eps: BatchNorm epsilon, or None for a bias and no norm.
        act: activation, or None.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        norm_eps: float | None,
        act: Activation | None = None,
    ) -> None:
        super().__init__()
        bias = norm_eps is None
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.norm = nn.Identity() if norm_eps is None else nn.BatchNorm2d(c_out, eps=norm_eps)
        self.act = nn.Identity() if act is None else activation(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.norm(self.conv(x)))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """`x + main(x)`.

    Attributes:
        drop_path: in training, the probability that an example skips `main` (stochastic depth,
            arXiv 1603.09382); the others' branch is enlarged so that the mean stays.
    """

    def __init__(self, main: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.drop_path = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        branch = self.main(x)
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            kept = torch.rand((len(x), 1, 1, 1), device=x.device) < keep
            branch = branch * (kept / keep).to(branch.dtype)
        return x + branch  # type: ignore[no-any-return]


class BicubicResize(nn.Module):
    """`resize_bicubic` as a module, so that an export can put the same arithmetic in its place."""

    def forward(self, x: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
        """(B, C, h, w) -> (B, C, *size_hw)."""
        return resize_bicubic(x, size_hw)


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of each pixel.

    Args:
        channels: of the input.
        eps: added to the variance.
    """

    def __init__(self, channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape, mean 0 and deviation 1 over C before the affine part."""
        centred = x - x.mean(1, keepdim=True)
        deviation = (centred.square().mean(1, keepdim=True) + self.eps).sqrt()
        weight, bias = self.weight.view(1, -1, 1, 1), self.bias.view(1, -1, 1, 1)
        return centred / deviation * weight + bias


def resize_bicubic(x: Tensor, size_hw: tuple[int, int] | torch.Size) -> Tensor:
    """Bicubic resize of (B, C, h, w) to (B, C, *size_hw), pixel centres aligned (a = -0.75)."""
    if x.shape[-2:] == tuple(size_hw):
        return x
    return F.interpolate(x, size=tuple(size_hw), mode="bicubic", align_corners=False)
