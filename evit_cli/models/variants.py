"""Every published EfficientViT as numbers: widths, depths, heads. No torch is imported here.

Sources: the paper (arXiv 2205.14756) and the published model tables. A variant is a frozen
dataclass (`specs.py`) in a literal dict; the modules that turn it into layers are in `backbone.py`,
`classify.py`, `segment.py`, `superres.py` and `sam/`.
"""

from __future__ import annotations

from dataclasses import replace

from evit_cli.errors import EvitError, suggest
from evit_cli.models.specs import Activation as Activation
from evit_cli.models.specs import BackboneSpec as BackboneSpec
from evit_cli.models.specs import BlockKind as BlockKind
from evit_cli.models.specs import ClassifyHeadSpec as ClassifyHeadSpec
from evit_cli.models.specs import SamDecoderSpec as SamDecoderSpec
from evit_cli.models.specs import SamHeadSpec as SamHeadSpec
from evit_cli.models.specs import SegmentHeadSpec as SegmentHeadSpec
from evit_cli.models.specs import Stage as Stage
from evit_cli.models.specs import SuperresHeadSpec as SuperresHeadSpec
from evit_cli.models.specs import Variant as Variant
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task


def _b(name: str, widths: tuple[int, ...], depths: tuple[int, ...], head_dim: int) -> BackboneSpec:
    """B series: MBConv in stages 1 and 2, EfficientViT modules in stages 3 and 4 (paper Fig. 5).

    The published depths of stages 1 and 2 count the stride-2 entry, those of 3 and 4 do not.
    """
    mb = tuple(Stage(widths[i], depths[i] - 1, "mb", 4, 4) for i in (1, 2))
    att = tuple(Stage(widths[i], depths[i], "att", 4, 4, bias_instead_of_norm=True) for i in (3, 4))
    stages = mb + att
    return BackboneSpec(name, widths[0], depths[0], "ds", stages, head_dim, "hswish", 1e-5)


def _large(
    name: str,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    kinds: tuple[BlockKind, ...],
    expands: tuple[int, ...],
    **options: float | tuple[int, ...],
) -> BackboneSpec:
    """L and XL series; a stage's stride-2 entry expands four times as much as its blocks."""
    bare = len(widths) - 2  # the last two stages carry biases instead of inner norms
    stages = tuple(
        Stage(widths[i], depths[i], kinds[i], expands[i], expands[i] * 4, i >= bare)
        for i in range(1, len(widths))
    )
    spec = BackboneSpec(name, widths[0], depths[0], kinds[0], stages, 32, "gelu", 1e-7)
    return replace(spec, **options)  # type: ignore[arg-type]


_L_KINDS: tuple[BlockKind, ...] = ("res", "fmb", "fmb", "mb", "att")
_L_EXPANDS = (1, 4, 4, 4, 6)
_L_WIDTHS = (32, 64, 128, 256, 512)
_XL_KINDS: tuple[BlockKind, ...] = ("res", "fmb", "fmb", "fmb", "att", "att")
_XL_EXPANDS = (1, 4, 4, 4, 4, 6)
_XL_WIDTHS = (32, 64, 128, 256, 512, 1024)

BACKBONES: dict[str, BackboneSpec] = {
    "b0": _b("b0", (8, 16, 32, 64, 128), (1, 2, 2, 2, 2), 16),
    "b1": _b("b1", (16, 32, 64, 128, 256), (1, 2, 3, 3, 4), 16),
    "b2": _b("b2", (24, 48, 96, 192, 384), (1, 3, 4, 4, 6), 32),
    "b3": _b("b3", (32, 64, 128, 256, 512), (1, 4, 6, 6, 9), 32),
    "l0": _large("l0", _L_WIDTHS, (1, 1, 1, 4, 4), _L_KINDS, _L_EXPANDS),
    "l1": _large("l1", _L_WIDTHS, (1, 1, 1, 6, 6), _L_KINDS, _L_EXPANDS),
    "l2": _large("l2", _L_WIDTHS, (1, 2, 2, 8, 8), _L_KINDS, _L_EXPANDS),
    "l3": _large("l3", (64, 128, 256, 512, 1024), (1, 2, 2, 8, 8), _L_KINDS, _L_EXPANDS),
    "xl0": _large(
        "xl0", _XL_WIDTHS, (0, 1, 1, 2, 3, 3), _XL_KINDS, _XL_EXPANDS, attention_scales=(3,)
    ),
    "xl1": _large(
        "xl1", _XL_WIDTHS, (1, 2, 2, 4, 6, 6), _XL_KINDS, _XL_EXPANDS, attention_scales=(3,)
    ),
}

CLASSIFY_HEADS: dict[str, ClassifyHeadSpec] = {
    "b0": ClassifyHeadSpec(1024, 1280),
    "b1": ClassifyHeadSpec(1536, 1600),
    "b2": ClassifyHeadSpec(2304, 2560),
    "b3": ClassifyHeadSpec(2304, 2560),
    "l1": ClassifyHeadSpec(3072, 3200),
    "l2": ClassifyHeadSpec(3072, 3200),
    "l3": ClassifyHeadSpec(6144, 6400),
}

SEGMENT_HEADS: dict[tuple[str, str], SegmentHeadSpec] = {
    ("b0", "cityscapes"): SegmentHeadSpec(32, 1, 4, "mb", 4),
    ("b1", "cityscapes"): SegmentHeadSpec(64, 3, 4, "mb", 4),
    ("b2", "cityscapes"): SegmentHeadSpec(96, 3, 4, "mb", 4),
    ("b3", "cityscapes"): SegmentHeadSpec(128, 3, 4, "mb", 4),
    ("l1", "cityscapes"): SegmentHeadSpec(256, 3, 1, "fmb", None),
    ("l2", "cityscapes"): SegmentHeadSpec(256, 5, 1, "fmb", None),
    ("b1", "ade20k"): SegmentHeadSpec(64, 3, 4, "mb", None),
    ("b2", "ade20k"): SegmentHeadSpec(96, 3, 4, "mb", None),
    ("b3", "ade20k"): SegmentHeadSpec(128, 3, 4, "mb", None),
    ("l1", "ade20k"): SegmentHeadSpec(128, 3, 4, "fmb", 8),
    ("l2", "ade20k"): SegmentHeadSpec(128, 3, 4, "fmb", 8),
}

_B0_DEPTHS = (1, 2, 2, 2, 2)
ABLATIONS: dict[str, BackboneSpec] = {
    "no-multiscale": replace(
        _b("b0-no-multiscale", (8, 16, 32, 80, 112), _B0_DEPTHS, 16), attention_scales=()
    ),
    "no-attention": replace(
        _b("b0-no-attention", (8, 16, 40, 64, 144), _B0_DEPTHS, 16), global_attention=False
    ),
    "local": replace(
        _b("b0-local", (8, 16, 40, 80, 160), _B0_DEPTHS, 16),
        attention_scales=(),
        global_attention=False,
    ),
}
"""B0 without multi-scale aggregation, without global attention, and without both (paper Table 1).

The paper rescales the width of each until it costs what B0 costs, and does not give the widths.
These are ours: multiples of 8 (of 16, one head, in stages 3 and 4) that bring seg-b0-cityscapes
to within 2 % of its 4.39 GMACs at 1024x2048, its head as it is; counted in
`tests/models/test_ablations.py`.
"""

SUPERRES_PREPROCESS = Preprocess(
    ImageSize(160, 240), mean_rgb=(0.5, 0.5, 0.5), std_rgb=(0.25, 0.25, 0.25), stride=4
)
"""RGB of 0..1 around zero, with a deviation near 1: without a norm, hard-swish needs that to bend.

The size is that of the paper's BSD100 row; an image is taken at its own size, its sides padded to
multiples of the stride and the result cropped.
"""


def _superres(
    name: str,
    widths: tuple[int, ...],
    depths: tuple[int, ...],
    *,
    head: tuple[int, int],
    dim: int = 16,
    kind: BlockKind = "mb",
    expand: int = 4,
    norm_eps: float | None = None,
) -> dict[str, Variant]:
    """A backbone at strides 1, 1, 2, 4 (stem: 1) with a head for twice and for four times the size.

    `depths` of stages 1 and 2 count their entry, those of 3 and 4 do not. `kind` are the blocks at
    the input's resolution; `expand` holds for all that expand.
    """
    e = expand
    stages = (
        *(Stage(widths[i], depths[i] - 1, kind, e, e, stride=1) for i in (0, 1)),
        *(Stage(widths[i], depths[i], "att", e, e, bias_instead_of_norm=True) for i in (2, 3)),
    )
    spec = BackboneSpec(name, widths[0], 0, "ds", stages, dim, "hswish", norm_eps, stem_stride=1)
    return {
        f"{name}-x{scale}": Variant(
            f"{name}-x{scale}",
            Task.SUPERRES,
            spec,
            SuperresHeadSpec(*head, e, kind, scale),
            num_classes=0,
            dataset="",
            ours=True,
        )
        for scale in (2, 4)
    }


SUPERRES: dict[str, Variant] = {
    **_superres("sr-xs", (16, 16, 32, 64), (1, 2, 2, 2), head=(16, 2)),
    **_superres("sr-xs-res", (16, 16, 32, 64), (2, 2, 1, 1), head=(16, 1), kind="res", expand=2),
    **_superres(
        "sr-xs-res-bn",
        (16, 16, 32, 64),
        (2, 2, 1, 1),
        head=(16, 1),
        kind="res",
        expand=2,
        norm_eps=1e-5,
    ),
    **_superres("sr-s", (16, 32, 64, 128), (1, 2, 3, 3), head=(32, 2)),
    **_superres("sr-s-w075", (12, 24, 48, 96), (1, 2, 3, 3), head=(24, 2)),
    **_superres("sr-b", (32, 64, 128, 256), (1, 2, 4, 4), head=(64, 3), dim=32),
    **_superres("sr-b-w075", (24, 48, 96, 192), (1, 2, 4, 4), head=(48, 3), dim=32),
}
"""Our reading of the paper's macro design; neither its sizes nor its weights were published.

`sr-xs-res` departs from the paper in stages 1 and 2 and in the head: pairs of dense 3x3
convolutions are there in place of MBConv. At 16 channels that costs fewer MACs than `sr-xs`, less
time on a CPU, and learns faster (docs/train-superres.md). None has a norm but `sr-xs-res-bn`, which
is there to compare.
"""

_SAM_DECODER = SamDecoderSpec()
_SMALL_DECODER = SamDecoderSpec(dim=128, mlp_width=512, iou_width=128, drawn=True)


def _sam(name: str, backbone: str, head: SamHeadSpec) -> Variant:
    # Every norm of the published SAM models has this epsilon, the backbone's too.
    spec = replace(BACKBONES[backbone], norm_eps=1e-6)
    return Variant(name, Task.SAM, spec, head, num_classes=0, dataset="")


SAM: dict[str, Variant] = {
    "sam-l0": _sam("sam-l0", "l0", SamHeadSpec(256, 4, 1, "fmb", 512, _SAM_DECODER)),
    "sam-l1": _sam("sam-l1", "l1", SamHeadSpec(256, 8, 1, "fmb", 512, _SAM_DECODER)),
    "sam-l2": _sam("sam-l2", "l2", SamHeadSpec(256, 12, 1, "fmb", 512, _SAM_DECODER)),
    "sam-xl0": _sam("sam-xl0", "xl0", SamHeadSpec(256, 6, 4, "fmb", 1024, _SAM_DECODER)),
    "sam-xl1": _sam("sam-xl1", "xl1", SamHeadSpec(256, 12, 4, "fmb", 1024, _SAM_DECODER)),
    "sam-b0": replace(
        _sam("sam-b0", "b0", SamHeadSpec(128, 2, 2, "mb", 512, _SMALL_DECODER)), ours=True
    ),
}
"""Segment Anything (arXiv 2402.05008). `sam-b0` is ours: small enough to travel with evit."""

DATASET_CLASSES = {"imagenet": 1000, "cityscapes": 19, "ade20k": 150}


def _all_variants() -> dict[str, Variant]:
    variants = {
        f"cls-{b}": Variant(f"cls-{b}", Task.CLASSIFY, BACKBONES[b], head, 1000, "imagenet")
        for b, head in CLASSIFY_HEADS.items()
    }
    for (b, dataset), head in SEGMENT_HEADS.items():
        name = f"seg-{b}-{dataset}"
        variants[name] = Variant(
            name, Task.SEGMENT, BACKBONES[b], head, DATASET_CLASSES[dataset], dataset
        )
    base = variants["seg-b0-cityscapes"]
    for ablation, backbone in ABLATIONS.items():
        name = f"{base.name}-{ablation}"
        variants[name] = replace(base, name=name, backbone=backbone, ablation_of=base.name)
    return variants | SUPERRES | SAM


VARIANTS: dict[str, Variant] = _all_variants()


def get_variant(name: str, *, num_classes: int | None = None) -> Variant:
    """The variant called `name`, with `num_classes` in place of the published class count.

    Raises:
        EvitError: there is no variant of that name, or `num_classes` is not positive.
    """
    if name not in VARIANTS:
        raise EvitError(f"there is no model variant '{name}'", hint=suggest(name, VARIANTS))
    if num_classes is None:
        return VARIANTS[name]
    if VARIANTS[name].num_classes == 0:
        raise EvitError(f"{name} has no classes")
    if num_classes < 1:
        raise EvitError(f"a model needs at least 1 class, got {num_classes}")
    return replace(VARIANTS[name], num_classes=num_classes)


def own_info(variant: Variant) -> ModelInfo:
    """What a model of a variant that is ours says about itself, before it has weights."""
    preprocess = SUPERRES_PREPROCESS
    if isinstance(variant.head, SamHeadSpec):
        side = variant.head.input_side
        preprocess = Preprocess(ImageSize(side, side), interpolation="linear")
    return ModelInfo(variant.name, variant.task, preprocess)
