"""Classification sets: one folder per class, as ImageNet's validation set is usually laid out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evit_cli.data.sample import ClassItem, wrong_layout
from evit_cli.media.images import IMAGE_SUFFIXES

_LAYOUT = ["CLASS_A/NAME.jpg", "CLASS_B/NAME.jpg", "..."]
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class ClassificationSet:
    """Images with one class each; `folders` are the class folders in the order of their indices."""

    name: str
    items: list[ClassItem]
    folders: list[str]


def image_folder(root: Path, *, name: str = "imagefolder") -> ClassificationSet:
    """A folder per class; classes are numbered in the order of the folders' names.

    A `val` folder inside `root` is used if there is one.

    Raises:
        EvitError: there are no class folders with images.
    """
    base = root / "val" if (root / "val").is_dir() else root
    folders = sorted(p for p in base.iterdir() if p.is_dir()) if base.is_dir() else []
    items = [
        ClassItem(path, index)
        for index, folder in enumerate(folders)
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    ]
    if not items:
        raise wrong_layout(base, _LAYOUT, "there are no class folders with images")
    return ClassificationSet(name, items, [folder.name for folder in folders])


def imagenet(root: Path) -> ClassificationSet:
    """ImageNet's validation set: 1000 folders named by WordNet id, `val/n01440764/*.JPEG`.

    Raises:
        EvitError: there are not 1000 of them; a flat folder of images gives wrong classes.
    """
    found = image_folder(root, name="imagenet")
    if len(found.folders) != IMAGENET_CLASSES:
        raise wrong_layout(
            root,
            ["val/n01440764/ILSVRC2012_val_00000293.JPEG", "... (1000 folders)"],
            f"there are {len(found.folders)} class folders, not {IMAGENET_CLASSES}",
        )
    return found
