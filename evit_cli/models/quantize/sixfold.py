"""Hard-swish without its division, the fast int8 form: the next layer's weights take the sixth."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from torch import nn

from evit_cli.models.layers import ConvNorm
from evit_cli.models.quantize.layers import SixfoldHardswish
from evit_cli.models.quantize.ranges import is_island
from evit_cli.models.quantize.structure import scalable_pairs

M = TypeVar("M", bound=nn.Module)


def sixths(model: nn.Module, *, islands: Collection[str] = ()) -> list[tuple[ConvNorm, nn.Conv2d]]:
    """Layers that end in a plain hard-swish, each with the convolution that reads it.

    Args:
        model: classifier or segmenter.
        islands: paths of modules that will stay float and are left as they are.
    """
    names = {module: name for name, module in model.named_modules()}
    return [
        (layer, following)
        for layer, following in scalable_pairs(model)
        if isinstance(layer.act, nn.Hardswish) and not is_island(names[layer.conv], islands)
    ]


def sixfold(model: M, *, islands: Collection[str] = ()) -> M:
    """Give every hard-swish of `sixths` its fast form, in place; the outputs stay the same."""
    for layer, following in sixths(model, islands=islands):
        layer.act = SixfoldHardswish()
        following.weight.data = following.weight.data / 6
    return model
