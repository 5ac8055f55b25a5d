"""From a float model and its ranges to the quantised model."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TypeVar

import torch
from torch import nn

from evit_cli.export.quantize.layers import (
    QuantizedConv2d,
    QuantizedHardswish,
    QuantizedResidual,
    Range,
    ScaledHardswish,
    Snapped,
)
from evit_cli.export.quantize.ranges import INPUT, is_island, is_point
from evit_cli.models.layers import ConvNorm, Residual

M = TypeVar("M", bound=nn.Module)


def quantise(model: M, ranges: dict[str, Range], *, islands: Collection[str] = ()) -> M:
    """A quantised copy of a float model.

    Args:
        model: fused; convolutions are `nn.Conv2d`, shortcuts `Residual`.
        ranges: from `collect_ranges` on the same model.
        islands: paths of modules that stay float, with all that is inside them.

    Returns:
        The copy, whose layers are those of `evit_cli.export.quantize.layers`.

    Raises:
        ValueError: an island that the model does not have.
    """
    names = {name for name, _ in model.named_modules()}
    unknown = [island for island in islands if island not in names]
    if unknown:
        raise ValueError(f"the model has no module {unknown[0]!r} to keep in float")
    result = copy.deepcopy(model)
    # The innermost first: a residual's branch is quantised before the residual is replaced.
    for name in sorted(names, key=lambda n: -n.count(".")):
        module = result.get_submodule(name)
        if name and is_point(module) and name in ranges and not is_island(name, islands):
            parent, _, leaf = name.rpartition(".")
            taken: Range | None = ranges[name + INPUT]
            if taken.source and not is_island(taken.source, islands):
                taken = None  # its producer has done it
            parent_module = result.get_submodule(parent)
            width = parent_module.conv.out_channels if isinstance(parent_module, ConvNorm) else 0
            new = _quantised(module, taken, ranges[name], width)
            setattr(result.get_submodule(parent), leaf, new)
    return result


def _quantised(module: nn.Module, taken: Range | None, own: Range, channels: int) -> nn.Module:
    if isinstance(module, nn.Conv2d):
        return QuantizedConv2d(module, input_range=taken, output_range=own)
    if isinstance(module, Residual):
        return QuantizedResidual(module.main, taken, own)
    if isinstance(module, ScaledHardswish):
        return QuantizedHardswish(module.scale.flatten(), taken, own)
    if isinstance(module, nn.Hardswish):
        return QuantizedHardswish(torch.ones(channels), taken, own)
    return Snapped(module, own)
