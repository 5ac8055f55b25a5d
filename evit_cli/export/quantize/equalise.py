"""Cross-layer equalisation: each channel of a tensor gets its share of the 256 codes.

A convolution's output channels can be divided by any positive numbers if the next convolution's
weights are multiplied by them (Nagel et al., arXiv 1906.04721, Eq. 5). The shortcut of a residual
block has no layer of its own, so all convolutions that write to and read from it are scaled alike;
hard-swish takes the scale into its gate (`ScaledHardswish`). The function stays the same.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from evit_cli.export.quantize.layers import ScaledHardswish
from evit_cli.export.quantize.ranges import Watch, is_island
from evit_cli.models.blocks import DepthwiseSeparable, FusedMBConv, MBConv, ResBlock
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.segment import SegmentHead

M = TypeVar("M", bound=nn.Module)


_GATE_SHARE = 1.0


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


def _convs(block: nn.Module) -> list[ConvNorm | nn.Conv2d]:
    """The layers of a block in order; its attention counts as its first and last layer."""
    found: list[ConvNorm | nn.Conv2d] = []
    inside: set[nn.Module] = set()
    for module in block.modules():
        if isinstance(module, ConvNorm):
            inside.add(module.conv)
        if isinstance(module, ConvNorm | nn.Conv2d) and module not in inside:
            found.append(module)
    return found


def _conv(layer: ConvNorm | nn.Conv2d) -> nn.Conv2d:
    return layer.conv if isinstance(layer, ConvNorm) else layer  # type: ignore[return-value]


@dataclass
class _Stream:
    """A tensor that residual blocks add to.

    Attributes:
        writers: layers whose outputs are added up.
        readers: convolutions that take it.
        tensors: names of the quantised tensors it consists of.
    """

    writers: list[ConvNorm | nn.Conv2d]
    readers: list[nn.Conv2d]
    tensors: list[str]


def _streams(model: nn.Module) -> list[_Stream]:
    """Every residual stream of a backbone and a segmentation head, in order."""
    names = {module: name for name, module in model.named_modules()}
    streams: list[_Stream] = []

    def grow(stream: _Stream, blocks: list[nn.Module]) -> None:
        for block in blocks:
            for residual in (m for m in block.modules() if isinstance(m, Residual)):
                layers = _convs(residual.main)
                stream.readers.append(_conv(layers[0]))
                stream.writers.append(layers[-1])
                stream.tensors += [names[_conv(layers[-1])], names[residual]]

    backbone: nn.Module = model.backbone  # type: ignore[assignment]
    for part in (backbone.stem, *backbone.stages):  # type: ignore[union-attr, misc]
        entry, *blocks = part.children()
        layers = _convs(entry)
        if streams:
            streams[-1].readers.append(_conv(layers[0]))
        last = layers[-1]
        tensor = names[last.act if _has_act(last) else _conv(last)]
        streams.append(_Stream([last], [], [tensor]))
        grow(streams[-1], blocks)
    head: nn.Module = model.head  # type: ignore[assignment]
    if isinstance(head, SegmentHead):
        levels = list(head.projections.children())
        stream = _Stream([], [], [])
        for projection, below in zip(levels, reversed(streams), strict=False):
            below.readers.append(_conv(projection))
            stream.writers.append(projection)
            stream.tensors.append(names[_conv(projection)])
        grow(stream, list(head.blocks.children()))
        after = head.expand if isinstance(head.expand, ConvNorm) else head.classifier
        stream.readers.append(_conv(after))
        streams.append(stream)
    else:
        streams[-1].readers.append(_convs(head)[0].conv)
    return streams


def _has_act(layer: nn.Module) -> bool:
    return isinstance(layer, ConvNorm) and not isinstance(layer.act, nn.Identity)


def _pairs(model: nn.Module) -> list[tuple[ConvNorm, nn.Conv2d]]:
    """Neighbouring layers with an activation between that can be scaled."""
    pairs = []
    for block in model.modules():
        if isinstance(block, MBConv | FusedMBConv | DepthwiseSeparable | ResBlock):
            layers = [m for m in block.children() if isinstance(m, ConvNorm)]
            pairs += [(a, b.conv) for a, b in itertools.pairwise(layers)]
        elif isinstance(block, SegmentHead) and isinstance(block.expand, ConvNorm):
            pairs.append((block.expand, block.classifier))
    scalable = (nn.Hardswish, nn.ReLU, nn.Identity, ScaledHardswish)
    return [(a, b) for a, b in pairs if isinstance(a.act, scalable)]


def equalise(
    model: M,
    batches: Iterable[Tensor],
    *,
    strength: float = 1.0,
    gate: float = _GATE_SHARE,
    islands: Collection[str] = (),
) -> M:
    """A copy of a float model whose channels all use their tensor's codes.

    Args:
        model: fused classifier or segmenter.
        batches: its inputs, normalised RGB (B, 3, H, W): the ranges of channels are measured.
        strength: 1 makes the channels' ranges equal; less leaves more to the weights.

    Returns:
        The copy; its outputs agree with the model's to 1e-4 of their deviation.
    """
    result = copy.deepcopy(model)
    watch = _ChannelWatch(result)
    with watch.attached():
        for batch in batches:
            watch.run(batch)
    names = {module: name for name, module in result.named_modules()}
    for stream in _streams(result):
        if any(is_island(name, islands) for name in stream.tensors):
            continue
        reach = torch.stack([watch.reach(name) for name in stream.tensors]).amax(0)
        by = _scale(reach, strength)
        for layer in stream.writers:
            divide_output(layer, by)
        for conv in stream.readers:
            multiply_input(conv, by)
    for layer, following in _pairs(result):
        name = names[layer.conv]
        if is_island(name, islands):
            continue
        if isinstance(layer.act, nn.Hardswish | ScaledHardswish):
            # Only values above -3 count, and those below zero less: the gate needs few codes.
            below = (-watch.low[name]).clamp(0, 3)
            reach = torch.maximum(watch.high[name], below / gate)
        else:
            reach = watch.reach(names[layer.act] if _has_act(layer) else name)
        by = _scale(reach, strength)
        divide_output(layer, by)
        multiply_input(following, by)
    return result


def _scale(reach: Tensor, strength: float) -> Tensor:
    """Divisors from the channels' reaches, around 1; silent channels are left as they are."""
    floor = 1e-3 * float(reach.amax())
    return (reach.clamp(min=floor) / reach.clamp(min=floor).log().mean().exp()) ** strength
