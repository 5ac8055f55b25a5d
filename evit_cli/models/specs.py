"""What a variant is made of, as numbers. No torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from evit_cli.types import Task

BlockKind = Literal["ds", "res", "mb", "fmb", "att"]
Activation = Literal["hswish", "gelu", "relu"]


@dataclass(frozen=True)
class Stage:
    """One resolution level: an entry (usually stride 2) followed by `depth` residual blocks."""

    width: int
    depth: int
    kind: BlockKind
    expand: int
    entry_expand: int
    bias_instead_of_norm: bool = False
    """Inner convolutions of a block carry a bias and only the last one is normalised."""
    stride: int = 2
    """Of the entry; 1 leaves the resolution as it is."""


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone: a stem, then one `Stage` per further halving of the resolution."""

    name: str
    stem_width: int
    stem_depth: int
    stem_kind: BlockKind
    stages: tuple[Stage, ...]
    head_dim: int
    act: Activation
    norm_eps: float | None
    """BatchNorm epsilon; None for biases and no norm at all."""
    attention_scales: tuple[int, ...] = (5,)
    """Kernel sizes of the multi-scale aggregation; empty for none."""
    global_attention: bool = True
    """False leaves only the aggregation, or nothing where that is off too (ablation, Table 1)."""
    stem_stride: int = 2

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stem and of each stage."""
        return (self.stem_width, *(stage.width for stage in self.stages))


@dataclass(frozen=True)
class ClassifyHeadSpec:
    """1x1 conv to `conv_width`, global average, linear to `linear_width`, linear to the classes."""

    conv_width: int
    linear_width: int


@dataclass(frozen=True)
class SegmentHeadSpec:
    """Fuses strides 32, 16 and 8 at `width` channels, then `depth` blocks and a classifier."""

    width: int
    depth: int
    expand: int
    kind: BlockKind
    final_expand: int | None


@dataclass(frozen=True)
class SuperresHeadSpec:
    """Fuses strides 1, 2 and 4 at `width` channels, then `depth` blocks and a pixel shuffle.

    No super-resolution code or weights of EfficientViT were published; see `SUPERRES`.
    """

    width: int
    depth: int
    expand: int
    kind: BlockKind
    scale: int


@dataclass(frozen=True)
class SamDecoderSpec:
    """Sizes of SAM's mask decoder (arXiv 2304.02643, appendix A).

    Attributes:
        dim: channels of tokens and of the image embedding.
        heads: of every attention.
        mlp_width: hidden width of the transformer's MLPs.
        depth: two-way layers.
        downsample: cross-attention computes in `dim / downsample` channels.
        iou_width: hidden width of the head that predicts IoU.
        drawn: prompts are also drawn beside the embedding (ours, for training on few data).
    """

    dim: int = 256
    heads: int = 8
    mlp_width: int = 2048
    depth: int = 2
    downsample: int = 2
    iou_width: int = 256
    drawn: bool = False


@dataclass(frozen=True)
class SamHeadSpec:
    """Fuses the last three levels to the image embedding, from which a decoder draws masks.

    Attributes:
        width: channels of the embedding, which is 64x64.
        depth: residual blocks after the fusion.
        expand: of the blocks.
        kind: of the blocks.
        input_side: the encoder's square input.
        decoder: its sizes.
    """

    width: int
    depth: int
    expand: int
    kind: BlockKind
    input_side: int
    decoder: SamDecoderSpec


@dataclass(frozen=True)
class Variant:
    """One model: a backbone, a head and what the head predicts."""

    name: str
    task: Task
    backbone: BackboneSpec
    head: ClassifyHeadSpec | SegmentHeadSpec | SuperresHeadSpec | SamHeadSpec
    num_classes: int
    dataset: str
    ablation_of: str | None = None
    """The published variant that this one takes something away from; no weights are published."""
    ours: bool = False
    """Designed here: neither its numbers nor its weights were published."""

    @property
    def published(self) -> bool:
        """Whether weights of it, or at least its numbers, were published."""
        return self.ablation_of is None and not self.ours
