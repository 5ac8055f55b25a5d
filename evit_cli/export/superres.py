"""`models.superres` as runtimes like it: one pixel shuffle, and no resize operator.

Pixel shuffle is linear, and so is the bicubic enlargement of the input, which is a convolution with
every phase followed by a pixel shuffle (`PhaseResize`). So the two are added before the shuffle,
and no tensor but the output itself has the output's size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.export.form import Form
from evit_cli.export.resize import phase_kernels, with_repeated_edge
from evit_cli.models.superres import SuperResolver
from evit_cli.models.variants import SUPERRES_PREPROCESS

STRIDES = (4, 2, 1)
"""Of the features that the head adds, in the order of its projections."""


class BicubicPhases(nn.Module):
    """The input enlarged bicubically, with the new pixels still in channels, and an addend.

    No `nn.Conv2d`, so that int8 leaves it in float: an error here is one of the picture itself.

    Args:
        scale: of the enlargement.
        gain: multiplies the input.
        addend: is added.
        channel_first: new pixels are channels (phase, colour), in place of (colour, phase).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, scale: int, *, gain: float, addend: float, channel_first: bool) -> None:
        super().__init__()
        phases = gain * phase_kernels(scale)  # (scale^2, 5, 5)
        weight = torch.zeros(3, scale**2, 3, 5, 5)
        for colour in range(3):
            weight[colour, :, colour] = phases
        weight = weight.transpose(0, 1) if channel_first else weight
        self.register_buffer("weight", weight.reshape(-1, 3, 5, 5).contiguous())
        self.register_buffer("bias", torch.full((3 * scale**2,), addend))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 3 scale^2, H, W)."""
        return F.conv2d(with_repeated_edge(x), self.weight, self.bias)


class LoweredSuperResolver(nn.Module):
    """The same function of normalised RGB as `SuperResolver`.

    Args:
        source: fused; its last convolution is changed.
        form: of the output.
    """

    def __init__(self, source: SuperResolver, form: Form) -> None:
        super().__init__()
        self.scale, self.channels_last = source.scale, form.outputs_last
        self.backbone, self.head = source.backbone, source.head
        mean, std = SUPERRES_PREPROCESS.mean_rgb[0], SUPERRES_PREPROCESS.std_rgb[0]
        self.enlarge = BicubicPhases(
            source.scale, gain=std, addend=mean, channel_first=self.channels_last
        )
        last = source.head.to_pixels
        assert last.bias is not None
        weight, bias = std * last.weight.data, std * last.bias.data
        if self.channels_last:
            order = torch.arange(3 * source.scale**2).view(3, -1).T.flatten()
            weight, bias = weight[order], bias[order]
        last.weight.data, last.bias.data = weight.contiguous(), bias
        self.head.add_module("shuffle", nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) -> RGB (B, 3, H * scale, W * scale), 0..1 and a bit more."""
        pixels: Tensor = self.enlarge(x) + self.head(self.backbone(x))
        return self._shuffled(pixels)

    def _shuffled(self, pixels: Tensor) -> Tensor:
        if not self.channels_last:
            return F.pixel_shuffle(pixels, self.scale)
        batch, _, height, width = pixels.shape
        scale = self.scale
        # Rows of neighbouring pixels lie together already: one transpose of four dimensions.
        rows = pixels.permute(0, 2, 3, 1).reshape(batch * height, width, scale, scale * 3)
        rows = rows.transpose(1, 2).reshape(batch, height * scale, width * scale, 3)
        return rows.permute(0, 3, 1, 2)
