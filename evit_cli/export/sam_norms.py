"""Layer norms whose every intermediate float16 can hold, so that none needs float32.

The published encoders overflow in float16 at their last norm: squares leave its range from values
of 256 on, their sum over 256 channels from 16 on, and what such an engine gives is 0 or NaN. The
ratio of a value to its row's deviation does not change when the row is divided by its largest
value first. After that no square is above 4, whatever picks the precision of a layer: the types
written into the graph, or TensorRT 8, which sets float16 as it likes.

Measured with values up to 6e4 (256 channels, arithmetic and weights in float16): cosine to float32
above 0.9999, largest difference 1.3e-2 deviations, where float32 between float16 tensors has 6e-3,
which is the rounding of its result (`tests/export/test_sam_graph.py`).
"""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.layers import LayerNorm2d

_LEAST_VALUE = 2.0**-14
"""Smallest normal float16."""
_LEAST_VARIANCE = 2.0**-24
"""Smallest positive float16; reached where a row's values are all the same, and its result is 0."""


class ScaledLayerNorm(nn.Module):
    """`nn.LayerNorm` over the last dimension, or `LayerNorm2d` over the channels, for float16.

    Args:
        source: the norm, with weight and bias.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, source: nn.LayerNorm | LayerNorm2d) -> None:
        super().__init__()
        self.axis = 1 if isinstance(source, LayerNorm2d) else -1
        shape = (-1, 1, 1) if self.axis == 1 else (-1,)
        self.register_buffer("weight", source.weight.detach().clone().view(shape))
        self.register_buffer("bias", source.bias.detach().clone().view(shape))
        self.root_eps = source.eps**0.5

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype in and out."""
        most = x.abs().amax(self.axis, keepdim=True).clamp(min=_LEAST_VALUE)
        x = x / most
        centred = x - x.mean(self.axis, keepdim=True)
        # The epsilon is scaled like the variance, in two steps: its square alone would be 0.
        eps = (self.root_eps / most).square()
        variance = centred.square().mean(self.axis, keepdim=True) + eps
        result: Tensor = (
            centred / variance.clamp(min=_LEAST_VARIANCE).sqrt() * self.weight + self.bias
        )
        return result


def replace_norms(model: nn.Module) -> None:
    """Give every layer norm of a model its form for float16, in place."""
    for name, child in model.named_children():
        if isinstance(child, nn.LayerNorm | LayerNorm2d):
            setattr(model, name, ScaledLayerNorm(child))
        else:
            replace_norms(child)
