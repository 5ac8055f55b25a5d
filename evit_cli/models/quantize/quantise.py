"""From a float model and its ranges to the quantised model."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import TypeVar

import torch
from torch import nn

from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.quantize.layers import (
    QuantizedConv2d,
    QuantizedHardswish,
    QuantizedResidual,
    QuantizedSixfoldHardswish,
    Range,
    ScaledHardswish,
    SixfoldHardswish,
    Snapped,
)
from evit_cli.models.quantize.ranges import INPUT, is_island, is_point

M = TypeVar("M", bound=nn.Module)

_HARDSWISHES = (nn.Hardswish, ScaledHardswish, SixfoldHardswish)


def quantise(
    model: M,
    ranges: dict[str, Range],
    *,
    islands: Collection[str] = (),
    float_activations: bool = False,
) -> M:
    """A quantised copy of a float model.

    Args:
        model: fused; convolutions are `nn.Conv2d`, shortcuts `Residual`.
        ranges: from `collect_ranges` on the same model.
        islands: paths of modules that stay float, with all that is inside them.
        float_activations: hard-swishes are computed in float between rounded tensors, for runtimes
            that fuse them with their neighbours and have their own idea of int8 products.

    Returns:
        The copy, whose layers are those of `evit_cli.models.quantize.layers`.

    Raises:
        ValueError: an island that the model does not have.
    """
    names = {name for name, _ in model.named_modules()}
    unknown = [island for island in islands if not any(is_island(n, [island]) for n in names)]
    if unknown:
        raise ValueError(f"the model has no module {unknown[0]!r} to keep in float")
    result = copy.deepcopy(model)
    # The innermost first: a residual's branch is quantised before the residual is replaced.
    for name in sorted(names, key=lambda n: -n.count(".")):
        module = result.get_submodule(name)
        if not is_point(module) or name not in ranges or is_island(name, islands):
            continue
        taken = ranges[name + INPUT]
        done = _is_rounded(name, taken.source, ranges, islands)
        parent_name, _, leaf = name.rpartition(".")
        parent = result.get_submodule(parent_name)
        width = parent.conv.out_channels if isinstance(parent, ConvNorm) else None
        if float_activations and isinstance(module, _HARDSWISHES):
            new: nn.Module = Snapped(module, ranges[name])
        else:
            new = _quantised(module, None if done else taken, ranges[name], width)
        setattr(parent, leaf, new)
    return result


def _is_rounded(name: str, source: str, ranges: dict[str, Range], islands: Collection[str]) -> bool:
    """Whether another module has rounded what `name` takes: its producer, or a residual around."""
    if not source.endswith(INPUT) and not is_island(source, islands):
        return True
    parts = name.split(".")
    around = (".".join(parts[:count]) for count in range(1, len(parts)))
    return any(n + INPUT in ranges and ranges[n + INPUT].source == source for n in around)


def _quantised(module: nn.Module, taken: Range | None, own: Range, width: int | None) -> nn.Module:
    """The quantised form of a module; `width` is a lone hard-swish's number of channels."""
    if isinstance(module, nn.Conv2d):
        return QuantizedConv2d(module, input_range=taken, output_range=own)
    if isinstance(module, Residual):
        return QuantizedResidual(module.main, taken, own)
    if isinstance(module, ScaledHardswish):
        return QuantizedHardswish(module.scale.flatten(), taken, own)
    if isinstance(module, SixfoldHardswish):
        return QuantizedSixfoldHardswish(taken, own)
    if isinstance(module, nn.Hardswish) and width is not None:
        return QuantizedHardswish(torch.ones(width), taken, own)
    return Snapped(module, own)
