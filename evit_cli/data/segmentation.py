"""Segmentation sets on disk: Cityscapes, ADE20K, CamVid and a plain pair of folders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.sample import IGNORE, SegmentItem, check_labels, wrong_layout
from evit_cli.errors import EvitError, UsageError, suggest

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
LabelMap = Callable[[npt.NDArray[Any]], npt.NDArray[np.integer[Any]]]

# Cityscapes' labelIds 0..33 -> the 19 train ids; every other label is ignored.
_CITYSCAPES_IDS = np.full(256, IGNORE, np.int16)
_CITYSCAPES_IDS[[7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]] = np.arange(19)

CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian",
    "bicyclist",
)  # fmt: skip
_CAMVID_VOID = 11


@dataclass(frozen=True)
class SegmentationSet:
    """A set of images with class maps.

    Attributes:
        name: of the set.
        items: where images and labels are.
        num_classes: how many classes the labels have.
        to_classes: from the values in the label files to class indices, `IGNORE` for void.
    """

    name: str
    items: Sequence[SegmentItem]
    num_classes: int
    to_classes: LabelMap

    def label(self, item: SegmentItem) -> npt.NDArray[np.int16]:
        """(H, W) class indices of one item, `IGNORE` where nothing is to be learnt.

        Raises:
            EvitError: the file does not decode, or holds a label that the set does not have.
        """
        raw = cv2.imread(str(item.label), cv2.IMREAD_UNCHANGED)
        if raw is None:
            raise EvitError(f"{item.label} is not a label image that can be decoded")
        return check_labels(self.to_classes(raw), self.num_classes, item.label)


def _void_to_ignore(void: int | None) -> LabelMap:
    def convert(raw: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
        labels = raw.astype(np.int32)
        if void is not None:
            labels[raw == void] = IGNORE
        return labels

    return convert


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


def cityscapes(root: Path) -> SegmentationSet:
    """Cityscapes val: `leftImg8bit/val/CITY/*_leftImg8bit.png` with `gtFine` beside it."""
    images = sorted((root / "leftImg8bit" / "val").glob("*/*_leftImg8bit.png"))
    items = [
        SegmentItem(
            path,
            root / "gtFine" / "val" / path.parent.name
            / path.name.replace("_leftImg8bit", "_gtFine_labelIds"),
        )
        for path in images
    ]  # fmt: skip
    absent = [item.label for item in items if not item.label.is_file()]
    if not items or absent:
        raise wrong_layout(
            root,
            [
                "leftImg8bit/val/CITY/NAME_leftImg8bit.png",
                "gtFine/val/CITY/NAME_gtFine_labelIds.png",
            ],
            f"{absent[0]} is missing" if absent else "there is no validation image",
        )
    return SegmentationSet("cityscapes", items, 19, _cityscapes_classes)


def _cityscapes_classes(raw: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    """Train ids; values that no label id has stay as they are, to be reported."""
    known = raw < len(_CITYSCAPES_IDS)
    return np.where(known, _CITYSCAPES_IDS[np.where(known, raw, 0)], raw.astype(np.int32))


def ade20k(root: Path) -> SegmentationSet:
    """ADE20K val: `images/validation/*.jpg`, `annotations/validation/*.png` (label - 1)."""
    images, labels = root / "images" / "validation", root / "annotations" / "validation"
    if not images.is_dir() or not labels.is_dir():
        raise wrong_layout(
            root,
            ["images/validation/NAME.jpg", "annotations/validation/NAME.png"],
            "a folder is missing",
        )
    return SegmentationSet(
        "ade20k", _paired(images, labels), 150, lambda raw: raw.astype(np.int32) - 1
    )


def camvid(root: Path) -> SegmentationSet:
    """CamVid with 11 classes: `images/*.png` and `labels/*.png`, 11 being void."""
    return folders(root, num_classes=len(CAMVID_CLASSES), void=_CAMVID_VOID, name="camvid")


def folders(
    root: Path, *, num_classes: int, void: int | None = 255, name: str = "folders"
) -> SegmentationSet:
    """One's own data: `images/` and `labels/` with files of the same names.

    Args:
        root: the folder that holds both.
        num_classes: labels are 0 .. num_classes - 1.
        void: the value of pixels that do not count, None if there is none.
        name: of the set.

    Raises:
        EvitError: the folder is laid out in another way, or an image has no label.
    """
    images, labels = root / "images", root / "labels"
    if not images.is_dir() or not labels.is_dir():
        raise wrong_layout(root, ["images/NAME.jpg", "labels/NAME.png"], "a folder is missing")
    items = _paired(images, labels)
    if not items:
        raise wrong_layout(root, ["images/NAME.jpg", "labels/NAME.png"], "there is no image")
    return SegmentationSet(name, items, num_classes, _void_to_ignore(void))


_SETS: dict[str, Callable[[Path], SegmentationSet]] = {
    "cityscapes": cityscapes,
    "ade20k": ade20k,
    "camvid": camvid,
}


def open_segmentation_set(
    name: str, root: Path, *, num_classes: int, void: int | None = 255
) -> SegmentationSet:
    """A set by its name; "folders" is one's own data with `num_classes` classes.

    Raises:
        UsageError: there is no such set.
        EvitError: the folder is laid out in another way.
    """
    if name == "folders":
        return folders(root, num_classes=num_classes, void=void)
    if name not in _SETS:
        known = [*_SETS, "folders"]
        raise UsageError(f"there is no segmentation set '{name}'", hint=suggest(name, known))
    return _SETS[name](root)
