"""Segmentation sets on disk: Cityscapes, ADE20K, CamVid and a plain pair of folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.data.class_names import listed_names, numbered_names, published_names
from evit_cli.data.label_values import LabelMap, VoidToIgnore, count_classes, minus_one
from evit_cli.data.sample import (
    IGNORE,
    ImageU8,
    Labels,
    Part,
    SegmentItem,
    check_labels,
    check_size,
    read_labels,
    wrong_layout,
)
from evit_cli.data.split import held_out, part_folder
from evit_cli.errors import EvitError, UsageError, suggest
from evit_cli.media.images import read_image

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")

# Cityscapes' labelIds 0..33 -> the 19 train ids; every other label is ignored.
_CITYSCAPES_IDS = np.full(256, IGNORE, np.int16)
_CITYSCAPES_IDS[[7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]] = np.arange(19)

CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip
_CAMVID_VOID = 11
_ADE20K_FOLDERS = {"train": "training", "val": "validation"}


@dataclass(frozen=True)
class SegmentationSet:
    """A set of images with class maps.

    Attributes:
        name: of the set.
        items: where images and labels are.
        num_classes: how many classes the labels have.
        to_classes: from the values in the label files to class indices, `IGNORE` for void.
        classes: their names; by default they are numbered.
    """

    name: str
    items: Sequence[SegmentItem]
    num_classes: int
    to_classes: LabelMap
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            object.__setattr__(self, "classes", numbered_names(self.num_classes))

    def __len__(self) -> int:
        return len(self.items)

    def label(self, item: SegmentItem) -> Labels:
        """(H, W) class indices of one item, `IGNORE` where nothing is to be learnt.

        Raises:
            EvitError: the file does not decode, or holds a label that the set does not have.
        """
        raw = read_labels(item.label)
        return check_labels(self.to_classes(raw), self.num_classes, item.label)

    def read(self, index: int) -> tuple[ImageU8, Labels]:
        """RGB (H, W, 3) uint8 and its (H, W) int16 class indices, `IGNORE` for void.

        Raises:
            EvitError: a file does not decode, a label is out of range, or the sizes differ.
        """
        item = self.items[index]
        image, labels = read_image(item.image)[0], self.label(item)
        check_size(image, labels, str(item.label))
        return image, labels

    def where(self, index: int) -> str:
        """The image file."""
        return str(self.items[index].image)


def _paired(images: Path, labels: Path) -> list[SegmentItem]:
    """Images and labels that have the same name, whatever their suffixes, in order of name."""
    by_stem = {path.stem: path for path in labels.iterdir() if path.suffix.lower() in _IMAGES}
    found = sorted(path for path in images.iterdir() if path.suffix.lower() in _IMAGES)
    missing = [path for path in found if path.stem not in by_stem]
    if missing:
        raise EvitError(
            f"{missing[0]} has no label in {labels}",
            hint="an image and its label have the same name, up to the suffix",
        )
    return [SegmentItem(path, by_stem[path.stem]) for path in found]


def cityscapes(root: Path, part: Part = "val") -> SegmentationSet:
    """Cityscapes: `leftImg8bit/val/CITY/*_leftImg8bit.png` with `gtFine` beside it; or `train`.

    Raises:
        EvitError: the folder is laid out in another way, or an image has no label.
    """
    images = sorted((root / "leftImg8bit" / part).glob("*/*_leftImg8bit.png"))
    items = [
        SegmentItem(
            path,
            root / "gtFine" / part / path.parent.name
            / path.name.replace("_leftImg8bit", "_gtFine_labelIds"),
        )
        for path in images
    ]  # fmt: skip
    absent = next((item.label for item in items if not item.label.is_file()), None)
    if not items or absent:
        raise wrong_layout(
            root,
            [
                f"leftImg8bit/{part}/CITY/NAME_leftImg8bit.png",
                f"gtFine/{part}/CITY/NAME_gtFine_labelIds.png",
            ],
            f"{absent} is missing" if absent else f"leftImg8bit/{part} has no image",
        )
    names = published_names("cityscapes")
    return SegmentationSet("cityscapes", items, len(names), _cityscapes_classes, names)


def _cityscapes_classes(raw: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    """Train ids; values that no label id has stay as they are, to be reported."""
    known = raw < len(_CITYSCAPES_IDS)
    return np.where(known, _CITYSCAPES_IDS[np.where(known, raw, 0)], raw.astype(np.int32))


def ade20k(root: Path, part: Part = "val") -> SegmentationSet:
    """ADE20K: `images/validation/*.jpg`, `annotations/validation/*.png` (label - 1).

    The training part is in folders named `training`.

    Raises:
        EvitError: the folder is laid out in another way, or an image has no label.
    """
    folder = _ADE20K_FOLDERS[part]
    images, labels = root / "images" / folder, root / "annotations" / folder
    there = images.is_dir() and labels.is_dir()
    items = _paired(images, labels) if there else []
    if not items:
        raise wrong_layout(
            root,
            [f"images/{folder}/NAME.jpg", f"annotations/{folder}/NAME.png"],
            f"images/{folder} has no image" if there else "a folder is missing",
        )
    names = published_names("ade20k")
    return SegmentationSet("ade20k", items, len(names), minus_one, names)


def camvid(root: Path, part: Part = "val") -> SegmentationSet:
    """CamVid with 11 classes: `images/*.png` and `labels/*.png`, 11 being void.

    Both are in `root/train` and `root/val`; a `root` that holds them itself is taken as the part
    that is wanted.

    Raises:
        EvitError: the folder is laid out in another way, or an image has no label.
    """
    items, _ = _folder_items(root, part, None)
    void = VoidToIgnore(_CAMVID_VOID)
    return SegmentationSet("camvid", items, len(CAMVID_CLASSES), void, CAMVID_CLASSES)


def folders(
    root: Path,
    part: Part = "val",
    *,
    num_classes: int | None = None,
    void: int | None = 255,
    val_share: float | None = None,
    name: str = "folders",
) -> SegmentationSet:
    """One's own data: `images/` and `labels/` with files of the same names.

    Both are in `root/train` and `root/val`, or in `root` itself.

    Args:
        root: the folder that holds both, and maybe `classes.txt` with one name per line.
        part: which part is wanted.
        num_classes: labels are 0 .. num_classes - 1. `classes.txt` has the last word; with neither,
            all label files are read to find the largest label.
        void: the value of pixels that do not count, None if there is none.
        val_share: share held out where there is no folder `val`; None takes all of `root` for
            the part that is wanted.
        name: of the set.

    Raises:
        EvitError: the folder is laid out in another way, or an image has no label.
    """
    items, base = _folder_items(root, part, val_share)
    names = listed_names(root)
    if names is None and num_classes is None:
        bases = [base] if base == root else [root / "train", root / "val"]
        num_classes = count_classes([path for b in bases for path in _label_files(b)], void)
    if names is None:
        names = numbered_names(num_classes or 0)
    return SegmentationSet(name, items, len(names), VoidToIgnore(void), names)


def _holds_folders(base: Path) -> bool:
    return (base / "images").is_dir() and (base / "labels").is_dir()


def _label_files(base: Path) -> list[Path]:
    """The label files of a part, none if it is not there."""
    if not _holds_folders(base):
        return []
    return sorted(path for path in (base / "labels").iterdir() if path.suffix.lower() in _IMAGES)


def _folder_items(
    root: Path, part: Part, val_share: float | None
) -> tuple[list[SegmentItem], Path]:
    """The pairs of one part, and the folder with `images/` and `labels/` that they are in."""
    place = part_folder(root, part, holds=_holds_folders, val_share=val_share)
    tree = [
        f"{part}/images/NAME.jpg", f"{part}/labels/NAME.png", "or without train/ and val/:",
        "images/NAME.jpg", "labels/NAME.png",
    ]  # fmt: skip
    if place is None:
        raise wrong_layout(root, tree, "a folder is missing")
    base, share = place
    items = _paired(base / "images", base / "labels")
    if not items:
        raise wrong_layout(root, tree, f"{base / 'images'} has no image")
    keys = [item.image.stem for item in items]
    return [items[i] for i in held_out(keys, part, val_share=share, root=base)], base


_SETS: dict[str, Callable[[Path, Part], SegmentationSet]] = {
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "camvid": camvid,
}


def open_segmentation_set(
    name: str,
    root: Path,
    *,
    part: Part = "val",
    num_classes: int | None = None,
    void: int | None = 255,
    val_share: float | None = None,
) -> SegmentationSet:
    """A set by its name; "folders" is one's own data, to which alone the options apply.

    Raises:
        UsageError: there is no such set.
        EvitError: the folder is laid out in another way.
    """
    if name == "folders":
        return folders(root, part, num_classes=num_classes, void=void, val_share=val_share)
    if name not in _SETS:
        known = [*_SETS, "folders"]
        raise UsageError(f"there is no segmentation set '{name}'", hint=suggest(name, known))
    return _SETS[name](root, part)
