"""Which layers need float32 where everything else is float16: the one list that export reads.

Attention needs none: see `attention.py`. A layer stands here when it was shown to leave float16's
range on real inputs, with the reason.
"""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.layers import LayerNorm2d
from evit_cli.models.sam.prompts import PointPlaces

FLOAT32_LAYERS: dict[type[nn.Module], str] = {
    nn.LayerNorm: "the sum of squares over a row leaves float16's range from values of about 7 on",
    LayerNorm2d: "the mean of squares over a pixel's channels leaves it from values of 256 on",
    PointPlaces: "angles of some ten radians, whose sines float16 knows to a hundredth",
}
"""Kind of layer -> why.

An export of a SAM model has no float32 norm: it takes `ScaledLayerNorm` (`export/sam_norms.py`),
the same function with arithmetic that float16 holds."""


class Float32Island(nn.Module):
    """A layer in float32 between float16 ones.

    Args:
        source: the layer; it is turned to float32.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.source = source.float()

    def forward(self, x: Tensor) -> Tensor:
        """Same shape and dtype in and out."""
        return self.source(x.float()).to(x.dtype)  # type: ignore[no-any-return]


def to_half(model: nn.Module) -> tuple[str, ...]:
    """Turn a model to float16 in place, but for `FLOAT32_LAYERS`.

    Returns:
        The names of the layers that stay float32.
    """
    model.half()
    islands = [name for name, m in model.named_modules() if isinstance(m, tuple(FLOAT32_LAYERS))]
    for name in islands:
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        setattr(owner, child, Float32Island(owner.get_submodule(child)))
    return tuple(islands)
