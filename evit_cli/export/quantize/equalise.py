"""Cross-layer equalisation: each channel of a tensor gets its share of the 256 codes.

A convolution's output channels can be divided by any positive numbers if the next convolution's
weights are multiplied by them (Nagel et al., arXiv 1906.04721, Eq. 5). The shortcut of a residual
block has no layer of its own, so all convolutions that write to and read from it are scaled alike;
hard-swish takes the scale into its gate (`ScaledHardswish`). The function stays the same.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from typing import TypeVar

import torch
from torch import Tensor, nn

from evit_cli.export.quantize.layers import ScaledHardswish
from evit_cli.export.quantize.ranges import Watch, is_island
from evit_cli.export.quantize.structure import has_activation, residual_streams, scalable_pairs
from evit_cli.models.layers import ConvNorm

M = TypeVar("M", bound=nn.Module)


class _ChannelWatch(Watch):
    """The smallest and largest value of every channel of every quantised tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.low: dict[str, Tensor] = {}
        self.high: dict[str, Tensor] = {}

    def seen(self, name: str, tensor: Tensor) -> None:
        if tensor.ndim != 4:
            return
        low, high = tensor.amin((0, 2, 3)), tensor.amax((0, 2, 3))
        self.low[name] = torch.minimum(self.low.get(name, low), low)
        self.high[name] = torch.maximum(self.high.get(name, high), high)

    def reach(self, name: str) -> Tensor:
        return torch.maximum(-self.low[name], self.high[name])


def divide_output(layer: ConvNorm | nn.Conv2d, by: Tensor) -> None:
    """Make the output channels of a layer, behind its activation, smaller."""
    conv = layer.conv if isinstance(layer, ConvNorm) else layer
    conv.weight.data = conv.weight.data / by.view(-1, 1, 1, 1)
    if conv.bias is not None:
        conv.bias.data = conv.bias.data / by
    if isinstance(layer, ConvNorm) and isinstance(layer.act, nn.Hardswish):
        layer.act = ScaledHardswish(by)
    elif isinstance(layer, ConvNorm) and isinstance(layer.act, ScaledHardswish):
        layer.act = ScaledHardswish(by * layer.act.scale.flatten())


def multiply_input(conv: nn.Conv2d, by: Tensor) -> None:
    """Make up for an input whose channels were divided."""
    outs, per_group = conv.weight.shape[:2]
    groups = conv.groups
    weight = conv.weight.data.view(groups, outs // groups, per_group, *conv.kernel_size)
    scaled = weight * by.view(groups, 1, per_group, 1, 1)
    conv.weight.data = scaled.view_as(conv.weight)


def equalise(
    model: M,
    batches: Iterable[Tensor],
    *,
    strength: float = 1.0,
    islands: Collection[str] = (),
) -> M:
    """A copy of a float model whose channels all use their tensor's codes.

    Args:
        model: fused classifier or segmenter.
        batches: its inputs, normalised RGB (B, 3, H, W): the ranges of channels are measured.
        strength: 1 makes the channels' ranges equal; less leaves more to the weights.
        islands: paths of modules that will stay float and are left as they are.

    Returns:
        The copy; its outputs agree with the model's to 1e-4 of their deviation.
    """
    result = copy.deepcopy(model)
    watch = _ChannelWatch(result)
    with watch.attached():
        for batch in batches:
            watch.run(batch)
    names = {module: name for name, module in result.named_modules()}
    for stream in residual_streams(result):
        if not stream.scalable or any(is_island(name, islands) for name in stream.tensors):
            continue
        by = _scale(torch.stack([watch.reach(n) for n in stream.tensors]).amax(0), strength)
        for writer in stream.writers:
            divide_output(writer, by)
        for reader in stream.readers:
            multiply_input(reader, by)
    for layer, following in scalable_pairs(result):
        name = names[layer.conv]
        if is_island(name, islands):
            continue
        if isinstance(layer.act, nn.Hardswish | ScaledHardswish):
            # What lies below -3 becomes zero, clipped or not.
            below = (-watch.low[name]).clamp(0, 3)
            reach = torch.maximum(watch.high[name], below)
        else:
            reach = watch.reach(names[layer.act] if has_activation(layer) else name)
        by = _scale(reach, strength)
        divide_output(layer, by)
        multiply_input(following, by)
    return result


def _scale(reach: Tensor, strength: float) -> Tensor:
    """Divisors from the channels' reaches, around 1; silent channels are left as they are."""
    floor = 1e-3 * float(reach.amax())
    return (reach.clamp(min=floor) / reach.clamp(min=floor).log().mean().exp()) ** strength
