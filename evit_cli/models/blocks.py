"""The building blocks of backbones and heads; all map (B, C, H, W) to the same or strided."""

from __future__ import annotations

from torch import nn

from evit_cli.models.aggregation import MultiScaleAggregation
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.variants import Activation, BlockKind


def _inner_eps(norm_eps: float | None, bias_instead_of_norm: bool) -> float | None:
    """BatchNorm epsilon of a block's inner convolutions; None gives them a bias instead."""
    return None if bias_instead_of_norm else norm_eps


class DepthwiseSeparable(nn.Sequential):
    """3x3 depthwise, then 1x1: the expand-1 block of the B stems."""

    def __init__(self, channels: int, *, norm_eps: float | None, act: Activation) -> None:
        super().__init__()
        self.depth_conv = ConvNorm(
            channels, channels, kernel=3, groups=channels, norm_eps=norm_eps, act=act
        )
        self.point_conv = ConvNorm(channels, channels, norm_eps=norm_eps)


class ResBlock(nn.Sequential):
    """Two dense 3x3 convolutions: the block of the L stems."""

    def __init__(self, channels: int, *, norm_eps: float | None, act: Activation) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels, channels, kernel=3, norm_eps=norm_eps, act=act)
        self.conv2 = ConvNorm(channels, channels, kernel=3, norm_eps=norm_eps)


class MBConv(nn.Sequential):
    """1x1 expansion, 3x3 depthwise (carries the stride), 1x1 projection without activation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        expand: int,
        norm_eps: float | None,
        act: Activation,
        stride: int = 1,
        bias_instead_of_norm: bool = False,
    ) -> None:
        super().__init__()
        mid = c_in * expand
        eps = _inner_eps(norm_eps, bias_instead_of_norm)
        self.inverted_conv = ConvNorm(c_in, mid, norm_eps=eps, act=act)
        self.depth_conv = ConvNorm(
            mid, mid, kernel=3, stride=stride, groups=mid, norm_eps=eps, act=act
        )
        self.point_conv = ConvNorm(mid, c_out, norm_eps=norm_eps)


class FusedMBConv(nn.Sequential):
    """Dense 3x3 expansion (carries the stride), 1x1 projection without activation."""

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        expand: int,
        norm_eps: float | None,
        act: Activation,
        stride: int = 1,
        bias_instead_of_norm: bool = False,
    ) -> None:
        super().__init__()
        mid = c_in * expand
        eps = _inner_eps(norm_eps, bias_instead_of_norm)
        self.spatial_conv = ConvNorm(c_in, mid, kernel=3, stride=stride, norm_eps=eps, act=act)
        self.point_conv = ConvNorm(mid, c_out, norm_eps=norm_eps)


class EfficientViTModule(nn.Sequential):
    """Multi-scale linear attention for context, then an MBConv for locality (paper Fig. 2).

    The ablations of Table 1 have no `attention`: the aggregation alone, or without `scales` no
    context block at all, since two 1x1 convolutions in a row would remain of it.
    """

    def __init__(
        self,
        channels: int,
        *,
        head_dim: int,
        scales: tuple[int, ...],
        expand: int,
        norm_eps: float | None,
        act: Activation,
        attention: bool = True,
    ) -> None:
        super().__init__()
        if attention:
            self.context = Residual(MultiScaleLinearAttention(channels, head_dim, scales, norm_eps))
        elif scales:
            self.context = Residual(MultiScaleAggregation(channels, head_dim, scales, norm_eps))
        self.local = Residual(
            MBConv(
                channels,
                channels,
                expand=expand,
                norm_eps=norm_eps,
                act=act,
                bias_instead_of_norm=True,
            )
        )


def convolution_block(
    kind: BlockKind,
    c_in: int,
    c_out: int,
    *,
    expand: int,
    norm_eps: float | None,
    act: Activation,
    stride: int = 1,
    bias_instead_of_norm: bool = False,
) -> nn.Module:
    """The bare (not residual) block of `kind`; "att" gives the MBConv that enters such a stage."""
    if kind == "ds":
        return DepthwiseSeparable(c_in, norm_eps=norm_eps, act=act)
    if kind == "res":
        return ResBlock(c_in, norm_eps=norm_eps, act=act)
    block = FusedMBConv if kind == "fmb" else MBConv
    return block(
        c_in,
        c_out,
        expand=expand,
        norm_eps=norm_eps,
        act=act,
        stride=stride,
        bias_instead_of_norm=bias_instead_of_norm,
    )
