"""An MBConv computed in horizontal strips, so that its wide middle stays in the CPU's cache.

The middle of an MBConv is four times as wide as its ends: 33 MB for B1's first one at 512x1024,
written and read several times from main memory. Strip by strip (with the rows that the 3x3
convolution needs of its neighbours) it is a few megabytes at a time. The result is the same.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.models.blocks import MBConv

LARGEST_STRIP_BYTES = 2**23
"""Of the widest tensor, float32. Parts of the undivided time of seg-b1 at 512x1024 on two cores
with 1 MB of second-level cache each, two runs: 16 MB 0.95 and 0.99, 8 MB 0.91 and 0.93, 4 MB 0.91
and 0.92 with twice the operators, 2 MB 1.0."""

_FEWEST_ROWS = 4
_CONCATENATED = 4
"""XNNPACK takes concatenations of up to five tensors; a longer one would split the graph."""


def strip_count(middle_bytes: int, rows: int, stride: int) -> int:
    """Into how many strips of equal height to cut: a power of two, 1 for none.

    Args:
        middle_bytes: size of the widest tensor.
        rows: input height; the strips' heights stay multiples of the stride.
        stride: of the block.
    """
    count = 1
    while (
        middle_bytes > LARGEST_STRIP_BYTES * count
        and rows % (2 * count * stride) == 0
        and rows // (2 * count * stride) >= _FEWEST_ROWS
    ):
        count *= 2
    return count


class StripMBConv(nn.Module):
    """`MBConv` with a 3x3 depthwise convolution, strip by strip where it is large.

    Args:
        source: fused (no BatchNorm).
    """

    def __init__(self, source: MBConv) -> None:
        super().__init__()
        self.source = source

    def forward(self, x: Tensor) -> Tensor:
        """As `MBConv`: (B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        block = self.source
        conv, act = block.depth_conv.conv, block.depth_conv.act
        stride, (batch, _, height, width) = conv.stride[0], x.shape
        middle = batch * conv.in_channels * height * width * 4
        count = strip_count(middle, height, stride)
        if count == 1:
            return block(x)  # type: ignore[no-any-return]
        rows = height // count
        # A row above and, without a stride, one below: what a 3x3 kernel sees. Beyond the image
        # the middle, not the input, is zero.
        below = 1 if stride == 1 else 0
        parts = []
        for first in range(0, height, rows):
            top, bottom = max(first - 1, 0), min(first + rows + below, height)
            middle_rows = block.inverted_conv(x[:, :, top:bottom])
            above_image, below_image = int(first == 0), int(first + rows + below > height)
            padded = F.pad(middle_rows, (1, below, above_image, below_image))
            deep = act(F.conv2d(padded, conv.weight, conv.bias, conv.stride, groups=conv.groups))
            parts.append(block.point_conv(deep))
        return _concatenate(parts)


def _concatenate(parts: list[Tensor]) -> Tensor:
    """(B, C, h, W) each, along the rows, a few at a time.

    The converter merges concatenations of concatenations, so every other level joins rows that are
    flattened, which costs nothing where channels are last.
    """
    if len(parts) <= _CONCATENATED:
        return torch.cat(parts, dim=2)
    batch, channels, _, width = parts[0].shape
    parts, flat = [part.permute(0, 2, 3, 1) for part in parts], False  # (B, h, W, C)
    while len(parts) > 1:
        groups = range(0, len(parts), _CONCATENATED)
        parts = [torch.cat(parts[i : i + _CONCATENATED], dim=1) for i in groups]
        flat = not flat and len(parts) > 1
        row = (width * channels,) if flat else (width, channels)
        parts = [part.reshape(batch, -1, *row) for part in parts]
    return parts[0].permute(0, 3, 1, 2)
