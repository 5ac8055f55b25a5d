"""Multi-scale ReLU linear attention, the heart of EfficientViT (paper section 3.1).

Eq. (2) of the paper is softmax-free attention with similarity ReLU(q) ReLU(k)^T; Eq. (3) uses
associativity so that the cost grows with N instead of N^2:

    out_n = sum_j q_nj (sum_m k_mj v_m) / sum_j q_nj (sum_m k_mj)

Taken literally the sums over m = 1..N pixels overflow float16 on real images (and then give NaN).
Here the same ratio is written as a weighted mean of weighted means,

    s_j  = mean_m k_mj,   c_j = sum_m (k_mj / (N s_j)) v_m,   w_nj = q_nj s_j / sum_j q_nj s_j
    out_n = sum_j w_nj c_j

so that |c_j| <= max|v|, 0 <= w_nj <= 1 and |out| <= max|v|, whatever the image size and without a
float32 island. The one sum left, over a head's channels, fits float16 for queries up to
65504 / dim: 2047 for dim 32, 300 times what the published B0 shows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evit_cli.models.layers import ConvNorm

KEY_FLOOR = 2.0**-24
"""Smallest positive float16. Channels whose keys are almost silent still matter to the queries that
look only there: a floor of 2^-14 costs 3e-4 of the output on real frames, this one nothing."""

FLOOR = 2.0**-14
"""Smallest normal float16, for the quantities that are only that small when they do not matter.

All floors are applied with a maximum, not a sum: exporters fold tiny addends away."""


def relu_linear_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Eq. (3) with every intermediate bounded by its inputs.

    Args:
        q: queries, (..., dim, N), any float dtype.
        k: keys, same shape.
        v: values, same shape.

    Returns:
        (..., dim, N) in the dtype of `q`; zero where a query or all keys are zero.
    """
    # N^(-1/2), on k and on v: keeps both factors far from denormals. No float(N): an export for any
    # image size would take it for a constant.
    r = q.shape[-1] ** -0.5
    q, k, v = torch.relu(q), torch.relu(k) * r, v * r
    s = k.mean(dim=-1, keepdim=True) / r  # (..., dim, 1), mean of ReLU(k) over the pixels
    context = v @ (k / s.clamp(min=KEY_FLOOR)).transpose(-1, -2)  # (..., dim, dim)
    relative = s / s.amax(dim=-2, keepdim=True).clamp(min=FLOOR)  # in [0, 1]; cancels
    w = q * relative
    w = w / w.sum(dim=-2, keepdim=True).clamp(min=FLOOR)
    out: Tensor = context @ w
    return out


class MultiScaleLinearAttention(nn.Module):
    """Attention over q, k, v and over their k x k aggregations (paper Fig. 3).

    Args:
        channels: input and output channels.
        head_dim: channels per head.
        scales: kernel sizes of the aggregations; each adds `channels` attention outputs.
        norm_eps: BatchNorm epsilon of the output projection.

    Attributes:
        attend: another form of `relu_linear_attention` that an export puts in its place.
    """

    def __init__(
        self, channels: int, head_dim: int, scales: tuple[int, ...], norm_eps: float | None
    ) -> None:
        super().__init__()
        if channels % head_dim:
            raise ValueError(f"{channels} channels do not divide into heads of {head_dim}")
        self.head_dim = head_dim
        self.attend: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        width = 3 * channels
        groups = 3 * (channels // head_dim)
        self.qkv = nn.Conv2d(channels, width, 1, bias=False)
        self.scales = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False),
                nn.Conv2d(width, width, 1, groups=groups, bias=False),
            )
            for kernel in scales
        )
        self.proj = ConvNorm(channels * (1 + len(scales)), channels, norm_eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        b, _, h, w = x.shape
        qkv = self.qkv(x)
        multi = torch.cat([qkv, *(scale(qkv) for scale in self.scales)], dim=1)
        # The published channel order is, head by head, [q | k | v].
        # Three dimensions, not four: converters take (B, C, H, W) for an image and reorder it.
        multi = multi.reshape(-1, 3 * self.head_dim, h * w)  # (B * heads * scales, 3 dim, N)
        q, k, v = torch.split(multi, self.head_dim, dim=1)
        out = (self.attend or relu_linear_attention)(q, k, v)
        return self.proj(out.reshape(b, -1, h, w))  # type: ignore[no-any-return]
