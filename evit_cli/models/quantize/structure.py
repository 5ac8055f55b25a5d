"""Which layers write and read the same tensor, channel by channel, in any model of ours."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from torch import nn

from evit_cli.models.backbone import Backbone
from evit_cli.models.blocks import DepthwiseSeparable, FusedMBConv, MBConv, ResBlock
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.quantize.layers import ScaledHardswish
from evit_cli.models.sam.encoder import SamEncoder, SamNeck
from evit_cli.models.segment import SegmentHead
from evit_cli.models.superres import SuperresHead

Layer = ConvNorm | nn.Conv2d

_SCALABLE = (nn.Hardswish, nn.ReLU, nn.Identity, ScaledHardswish)
"""Activations that a positive factor passes through, with a `ScaledHardswish` for a hard-swish."""


def layers_of(block: nn.Module) -> list[Layer]:
    """The convolutions of a block in order, as a `ConvNorm` where they are in one."""
    inside = {module.conv for module in block.modules() if isinstance(module, ConvNorm)}
    return [
        module
        for module in block.modules()
        if isinstance(module, ConvNorm | nn.Conv2d) and module not in inside
    ]


def convolution(layer: nn.Module) -> nn.Conv2d:
    """The convolution of a layer."""
    conv = layer.conv if isinstance(layer, ConvNorm) else layer
    assert isinstance(conv, nn.Conv2d)
    return conv


def has_activation(layer: nn.Module) -> bool:
    """Whether an activation belongs to the layer."""
    return isinstance(layer, ConvNorm) and not isinstance(layer.act, nn.Identity)


@dataclass
class Stream:
    """A tensor that residual blocks add to.

    Attributes:
        writers: layers whose outputs are added up.
        readers: convolutions that take it.
        tensors: paths of the modules whose outputs it consists of.
    """

    writers: list[Layer] = field(default_factory=list)
    readers: list[nn.Conv2d] = field(default_factory=list)
    tensors: list[str] = field(default_factory=list)

    @property
    def scalable(self) -> bool:
        """Whether all that writes to it can be scaled."""
        return all(
            isinstance(writer.act, _SCALABLE)
            for writer in self.writers
            if isinstance(writer, ConvNorm)
        )


def residual_streams(model: nn.Module) -> list[Stream]:
    """The residual streams of a fused model: stem, stages and head, in order."""
    names = {module: name for name, module in model.named_modules()}
    head = model.get_submodule("neck" if isinstance(model, SamEncoder) else "head")
    backbone = model.get_submodule("backbone")
    assert isinstance(backbone, Backbone)
    streams: list[Stream] = []
    levels: list[Stream] = []  # of the stem and each stage, which may go on with the one before
    for part in (backbone.stem, *backbone.stages):
        entry, *blocks = part.children()
        if isinstance(entry, Residual):
            _grow(streams[-1], [entry, *blocks], names)
            levels.append(streams[-1])
            continue
        layers = layers_of(entry)
        if streams:
            streams[-1].readers.append(convolution(layers[0]))
        streams.append(Stream())
        _write(streams[-1], layers[-1], names)
        _grow(streams[-1], blocks, names)
        levels.append(streams[-1])
    if not isinstance(head, SegmentHead | SuperresHead | SamNeck):
        streams[-1].readers.append(convolution(layers_of(head)[0]))
        return streams
    fused = Stream()
    for projection, below in zip(head.projections, reversed(levels), strict=False):
        below.readers.append(convolution(projection))
        _write(fused, projection, names)  # resizing keeps channels apart
    _grow(fused, list(head.blocks), names)
    if isinstance(head, SuperresHead):
        fused.readers.append(head.to_pixels)
    elif isinstance(head, SamNeck):
        fused.readers.append(head.out)
    else:
        last = nn.Sequential(head.expand, head.classifier)
        fused.readers.append(convolution(layers_of(last)[0]))
    return [*streams, fused]


def _write(stream: Stream, layer: nn.Module, names: dict[nn.Module, str]) -> None:
    assert isinstance(layer, ConvNorm | nn.Conv2d)
    stream.writers.append(layer)
    last = layer.act if isinstance(layer, ConvNorm) and has_activation(layer) else None
    stream.tensors.append(names[last or convolution(layer)])


def _grow(stream: Stream, blocks: list[nn.Module], names: dict[nn.Module, str]) -> None:
    """Add the residual blocks that read from and write to a stream."""
    for block in blocks:
        for residual in (m for m in block.modules() if isinstance(m, Residual)):
            layers = layers_of(residual.main)
            stream.readers.append(convolution(layers[0]))
            _write(stream, layers[-1], names)
            stream.tensors.append(names[residual])


def scalable_pairs(model: nn.Module) -> list[tuple[ConvNorm, nn.Conv2d]]:
    """Layers that follow each other directly, the first one's activation being scalable."""
    pairs: list[tuple[ConvNorm, nn.Conv2d]] = []
    for block in model.modules():
        if isinstance(block, MBConv | FusedMBConv | DepthwiseSeparable | ResBlock):
            layers = [m for m in block.children() if isinstance(m, ConvNorm)]
            pairs += [(a, convolution(b)) for a, b in itertools.pairwise(layers)]
        elif isinstance(block, SegmentHead) and isinstance(block.expand, ConvNorm):
            pairs.append((block.expand, block.classifier))
    return [(a, b) for a, b in pairs if isinstance(a.act, _SCALABLE)]
