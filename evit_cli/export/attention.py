"""The attention of `models.attention` as float32 runtimes like it: fewer passes over the pixels.

`attention_by_sums` is Eq. (3) as it stands. `TokenAttention` and `BlockAttention` are the same
function of the same weights, rearranged:

- q, k and v come from convolutions of their own, so that nothing is sliced;
- the aggregation's 1x1 convolution of v is linear, and what follows it up to the projection is
  linear in v too, so it moves into the projection's weights;
- the context (sum over pixels of k v^T) is multiplied with the projection while it is small,
  which spares a product over all pixels and a transpose;
- the queries of all scales lie side by side: one product gives the denominators of all heads, one
  more the projected output.

They differ in the heads. `TokenAttention` has a small product for each, with the fewest
multiplications; `BlockAttention` has one large product for all, whose parts between different heads
are set to zero: more multiplications, but pixels and channels stay as they lie in memory.

Sums over all pixels stay as they are, which is fine in float32, and in bfloat16 where products are
added up in float32: with float16 the form of `models.attention` is needed.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from evit_cli.models.attention import MultiScaleLinearAttention

FLOOR = 1e-12
"""Smallest denominator, applied with a maximum: exporters fold tiny addends away."""


def _convolution(weight: Tensor, groups: int = 1) -> nn.Conv2d:
    """A bias-free "same" convolution with (out, in / groups, k, k) weights."""
    c_out, c_in, kernel, _ = weight.shape
    conv = nn.Conv2d(c_in * groups, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    conv.weight = nn.Parameter(weight.detach().clone().contiguous(), requires_grad=False)
    return conv


def attention_by_sums(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Eq. (3) with its sums over all pixels: for float32, or where products are added up in it.

    Args:
        q: queries, (..., dim, N), float.
        k: keys, same shape.
        v: values, same shape.

    Returns:
        (..., dim, N); zero where a query or all keys are zero.
    """
    q, k = torch.relu(q), torch.relu(k)
    context = v @ k.transpose(-1, -2)  # (..., dim, dim)
    total = k.sum(dim=-1, keepdim=True)  # (..., dim, 1)
    denominator = (total.transpose(-1, -2) @ q).clamp(min=FLOOR)  # (..., 1, N)
    out: Tensor = (context @ q) / denominator
    return out


class Shift(nn.Module):
    """A bias of its own, (C,), added to (..., C)."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., C)."""
        return x + self.bias


class _SplitAttention(nn.Module):
    """The weights of `MultiScaleLinearAttention`, apart for q, k and v.

    Args:
        source: fused (its projection has no BatchNorm).
    """

    projection: Tensor
    head_of: Tensor

    def __init__(self, source: MultiScaleLinearAttention) -> None:
        super().__init__()
        dim = source.head_dim
        channels = source.qkv.in_channels
        heads = channels // dim
        self.dim, self.heads = dim, heads
        # Published channel order: head by head [q | k | v].
        qkv = source.qkv.weight.view(heads, 3, dim, channels, 1, 1)
        self.q, self.k, self.v = (_convolution(qkv[:, i].flatten(0, 1)) for i in range(3))
        self.depth_q, self.depth_k, self.depth_v = (nn.ModuleList() for _ in range(3))
        self.point_q, self.point_k = nn.ModuleList(), nn.ModuleList()
        projection = source.proj.conv.weight[:, :, 0, 0].detach().clone()  # (C, scales * C)
        for i, scale in enumerate(source.scales, start=1):
            depth, point = scale.get_submodule("0"), scale.get_submodule("1")
            assert isinstance(depth, nn.Conv2d) and isinstance(point, nn.Conv2d)
            kernel = depth.kernel_size[0]
            deep = depth.weight.view(heads, 3, dim, 1, kernel, kernel)
            mix = point.weight.view(heads, 3, dim, dim, 1, 1)
            for j, convs in enumerate((self.depth_q, self.depth_k, self.depth_v)):
                convs.append(_convolution(deep[:, j].flatten(0, 1), channels))
            for j, convs in enumerate((self.point_q, self.point_k)):
                convs.append(_convolution(mix[:, j].flatten(0, 1), heads))
            part = projection[:, i * channels : (i + 1) * channels]
            folded = torch.einsum(
                "chd,hde->che", part.view(channels, heads, dim), mix[:, 2, :, :, 0, 0]
            )
            part.copy_(folded.flatten(1))
        self.register_buffer("projection", projection.T.contiguous().view(-1, dim, channels))
        heads_of_all = torch.eye(self.projection.shape[0])
        self.register_buffer("head_of", heads_of_all.repeat_interleave(dim, dim=0))
        bias = source.proj.conv.bias
        self.shift = Shift(torch.zeros(channels) if bias is None else bias)

    def split(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(B, C, H, W) -> q, k and v of each scale, the same shape, without the last ReLU."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        yield q, k, v
        for depth_q, point_q, depth_k, point_k, depth_v in zip(
            self.depth_q, self.point_q, self.depth_k, self.point_k, self.depth_v, strict=True
        ):
            yield point_q(depth_q(q)), point_k(depth_k(k)), depth_v(v)

    def weigh(self, q: Tensor, total: Tensor) -> Tensor:
        """Divide each head's queries by Eq. (3)'s denominator, all heads and scales at once.

        Args:
            q: queries of all scales after the ReLU, (..., N, scales * C).
            total: sums of their keys, (..., scales * C).

        Returns:
            (..., N, scales * C); zero where a query or all keys are zero.
        """
        # One column per head, zero in the other heads' rows: all denominators in one product.
        denominator = (q @ (total.unsqueeze(-1) * self.head_of)).clamp(min=FLOOR)
        by_head = q.reshape(*denominator.shape, self.dim)
        return (by_head / denominator.unsqueeze(-1)).reshape(q.shape)


class TokenAttention(_SplitAttention):
    """`MultiScaleLinearAttention` for export, batch 1, float32, a product for each head.

    Args:
        source: fused (its projection has no BatchNorm).
    """

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (1, C, H, W)."""
        _, channels, height, width = x.shape
        n, heads, dim = height * width, self.heads, self.dim
        queries, totals, contexts = [], [], []
        for scale, (q, k, v) in enumerate(self.split(x)):
            # ReLU first: what only it reads need not be copied to be seen in another shape.
            q, k, v = (t.permute(0, 2, 3, 1) for t in (torch.relu(q), torch.relu(k), v))
            k, v = (t.reshape(n, heads, dim) for t in (k, v))
            context = k.permute(1, 2, 0) @ v.permute(1, 0, 2)  # (heads, dim, dim)
            projection = self.projection[scale * heads : (scale + 1) * heads]
            contexts.append((context @ projection).reshape(channels, channels))
            totals.append(k.sum(dim=0).flatten())
            queries.append(q.reshape(n, channels))
        weights = self.weigh(torch.cat(queries, dim=1), torch.cat(totals))
        out: Tensor = self.shift(weights @ torch.cat(contexts))
        return out.reshape(1, height, width, channels).permute(0, 3, 1, 2)


class BlockAttention(_SplitAttention):
    """`MultiScaleLinearAttention` for export, one product for all heads.

    Args:
        source: fused (its projection has no BatchNorm).
    """

    same_head: Tensor

    def __init__(self, source: MultiScaleLinearAttention) -> None:
        super().__init__(source)
        self.projection = self.projection.flatten(0, 1)  # (scales * C, C)
        block = torch.ones(self.dim, self.dim)
        self.register_buffer("same_head", torch.kron(torch.eye(self.heads), block))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        batch, channels, height, width = x.shape
        queries, totals, contexts = [], [], []
        for scale, (q, k, v) in enumerate(self.split(x)):
            q, k = torch.relu(q), torch.relu(k)
            q, k, v = (t.permute(0, 2, 3, 1).reshape(batch, -1, channels) for t in (q, k, v))
            context = (k.transpose(1, 2) @ v) * self.same_head  # (B, C, C)
            part = self.projection[scale * channels : (scale + 1) * channels]
            contexts.append(context @ part)
            totals.append(k.sum(dim=1))  # (B, C)
            queries.append(q)
        weights = self.weigh(torch.cat(queries, dim=2), torch.cat(totals, dim=1))
        out: Tensor = self.shift(weights @ torch.cat(contexts, dim=1))
        return out.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
