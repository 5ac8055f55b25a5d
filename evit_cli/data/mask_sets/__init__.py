"""Readers of images with masks of no class, one layout per file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from evit_cli.data.mask_sets.bsds import BsdsRegions
from evit_cli.data.mask_sets.coco_objects import CocoObjects
from evit_cli.data.mask_sets.regions import RegionFolder
from evit_cli.data.mask_sets.sa1b import Sa1b
from evit_cli.data.masks import MaskExamples, MaskPart

MaskKind = Literal["sa1b", "coco", "bsds", "regions"]


def open_masks(
    kind: MaskKind, folder: Path, *, images: Path | None = None, part: MaskPart = "all"
) -> MaskExamples:
    """Open a set of images with masks.

    Args:
        kind: its layout.
        folder: where it is.
        images: folder of the images, where they are not in `folder` ("bsds").
        part: all images, or without those that are kept out for measuring, or these alone.

    Raises:
        EvitError: the folder is laid out in another way.
        MissingDependency: "bsds" needs SciPy, which is not installed.
    """
    if kind == "sa1b":
        return Sa1b(folder, part)
    if kind == "coco":
        return CocoObjects(folder, part)
    if kind == "bsds":
        return BsdsRegions(folder, images or folder, part)
    return RegionFolder(folder, part)
