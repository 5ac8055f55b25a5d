"""Every published checkpoint as one line: where it is, what it is, what it reached.

Nothing heavy is imported here. Hashes and byte counts are given where they are known and are None
elsewhere. Parameters and multiply-accumulates (MACs) are of the whole classification or
segmentation model; for SAM the MACs are the image encoder's.
"""

from __future__ import annotations

from dataclasses import dataclass

from evit_cli.errors import EvitError, suggest
from evit_cli.models.classes import class_set
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task

APACHE = "Apache-2.0"


@dataclass(frozen=True)
class CatalogEntry:
    """One published weights file.

    Attributes:
        name: what a user types.
        task: what the model does.
        variant: its name in `evit_cli.models.variants.VARIANTS`; SAM models are not in there.
        repo: Hugging Face Hub repository, "owner/name".
        file: path of the file inside the repository.
        revision: branch, tag or commit.
        sha256: of the file, None where unknown.
        size_bytes: of the file, None where unknown.
        licence: SPDX identifier.
        preprocess: how an image becomes the model's input.
        dataset: the class set of the outputs ("imagenet", "cityscapes", "ade20k"), "" for SAM.
        metric: the published result with its data set.
        params: parameters of the model.
        macs: multiply-accumulates with the input size they hold for.
        aliases: further names.
    """

    name: str
    task: Task
    variant: str
    repo: str
    file: str
    revision: str
    sha256: str | None
    size_bytes: int | None
    licence: str
    preprocess: Preprocess
    dataset: str
    metric: str
    params: int
    macs: str
    aliases: tuple[str, ...] = ()

    @property
    def info(self) -> ModelInfo:
        """What a model with these weights says about itself, as far as is known without them."""
        return ModelInfo(
            name=self.name,
            task=self.task,
            preprocess=self.preprocess,
            classes=class_set(self.dataset) if self.dataset else None,
            licence=self.licence,
            sha256=self.sha256 or "",
        )

    @property
    def approximate_bytes(self) -> int:
        """The size of the file, or of its float32 parameters where that is unknown."""
        return self.size_bytes or 4 * self.params


_CITYSCAPES = Preprocess(ImageSize(1024, 2048))
_ADE20K = Preprocess(ImageSize(512, 512))  # 512 is the short side; the long one follows the image

_SEG_B0_SHA256 = "923d6fdd5e93640cc0c2f3f213764f34e80b477cd98a6b294d870ea6df5acc50"

# backbone, data set, mIoU, parameters, GMACs
_SEGMENT: tuple[tuple[str, str, str, int, str], ...] = (
    ("b0", "cityscapes", "75.653", 706_691, "4.39"),
    ("b1", "cityscapes", "80.547", 4_803_443, "25.11"),
    ("b2", "cityscapes", "82.073", 15_323_779, "73.64"),
    ("b3", "cityscapes", "83.016", 39_603_155, "179.23"),
    ("l1", "cityscapes", "82.716", 40_242_227, "282.48"),
    ("l2", "cityscapes", "83.228", 52_607_923, "396.12"),
    ("b1", "ade20k", "42.840", 4_791_414, "3.09"),
    ("b2", "ade20k", "45.941", 15_293_382, "9.08"),
    ("b3", "ade20k", "49.013", 39_546_198, "22.17"),
    ("l1", "ade20k", "49.191", 40_409_526, "36.34"),
    ("l2", "ade20k", "50.702", 51_462_454, "45.18"),
)

_CLASSIFY_PARAMS = {
    "b0": 3_410_008,
    "b1": 9_102_024,
    "b2": 24_330_712,
    "b3": 48_646_056,
    "l1": 52_654_088,
    "l2": 63_707_016,
    "l3": 246_037_288,
}

# backbone, side, top-1 (its origin where it is not the authors'), GMACs
_CLASSIFY: tuple[tuple[str, int, str, str], ...] = (
    ("b0", 224, "71.408 (ImageNet val, evaluated by timm)", "0.100"),
    ("b1", 224, "79.390", "0.519"),
    ("b1", 256, "79.918", "0.677"),
    ("b1", 288, "80.410", "0.856"),
    ("b2", 224, "82.100", "1.585"),
    ("b2", 256, "82.698", "2.068"),
    ("b2", 288, "83.086", "2.614"),
    ("b3", 224, "83.468", "3.954"),
    ("b3", 256, "83.806", "5.162"),
    ("b3", 288, "84.150", "6.530"),
    ("l1", 224, "84.484", "5.258"),
    ("l2", 224, "85.050", "6.950"),
    ("l2", 256, "85.366", "9.073"),
    ("l2", 288, "85.630", "11.48"),
    ("l2", 320, "85.734", "14.17"),
    ("l2", 384, "85.978", "20.40"),
    ("l3", 224, "85.814", "27.59"),
    ("l3", 256, "85.938", "36.02"),
    ("l3", 288, "86.070", "45.57"),
    ("l3", 320, "86.230", "56.25"),
    ("l3", 384, "86.408", "80.98"),
)

# backbone, side, top-1 where timm's evaluation is known
_TIMM: tuple[tuple[str, int, str], ...] = (
    ("b0", 224, "71.408"),
    ("b1", 224, "79.254"),
    ("b1", 256, ""),
    ("b1", 288, ""),
    ("b2", 224, "82.162"),
    ("b2", 256, ""),
    ("b2", 288, ""),
    ("b3", 224, "83.444"),
    ("b3", 256, ""),
    ("b3", 288, ""),
    ("l1", 224, "84.464"),
    ("l2", 224, ""),
    ("l2", 256, ""),
    ("l2", 288, ""),
    ("l2", 384, "85.984"),
    ("l3", 224, ""),
    ("l3", 256, ""),
    ("l3", 320, ""),
    ("l3", 384, "86.396"),
)

_SAM_SHA256 = {
    "l0": "c4f994b01a16d48bcf2fbbb089448cfbf58fae5811edfa8113c953b8b8cc64b8",
    "l1": "fa151df2b9b96896accd505470755cdd293a4c50cdabac95478f3fbd86d9152b",
    "l2": "d4bfd842224cbb99de09acc3325e81ac5b7e8725c8fbdab152305e5d934bfe4a",
    "xl0": "9bc2f87bd23d6e6d1f7b5beff910f98835c7c333fac73e695bac0bec685968f8",
    "xl1": "10f42277679427c1183dcff19758e536aa86bcc4304e4b387ff48865784be05c",
}

# backbone, side of the encoder's input, COCO mAP with ViTDet boxes, parameters, GMACs
_SAM: tuple[tuple[str, int, str, int, str], ...] = (
    ("l0", 512, "45.7", 34_792_784, "34.8"),
    ("l1", 512, "46.2", 47_650_128, "49.0"),
    ("l2", 512, "46.6", 61_328_592, "68.6"),
    ("xl0", 1024, "47.5", 116_957_904, "184.8"),
    ("xl1", 1024, "47.8", 203_346_128, "321.9"),
)


def _segment(backbone: str, dataset: str, miou: str, params: int, gmacs: str) -> CatalogEntry:
    name = f"seg-{backbone}-{dataset}"
    known = name == "seg-b0-cityscapes"
    city = dataset == "cityscapes"
    return CatalogEntry(
        name=name,
        task=Task.SEGMENT,
        variant=name,
        repo="han-cai/efficientvit-seg",
        file=f"efficientvit_seg_{backbone}_{dataset}.pt",
        revision="main",
        sha256=_SEG_B0_SHA256 if known else None,
        size_bytes=2_924_013 if known else None,
        licence=APACHE,
        preprocess=_CITYSCAPES if city else _ADE20K,
        dataset=dataset,
        metric=f"mIoU {miou} ({'Cityscapes' if city else 'ADE20K'} val)",
        params=params,
        macs=f"{gmacs}G @{'1024x2048' if city else '512x512'}",
    )


def _classify(backbone: str, side: int, top1: str, gmacs: str) -> CatalogEntry:
    crop_ratio = 0.95 if backbone in ("b0", "b1") else 1.0
    return CatalogEntry(
        name=f"cls-{backbone}-r{side}",
        task=Task.CLASSIFY,
        variant=f"cls-{backbone}",
        repo="han-cai/efficientvit-cls",
        file=f"efficientvit_{backbone}_r{side}.pt",
        revision="main",
        sha256=None,
        size_bytes=None,
        licence=APACHE,
        preprocess=Preprocess(ImageSize(side, side), crop_ratio=crop_ratio),
        dataset="imagenet",
        metric=f"top-1 {top1}" if "(" in top1 else f"top-1 {top1} (ImageNet val)",
        params=_CLASSIFY_PARAMS[backbone],
        macs=f"{gmacs}G @{side}x{side}",
        aliases=(f"cls-{backbone}",) if side == 224 else (),
    )


def _timm(backbone: str, side: int, top1: str) -> CatalogEntry:
    crop_ratio = 0.95 if backbone[0] == "b" and side == 224 else 1.0
    gmacs = {(b, s): g for b, s, _, g in _CLASSIFY}[backbone, side]
    repo = f"timm/efficientvit_{backbone}.r{side}_in1k"
    return CatalogEntry(
        name=f"cls-{backbone}-r{side}-timm",
        task=Task.CLASSIFY,
        variant=f"cls-{backbone}",
        repo=repo,
        file="model.safetensors",
        revision="main",
        sha256=None,
        size_bytes=None,
        licence=APACHE,
        preprocess=Preprocess(ImageSize(side, side), crop_ratio=crop_ratio),
        dataset="imagenet",
        metric=f"top-1 {top1} (ImageNet val, evaluated by timm)" if top1 else "",
        params=_CLASSIFY_PARAMS[backbone],
        macs=f"{gmacs}G @{side}x{side}",
        aliases=(repo,),
    )


def _sam(backbone: str, side: int, coco_map: str, params: int, gmacs: str) -> CatalogEntry:
    return CatalogEntry(
        name=f"sam-{backbone}",
        task=Task.SAM,
        variant=f"sam-{backbone}",
        repo="mit-han-lab/efficientvit-sam",
        file=f"efficientvit_sam_{backbone}.pt",
        revision="main",
        sha256=_SAM_SHA256[backbone],
        size_bytes=None,
        licence=APACHE,
        # SAM's mean 123.675, 116.28, 103.53 and std 58.395, 57.12, 57.375 over 255 are ImageNet's.
        preprocess=Preprocess(ImageSize(side, side), interpolation="linear"),
        dataset="",
        metric=f"mAP {coco_map} (COCO val, ViTDet boxes)",
        params=params,
        macs=f"{gmacs}G @{side}x{side}",
    )


PUBLISHED: dict[str, CatalogEntry] = {
    entry.name: entry
    for entry in (
        *(_segment(*row) for row in _SEGMENT),
        *(_classify(*row) for row in _CLASSIFY),
        *(_sam(*row) for row in _SAM),
    )
}
"""The authors' own files, by name."""

TIMM: dict[str, CatalogEntry] = {entry.name: entry for entry in (_timm(*row) for row in _TIMM)}
"""The same classifiers as timm hosts them, by name."""

CATALOG: dict[str, CatalogEntry] = {**PUBLISHED, **TIMM}

_BY_NAME: dict[str, CatalogEntry] = {
    **{alias: entry for entry in CATALOG.values() for alias in entry.aliases},
    **CATALOG,
}


def find_entry(name: str) -> CatalogEntry | None:
    """The entry called `name` (or with that alias), None if there is none."""
    return _BY_NAME.get(name)


def get_entry(name: str) -> CatalogEntry:
    """The entry called `name`, or with that alias.

    Raises:
        EvitError: there is no such entry; the hint suggests close names.
    """
    entry = find_entry(name)
    if entry is None:
        raise EvitError(f"there is no model '{name}' in the catalog", hint=suggest(name, _BY_NAME))
    return entry


def entry_of_file(repo: str, file: str) -> CatalogEntry | None:
    """The entry whose weights are `file` in the hub repository `repo`."""
    found = (e for e in CATALOG.values() if e.repo == repo and e.file == file)
    return next(found, None)


def entry_of_variant(variant: str) -> CatalogEntry | None:
    """The entry that stands for `variant`: for classifiers the one at 224 pixels."""
    return next((e for e in PUBLISHED.values() if e.variant == variant), None)
