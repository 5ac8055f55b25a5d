"""Where a quantised model loses: the error of every layer, alone and with all that is before it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from evit_cli.models.quantize.layers import (
    QuantizedConv2d,
    QuantizedHardswish,
    QuantizedResidual,
    QuantizedSixfoldHardswish,
    Snapped,
    snap,
)
from evit_cli.models.quantize.ranges import activation_after, clamp_below, is_point

_STEP = 2
"""Every second row and column is compared: all layers' outputs are held at once."""


@dataclass(frozen=True)
class LayerError:
    """The error of one layer.

    Attributes:
        name: path of the layer in the float model.
        alone_db: signal to quantisation noise of its output in decibels when only this layer is
            quantised; infinite for an island.
        cumulative_db: the same when all are.
        island: whether it was left in float.
    """

    name: str
    alone_db: float
    cumulative_db: float
    island: bool


class _Power:
    """Sums of squares of a signal and of an error."""

    def __init__(self) -> None:
        self.signal = self.noise = 0.0

    def add(self, wanted: Tensor, found: Tensor) -> None:
        self.signal += float(wanted.double().square().sum())
        self.noise += float((found.double() - wanted.double()).square().sum())

    @property
    def decibels(self) -> float:
        if self.noise == 0 or self.signal == 0:
            return math.inf if self.noise == 0 else -math.inf
        return 10 * math.log10(self.signal / self.noise)


@contextmanager
def _hooked(modules: dict[str, nn.Module], hook: Any) -> Iterator[None]:
    handles = [
        module.register_forward_hook(lambda _, args, out, name=name: hook(name, args[0], out))
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _alone(layer: nn.Module, x: Tensor, wanted: Tensor) -> Tensor:
    """The output of a quantised layer for a float input."""
    if isinstance(layer, QuantizedResidual):
        return snap(wanted, layer.output_range)
    out: Tensor = layer(x)
    return out


@torch.no_grad()
def explain(model: nn.Module, quantised: nn.Module, batches: Iterable[Tensor]) -> list[LayerError]:
    """Compare a quantised model with its source, layer by layer.

    Args:
        model: the float model.
        quantised: made of it by `quantise`.
        batches: the model's inputs.

    Returns:
        One entry per layer in the order of execution. What a hard-swish makes zero of anyway does
        not count as an error of the convolution before it.
    """
    layers = {name: module for name, module in model.named_modules() if is_point(module)}
    twins = {name: quantised.get_submodule(name) for name in layers}
    after = activation_after(model)
    kinds = (
        QuantizedConv2d,
        QuantizedHardswish,
        QuantizedSixfoldHardswish,
        QuantizedResidual,
        Snapped,
    )
    alone = {name: _Power() for name in layers}
    cumulative = {name: _Power() for name in layers}
    outputs: dict[str, Tensor] = {}
    order: dict[str, None] = {}

    def counted(name: str, x: Tensor) -> Tensor:
        part = x[..., ::_STEP, ::_STEP] if x.ndim == 4 else x
        return clamp_below(after[name], part) if name in after else part

    def on_float(name: str, x: Tensor, out: Tensor) -> None:
        order[name] = None
        outputs[name] = counted(name, out)
        if isinstance(twins[name], kinds):
            alone[name].add(outputs[name], counted(name, _alone(twins[name], x, out)))

    def on_quantised(name: str, _: Tensor, out: Tensor) -> None:
        cumulative[name].add(outputs.pop(name), counted(name, out))

    for batch in batches:
        with _hooked(layers, on_float):
            model(batch)
        with _hooked(twins, on_quantised):
            quantised(batch)
    return [
        LayerError(
            name,
            alone[name].decibels,
            cumulative[name].decibels,
            not isinstance(twins[name], kinds),
        )
        for name in order
    ]
