"""Opens any data set by the name that recipes give it."""

from __future__ import annotations

from pathlib import Path

from evit_cli.data.cifar import cifar10
from evit_cli.data.coco import coco
from evit_cli.data.imagefolder import image_folder, imagenet
from evit_cli.data.sample import Examples, Part
from evit_cli.data.segmentation import open_segmentation_set
from evit_cli.data.shards import shards
from evit_cli.errors import UsageError, suggest

_SEGMENTATION = ("cityscapes", "ade20k", "camvid", "folders")
SETS = (*_SEGMENTATION, "coco", "imagenet", "imagefolder", "cifar10", "shards")
"""The names; `DataPart.name` in `config/recipe_parts.py` has the same, and "superres", whose
examples are pairs of images (`data/superres.py`)."""


def open_examples(
    name: str,
    root: Path,
    part: Part,
    *,
    void: int | None = 255,
    val_share: float | None = 0.1,
    num_classes: int | None = None,
) -> Examples:
    """One part of a data set.

    Args:
        name: one of `SETS`.
        root: its folder.
        part: "train" or "val".
        void: label value that does not count ("folders" and "shards").
        val_share: share of the examples held out where the data has no validation part; None takes
            all of `root` for the part that is wanted.
        num_classes: if there is no `classes.txt` ("folders" and "shards").

    Raises:
        UsageError: there is no such set.
        EvitError: the folder is laid out in another way, or a file in it is wrong.
    """
    if name in _SEGMENTATION:
        return open_segmentation_set(
            name, root, part=part, num_classes=num_classes, void=void, val_share=val_share
        )
    if name == "coco":
        return coco(root, part, val_share=val_share)
    if name == "imagenet":
        return imagenet(root, part)
    if name == "imagefolder":
        return image_folder(root, part, val_share=val_share)
    if name == "cifar10":
        return cifar10(root, part)
    if name == "shards":
        return shards(root, part, num_classes=num_classes, void=void, val_share=val_share)
    raise UsageError(f"there is no data set '{name}'", hint=suggest(name, SETS))
