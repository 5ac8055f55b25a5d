"""The multi-scale aggregation without global attention: a row of the paper's ablation (Table 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evit_cli.models.layers import ConvNorm


class MultiScaleAggregation(nn.Module):
    """What stays of `MultiScaleLinearAttention` when each pixel sees only its k x k surroundings.

    The paper says that global attention is taken away and not what is left. Our reading: the values
    alone. Kept are the 1x1 convolution that makes them (a third of the published qkv), their k x k
    depthwise and per-head 1x1 aggregation, the concatenation and the output projection. Queries,
    keys and the weighted mean over all pixels are gone.

    Args:
        channels: input and output channels.
        head_dim: channels per group of the aggregations' 1x1 convolutions.
        scales: kernel sizes of the aggregations.
        norm_eps: BatchNorm epsilon of the output projection.
    """

    def __init__(
        self, channels: int, head_dim: int, scales: tuple[int, ...], norm_eps: float | None
    ) -> None:
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"{channels} channels do not divide into groups of {head_dim}")
        self.value = nn.Conv2d(channels, channels, 1, bias=False)
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False
                ),
                nn.Conv2d(channels, channels, 1, groups=channels // head_dim, bias=False),
            )
            for kernel in scales
        )
        self.proj = ConvNorm(channels * (1 + len(scales)), channels, norm_eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        value = self.value(x)
        multi = torch.cat([value, *(scale(value) for scale in self.scales)], dim=1)
        return self.proj(multi)  # type: ignore[no-any-return]
