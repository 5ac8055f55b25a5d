"""Instances in COCO's format, drawn as class maps (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.rle import read_rle
from evit_cli.data.sample import IGNORE, ImageU8, Labels, Part, check_size, wrong_layout
from evit_cli.data.split import held_out, part_folder
from evit_cli.errors import EvitError
from evit_cli.media.images import read_image

_TREE = [
    "images/NAME.jpg", "instances.json", "or train/ and val/ with both, or:",
    "train2017/NAME.jpg", "val2017/NAME.jpg", "annotations/instances_train2017.json",
    "annotations/instances_val2017.json",
]  # fmt: skip
_FINE = 3
_SHIFT = 4
_LEAST_NUMBERS = 6


@dataclass(frozen=True)
class CocoItem:
    """One image and its objects.

    Attributes:
        file: the image.
        size_hw: of the image.
        objects: JSON list of [class index, segmentation] with `IGNORE` for crowds. As text,
            because the objects of 100 000 images as Python values take several gigabytes, which
            every worker process would copy.
    """

    file: Path
    size_hw: tuple[int, int]
    objects: bytes


@dataclass(frozen=True)
class CocoSet:
    """Images with class maps drawn from instances.

    Attributes:
        name: of the set.
        source: the JSON file, for messages.
        items: images and objects.
        classes: names of the classes.
        unlabelled: label of the pixels that belong to no object.
    """

    name: str
    source: Path
    items: Sequence[CocoItem]
    classes: tuple[str, ...]
    unlabelled: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def label(self, index: int) -> Labels:
        """(H, W) int16 class indices; smaller objects lie over larger ones, crowds over both.

        Raises:
            EvitError: a mask is not of the format.
        """
        item = self.items[index]
        try:
            masks = [
                (target, object_mask(segmentation, item.size_hw))
                for target, segmentation in json.loads(item.objects)
            ]
        except (ValueError, TypeError, cv2.error) as error:
            raise EvitError(
                f"{self.source} has a mask for {item.file.name} that cannot be drawn: {error}",
                hint="masks are lists of polygons [x, y, x, y, ...] or run lengths",
            ) from error
        # The "area" in the file is left alone: many tools write the box's, or zero.
        masks.sort(key=lambda one: (one[0] == IGNORE, -np.count_nonzero(one[1])))
        labels = np.full(item.size_hw, self.unlabelled, np.int16)
        for target, mask in masks:
            labels[mask] = target
        return labels

    def read(self, index: int) -> tuple[ImageU8, Labels]:
        """RGB (H, W, 3) uint8 and its (H, W) int16 class indices, `IGNORE` for crowds.

        Raises:
            EvitError: the image does not decode or has another size, or a mask is wrong.
        """
        image, labels = read_image(self.items[index].file)[0], self.label(index)
        check_size(image, labels, f"{self.source}, for {self.items[index].file.name},")
        return image, labels

    def where(self, index: int) -> str:
        """The image file."""
        return str(self.items[index].file)


def object_mask(
    segmentation: list[list[float]] | dict[str, Any], size_hw: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """The (H, W) mask of one object.

    Args:
        segmentation: polygons [x, y, x, y, ...], whose parts are all filled, or run lengths.
        size_hw: of the image.

    Raises:
        ValueError: it is neither, or the run lengths are for another size.
    """
    if isinstance(segmentation, dict):
        mask = read_rle(segmentation)
        if mask.shape != size_hw:
            raise ValueError(f"the mask has {mask.shape} pixels, the image {size_hw}")
        return mask
    mask = np.zeros(size_hw, np.bool_)
    for part in segmentation:
        if len(part) < _LEAST_NUMBERS or len(part) % 2:
            raise ValueError(f"a polygon has {len(part)} numbers")
        # One by one: together, overlapping parts would cut holes into each other.
        _fill(mask, np.asarray(part, np.float64).reshape(-1, 2))
    return mask


def _fill(mask: npt.NDArray[np.bool_], points_xy: npt.NDArray[np.float64]) -> None:
    """Set the pixels of the (H, W) mask whose centres are inside a polygon of (N, 2) points.

    OpenCV draws the outline too, half a pixel outside. At `_FINE` times the size that is a sixth.
    """
    height, width = mask.shape
    start = np.clip(np.floor(points_xy.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    stop = np.clip(np.ceil(points_xy.max(axis=0)).astype(int), start + 1, (width, height))
    drawn = np.zeros((stop - start)[::-1] * _FINE, np.uint8)
    # COCO counts from the corner of the first pixel, OpenCV from its centre.
    fine = np.rint(((points_xy - start) * _FINE - 0.5) * (1 << _SHIFT))
    cv2.fillPoly(drawn, [fine.astype(np.int32)], (1,), shift=_SHIFT)
    centres = drawn[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE].astype(np.bool_)
    mask[start[1] : stop[1], start[0] : stop[0]] |= centres


def coco(
    root: Path,
    part: Part = "val",
    *,
    val_share: float | None = None,
    background: str | None = "background",
) -> CocoSet:
    """A folder with images and instances in COCO's format.

    Args:
        root: holds `images/` and `instances.json`, or `train/` and `val/` with them, or the
            layout of COCO itself: `train2017/` and `annotations/instances_train2017.json`.
        part: which part is wanted.
        val_share: share held out where there is a single JSON file; None takes all of it.
        background: name of class 0, the pixels outside all objects; with None they are `IGNORE`.
            The categories follow in the order of their ids.

    Raises:
        EvitError: the folder is laid out in another way, or the JSON file is wrong.
    """
    source, images, share = find_instances(root, part, val_share)
    try:
        raw = json.loads(source.read_bytes())
        categories = sorted((int(c["id"]), str(c["name"])) for c in raw["categories"])
        first = 0 if background is None else 1
        numbers = {identity: i for i, (identity, _) in enumerate(categories, first)}
        items = _items(raw, numbers, images, source)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise EvitError(
            f"{source} is not a file of COCO instances: {what}",
            hint="it holds categories, images and annotations, as cocodataset.org describes",
        ) from error
    if not items:
        raise EvitError(f"{source} lists no image")
    names = (() if background is None else (background,)) + tuple(name for _, name in categories)
    kept = held_out([item.file.stem for item in items], part, val_share=share, root=root)
    unlabelled = IGNORE if background is None else 0
    return CocoSet("coco", source, [items[i] for i in kept], names, unlabelled)


def find_instances(
    root: Path, part: Part, val_share: float | None
) -> tuple[Path, Path, float | None]:
    """The JSON file, the folder of images, and the share that is for validation."""
    usual = {
        which: sorted((root / "annotations").glob(f"instances_{which}*.json"))
        for which in ("train", "val")
    }
    alone = not usual["val"] and val_share is not None
    found = usual["train"] if alone else usual[part]
    if found:
        source = found[-1]
        images = root / source.stem.removeprefix("instances_")
        if images.is_dir():
            return source, images, val_share if alone else None
        raise wrong_layout(root, _TREE, f"there is {source.name}, and no folder {images.name}")

    def holds(base: Path) -> bool:
        return (base / "images").is_dir() and (base / "instances.json").is_file()

    place = part_folder(root, part, holds=holds, val_share=val_share)
    if place is None:
        raise wrong_layout(root, _TREE, f"there are no images with instances for {part}")
    return place[0] / "instances.json", place[0] / "images", place[1]


def _items(
    raw: dict[str, Any], numbers: dict[int, int], images: Path, source: Path
) -> list[CocoItem]:
    """Images in the order of their names, with the objects that belong to them."""
    objects: dict[int, list[tuple[int, Any]]] = {one["id"]: [] for one in raw["images"]}
    masks = 0
    for one in raw["annotations"]:
        if one["category_id"] not in numbers:
            raise EvitError(f"{source} has an object of the unknown category {one['category_id']}")
        segmentation = one.get("segmentation")
        if segmentation and one["image_id"] in objects:
            masks += 1
            target = IGNORE if one.get("iscrowd") else numbers[one["category_id"]]
            objects[one["image_id"]].append((target, segmentation))
    if raw["annotations"] and not masks:
        raise EvitError(
            f"{source} has boxes and no masks",
            hint="segmentation needs polygons or run lengths for every object",
        )
    there = {path.name for path in images.iterdir()}
    items = []
    for one in sorted(raw["images"], key=lambda image: str(image["file_name"])):
        file = images / one["file_name"]
        if one["file_name"] not in there and not file.is_file():
            raise EvitError(f"{source} lists {file}, which is not there")
        blob = json.dumps(objects[one["id"]], separators=(",", ":")).encode()
        items.append(CocoItem(file, (int(one["height"]), int(one["width"])), blob))
    return items
