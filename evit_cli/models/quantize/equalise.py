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

from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.layers import ConvNorm
from evit_cli.models.quantize.layers import ScaledHardswish
from evit_cli.models.quantize.ranges import Watch, is_island
from evit_cli.models.quantize.structure import (
    convolution,
    has_activation,
    residual_streams,
    scalable_pairs,
)

M = TypeVar("M", bound=nn.Module)

EVERYWHERE = ("backbone", "head")


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
    gates: Collection[str] = EVERYWHERE,
) -> M:
    """A copy of a float model whose channels all use their tensor's codes.

    Args:
        model: fused classifier or segmenter.
        batches: its inputs, normalised RGB (B, 3, H, W): the ranges of channels are measured.
        strength: 1 makes the channels' ranges equal; less leaves more to the weights.
        islands: paths of modules that will stay float and are left as they are.
        gates: paths of modules whose hard-swishes get a scale per channel, which costs time
            (`QuantizedHardswish`); the others stay for the fast form without (`sixfold`).

    Returns:
        The copy; its outputs agree with the model's to 1e-4 of their deviation.
    """
    result = copy.deepcopy(model)
    watch = _ChannelWatch(result)
    with watch.attached():
        for batch in batches:
            watch.run(batch)
    for name, module in result.named_modules():
        if isinstance(module, MultiScaleLinearAttention) and not is_island(name, islands):
            _equalise_attention(name, module, watch)
    _equalise_streams(result, watch, strength, islands)
    _equalise_pairs(result, watch, strength, islands, gates)
    return result


def _equalise_streams(
    model: nn.Module, watch: _ChannelWatch, strength: float, islands: Collection[str]
) -> None:
    for stream in residual_streams(model):
        if not stream.scalable or any(is_island(name, islands) for name in stream.tensors):
            continue
        by = _scale(torch.stack([watch.reach(n) for n in stream.tensors]).amax(0), strength)
        for writer in stream.writers:
            divide_output(writer, by)
        for reader in stream.readers:
            multiply_input(reader, by)


def _equalise_pairs(
    model: nn.Module,
    watch: _ChannelWatch,
    strength: float,
    islands: Collection[str],
    gates: Collection[str],
) -> None:
    names = {module: name for name, module in model.named_modules()}
    for layer, following in scalable_pairs(model):
        name = names[layer.conv]
        if is_island(name, islands):
            continue
        if isinstance(layer.act, nn.Hardswish) and not is_island(name, gates):
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


def _equalise_attention(
    name: str, attention: MultiScaleLinearAttention, watch: _ChannelWatch
) -> None:
    """Give queries, keys and values of every head and scale the same range.

    The output does not change when a head's queries or keys are scaled (they are in the numerator
    and the denominator of Eq. 3), and changes in proportion to its values, which the projection
    takes back.
    """
    dim, channels = attention.head_dim, attention.qkv.in_channels
    projection = convolution(attention.proj)
    restore = torch.ones(projection.in_channels)
    convs = [attention.qkv, *(convolution(scale.get_submodule("1")) for scale in attention.scales)]
    paths = ["qkv", *(f"scales.{i}.1" for i in range(len(attention.scales)))]
    for i, (conv, path) in enumerate(zip(convs, paths, strict=True)):
        by_head = watch.reach(f"{name}.{path}").view(-1, 3, dim)
        factor = by_head.amax(dim=2, keepdim=True).clamp(min=1e-6).expand_as(by_head)
        divide_output(conv, factor.flatten())
        restore[i * channels : (i + 1) * channels] = factor[:, 2].flatten()
        if i == 0:
            for scale in attention.scales:
                multiply_input(convolution(scale.get_submodule("0")), factor.flatten())
    multiply_input(projection, restore)
    for i, scale in enumerate(attention.scales):
        depth, point = (convolution(scale.get_submodule(leaf)) for leaf in ("0", "1"))
        by = _scale(watch.reach(f"{name}.scales.{i}.0"), 1.0)
        divide_output(depth, by)
        multiply_input(point, by)


def _scale(reach: Tensor, strength: float) -> Tensor:
    """Divisors from the channels' reaches, around 1; silent channels are left as they are."""
    floor = 1e-3 * float(reach.amax())
    return (reach.clamp(min=floor) / reach.clamp(min=floor).log().mean().exp()) ** strength
