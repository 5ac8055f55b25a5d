"""The peers: every model of others in the paper's Tables 2 to 6, and what builds it here.

Names are what a user types. Nothing heavy is imported here. Parameters are exact for what a library
builds (a test counts them), and rounded as published for the rest. MACs are the paper's, at the
peer's own size.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evit_cli.errors import UsageError, suggest
from evit_cli.types import ImageSize, Task

CITYSCAPES = ImageSize(1024, 2048)
ADE20K = ImageSize(512, 512)
SMALL_SR = ImageSize(160, 240)


@dataclass(frozen=True)
class Peer:
    """A model of others.

    Attributes:
        name: what a user types.
        task: what it does.
        size_hw: the input size of the paper's row.
        params: parameters, None where they are not known to us.
        library: the Python module that builds it, "" where no well-kept one does.
        needs: further modules that the library wants for this one.
        family: which function of `evit_cli.bench.peers.families` builds it.
        options: what that function needs to know.
        classes: outputs, 0 where there are no classes.
        published_params: as in the paper's table, rounded; None where it stands in no table.
        published_gmacs: the same of multiply-accumulates of one image, in 1e9.
        stride: sides of the input must be multiples of this.
        square: whether height and width must be equal.
        note: what a reader of its numbers should know.
        nearest: peers to take in its place.
    """

    name: str
    task: Task
    size_hw: ImageSize
    params: int | None
    library: str = ""
    needs: tuple[str, ...] = ()
    family: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int = 0
    published_params: int | None = None
    published_gmacs: float | None = None
    stride: int = 32
    square: bool = False
    note: str = ""
    nearest: tuple[str, ...] = ()

    @property
    def macs(self) -> int | None:
        """Multiply-accumulates of one image at `size_hw`, as published."""
        return None if self.published_gmacs is None else round(self.published_gmacs * 1e9)


# size: parameters with 19 classes and with 150, (published millions), {data set: published GMACs}
_SEGFORMER: dict[str, tuple[int, int, int | None, dict[str, float]]] = {
    "b0": (3_719_027, 3_752_694, None, {}),
    "b1": (13_682_131, 13_715_798, 14, {"cityscapes": 244, "ade20k": 16}),
    "b2": (27_361_235, 27_461_974, 28, {"ade20k": 62}),
    "b3": (47_237_075, 47_337_814, 47, {"cityscapes": 963}),
    "b4": (64_007_635, 64_108_374, 64, {"ade20k": 96}),
    "b5": (84_607_955, 84_708_694, 85, {"cityscapes": 1460}),
}

# size: published parameters, published GMACs on Cityscapes and ADE20K
_SEGNEXT: dict[str, tuple[int, float, float | None]] = {
    "t": (4_300_000, 51, 6.6),
    "s": (14_000_000, 125, 16),
    "b": (28_000_000, 276, 35),
    "l": (49_000_000, 578, None),
}

# name: parameters, published millions and GMACs, family, options
_CLASSIFY: dict[str, tuple[int, int | None, float | None, str, str | dict[str, Any]]] = {
    "swin-t": (28_288_354, None, None, "swin", {"dim": 96, "depth": 6, "heads": 3}),
    "swin-s": (49_606_258, None, None, "swin", {"dim": 96, "depth": 18, "heads": 3}),
    "swin-b": (87_768_224, 88, 15, "swin", {"dim": 128, "depth": 18, "heads": 4}),
    "convnext-t": (28_589_128, 29, 4.5, "convnext", {"dim": 96, "depth": 9}),
    "convnext-s": (50_223_688, 50, 8.7, "convnext", {"dim": 96, "depth": 27}),
    "convnext-b": (88_591_464, 89, 15, "convnext", {"dim": 128, "depth": 27}),
    "convnext-l": (197_767_336, 198, 34, "convnext", {"dim": 192, "depth": 27}),
    "coatnet-0": (25_036_820, 25, 4.2, "timm", "coatnet_0_224"),
    "coatnet-1": (42_225_776, 42, 8.4, "timm", "coatnet_1_224"),
    "coatnet-2": (74_684_744, 75, 16, "timm", "coatnet_2_224"),
    "coatnet-3": (166_966_264, 168, 35, "timm", "coatnet_3_224"),
    "efficientnetv2-s": (21_458_488, 22, 8.8, "timm", "efficientnetv2_s"),
    "efficientnetv2-m": (54_139_356, 54, 25, "timm", "efficientnetv2_m"),
    "efficientnetv2-l": (118_515_272, 120, 53, "timm", "efficientnetv2_l"),
}

_SIDES = {"efficientnetv2-s": 384, "efficientnetv2-m": 480, "efficientnetv2-l": 480}


def _segformer(size: str, dataset: str) -> Peer:
    params19, params150, millions, gmacs = _SEGFORMER[size]
    city = dataset == "cityscapes"
    return Peer(
        f"segformer-{size}" + ("" if city else "-ade20k"),
        Task.SEGMENT,
        CITYSCAPES if city else ADE20K,
        params19 if city else params150,
        library="transformers",
        family="segformer",
        options={"size": size},
        classes=19 if city else 150,
        published_params=None if millions is None else millions * 10**6,
        published_gmacs=gmacs.get(dataset),
    )


def _segnext(size: str, dataset: str) -> Peer:
    params, city_gmacs, ade_gmacs = _SEGNEXT[size]
    city = dataset == "cityscapes"
    return Peer(
        f"segnext-{size}" + ("" if city else "-ade20k"),
        Task.SEGMENT,
        CITYSCAPES if city else ADE20K,
        params,
        classes=19 if city else 150,
        published_params=params,
        published_gmacs=city_gmacs if city else ade_gmacs,
        note="only mmsegmentation has it, whose last release is of 2023 and needs a compiled mmcv",
        nearest=("segformer-b0", "segformer-b1") if city else ("segformer-b1-ade20k",),
    )


def _classify(name: str) -> Peer:
    params, millions, gmacs, family, options = _CLASSIFY[name]
    side = _SIDES.get(name, 224)
    return Peer(
        name,
        Task.CLASSIFY,
        ImageSize(side, side),
        params,
        library="timm" if family == "timm" else "transformers",
        family=family,
        options=options if isinstance(options, dict) else {"name": options},
        classes=1000,
        published_params=None if millions is None else millions * 10**6,
        published_gmacs=gmacs,
        square=True,
    )


def _fastervit(size: int, millions: int, gmacs: float) -> Peer:
    return Peer(
        f"fastervit-{size}",
        Task.CLASSIFY,
        ImageSize(224, 224),
        millions * 10**6,
        classes=1000,
        published_params=millions * 10**6,
        published_gmacs=gmacs,
        square=True,
        note="the authors' own package builds another size: its FasterViT-4 has 366M parameters "
        "where the paper has 425M",
        nearest=("efficientnetv2-m", "efficientnetv2-l"),
    )


def _masks(name: str, params: int, millions: int, gmacs: float) -> Peer:
    return Peer(
        name,
        Task.SEGMENT,
        ADE20K,
        params,
        library="transformers",
        needs=("scipy",),
        family=name.partition("-")[0],
        options={"dim": 96, "depth": 6, "heads": 3},
        classes=150,
        published_params=millions * 10**6,
        published_gmacs=gmacs,
        note="the paper's row names no backbone; its parameters and MACs are those of Swin-T",
    )


_OTHERS = (
    Peer(
        "deeplabv3plus-mbv2",
        Task.SEGMENT,
        CITYSCAPES,
        15_000_000,
        classes=19,
        published_params=15_000_000,
        published_gmacs=555,
        note="the paper's is mmsegmentation's (15M, 555G); the DeepLabV3+ of other libraries has a "
        "third of its parameters and a fraction of its MACs",
        nearest=("deeplabv3plus-mbv2-smp",),
    ),
    Peer(
        "deeplabv3plus-mbv2-smp",
        Task.SEGMENT,
        CITYSCAPES,
        4_383_139,
        library="segmentation_models_pytorch",
        family="deeplab",
        classes=19,
        note="not the paper's: 4.4M instead of 15M parameters, output stride 16",
    ),
    Peer(
        "swinir",
        Task.SUPERRES,
        SMALL_SR,
        910_152,
        library="spandrel",
        family="swinir",
        stride=8,
        note="the lightweight SwinIR for x2; the paper does not say which, but its PSNR on "
        "BSD100 is that one's",
    ),
    Peer(
        "swin2sr",
        Task.SUPERRES,
        SMALL_SR,
        1_005_348,
        library="transformers",
        family="swin2sr",
        stride=8,
        note="SwinIR's successor in its lightweight form for x2; not in the paper",
    ),
    Peer(
        "restormer",
        Task.SUPERRES,
        SMALL_SR,
        26_126_644,
        library="spandrel_extra_arches",
        family="restormer",
        stride=8,
        note="at the input's size, as it restores: how the paper made it double the size is not "
        "published, and a pixel shuffle would add less than 1 % of its multiply-accumulates",
    ),
    Peer("vapsr", Task.SUPERRES, SMALL_SR, None, stride=1, nearest=("swin2sr", "swinir")),
    Peer("bsrn", Task.SUPERRES, SMALL_SR, None, stride=1, nearest=("swin2sr", "swinir")),
    Peer(
        "sam-vit-h",
        Task.SAM,
        ImageSize(1024, 1024),
        637_026_048,
        library="transformers",
        family="sam",
        published_params=641_000_000,
        published_gmacs=2973,
        stride=16,
        square=True,
        note="the image encoder is what runs (637M of the 641M parameters)",
    ),
)

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        *(_segformer(size, "cityscapes") for size in _SEGFORMER),
        *(_segformer(size, "ade20k") for size in _SEGFORMER),
        *(_segnext(size, "cityscapes") for size in _SEGNEXT),
        *(_segnext(size, "ade20k") for size in ("t", "s", "b")),
        *(_classify(name) for name in _CLASSIFY),
        _fastervit(4, 425, 37),
        _fastervit(6, 1360, 142),
        _masks("mask2former-swin-t", 47_441_169, 47, 74),
        _masks("maskformer-swin-t", 41_758_545, 42, 55),
        *_OTHERS,
    )
}
"""Every peer, by name."""


def find_peer(name: str) -> Peer:
    """The peer called `name`.

    Raises:
        UsageError: there is none; the hint suggests close names.
    """
    if name not in PEERS:
        raise UsageError(f"there is no model or peer '{name}'", hint=suggest(name, PEERS))
    return PEERS[name]
