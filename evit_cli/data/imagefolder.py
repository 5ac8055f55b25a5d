"""Classification sets: one folder per class, as ImageNet is usually laid out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from evit_cli.data.class_names import published_names
from evit_cli.data.sample import ClassItem, ImageU8, Part, wrong_layout
from evit_cli.data.split import held_out, part_folder
from evit_cli.errors import EvitError
from evit_cli.media.images import IMAGE_SUFFIXES, read_image

_LAYOUT = [
    "train/CLASS_A/NAME.jpg", "train/CLASS_B/NAME.jpg", "val/CLASS_A/NAME.jpg", "...",
    "or without train/ and val/:", "CLASS_A/NAME.jpg", "CLASS_B/NAME.jpg", "...",
]  # fmt: skip
IMAGENET_CLASSES = 1000


class ClassFiles(Sequence[ClassItem]):
    """Files in class folders.

    Names are held in one array: a million `Path` objects would take a gigabyte, and worker
    processes would copy it page by page as reference counts change.

    Args:
        base: the folder that holds the class folders.
        folders: names of the class folders, index by index.
        names: (N,) encoded file names.
        targets: (N,) class indices.
    """

    def __init__(
        self,
        base: Path,
        folders: Sequence[str],
        names: npt.NDArray[np.bytes_],
        targets: npt.NDArray[np.int32],
    ) -> None:
        self._base, self._folders, self._names, self._targets = base, folders, names, targets

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> ClassItem: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ClassItem]: ...
    def __getitem__(self, index: int | slice) -> ClassItem | Sequence[ClassItem]:
        """One file and its class, or some of the files."""
        if isinstance(index, slice):
            return ClassFiles(self._base, self._folders, self._names[index], self._targets[index])
        target = int(self._targets[index])
        name = os.fsdecode(self._names[index])
        return ClassItem(self._base / self._folders[target] / name, target)

    def keys(self) -> Iterator[str]:
        """CLASS/NAME without the suffix, of every file."""
        for name, target in zip(self._names, self._targets, strict=True):
            yield f"{self._folders[target]}/{os.path.splitext(os.fsdecode(name))[0]}"

    def taken(self, indices: npt.NDArray[np.int64]) -> ClassFiles:
        """Those of the files."""
        return ClassFiles(self._base, self._folders, self._names[indices], self._targets[indices])


@dataclass(frozen=True)
class ClassificationSet:
    """Images with one class each; `folders` are the class folders in the order of their indices.

    Attributes:
        name: of the set.
        items: files and classes.
        folders: names of the class folders.
        classes: names of the classes; by default those of the folders.
    """

    name: str
    items: Sequence[ClassItem]
    folders: list[str]
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            object.__setattr__(self, "classes", tuple(self.folders))

    def __len__(self) -> int:
        return len(self.items)

    def read(self, index: int) -> tuple[ImageU8, int]:
        """RGB (H, W, 3) uint8 and the index of its class.

        Raises:
            EvitError: the file is not an image that can be decoded.
        """
        item = self.items[index]
        return read_image(item.image)[0], item.target

    def where(self, index: int) -> str:
        """The image file."""
        return str(self.items[index].image)


def _class_folders(base: Path) -> list[str]:
    if not base.is_dir():
        return []
    return sorted(p.name for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))


def _image_names(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES:
                yield entry.name


def _holds_classes(base: Path) -> bool:
    return any(any(_image_names(base / name)) for name in _class_folders(base))


def _list_files(base: Path, folders: Sequence[str]) -> ClassFiles:
    """The images of the class folders that there are; `folders` gives their indices."""
    index_of = {name: index for index, name in enumerate(folders)}
    names: list[bytes] = []
    targets: list[int] = []
    for folder in _class_folders(base):
        if folder not in index_of:
            raise EvitError(
                f"{base / folder} is a class that the folder train does not have",
                hint="train/ and val/ have class folders of the same names",
            )
        found = sorted(_image_names(base / folder))
        names += map(os.fsencode, found)
        targets += [index_of[folder]] * len(found)
    return ClassFiles(base, folders, np.array(names, np.bytes_), np.array(targets, np.int32))


def image_folder(
    root: Path, part: Part = "val", *, val_share: float | None = None, name: str = "imagefolder"
) -> ClassificationSet:
    """A folder per class; classes are numbered in the order of the folders' names.

    They are in `root/train` and `root/val`, or in `root` itself.

    Args:
        root: of the set.
        part: which part is wanted; the folders of `train`, if there is one, number the classes.
        val_share: share held out where there is no folder `val`; None takes all of `root` for
            the part that is wanted.
        name: of the set.

    Raises:
        EvitError: there are no class folders with images.
    """
    place = part_folder(root, part, holds=_holds_classes, val_share=val_share)
    if place is None:
        raise wrong_layout(root, _LAYOUT, f"there are no class folders with images for {part}")
    base, share = place
    numbering = base if base == root or not _holds_classes(root / "train") else root / "train"
    folders = _class_folders(numbering)
    files = _list_files(base, folders)
    if share is not None:
        files = files.taken(held_out(list(files.keys()), part, val_share=share, root=base))
    return ClassificationSet(name, files, folders)


def imagenet(root: Path, part: Part = "val") -> ClassificationSet:
    """ImageNet: 1000 folders named by WordNet id, `val/n01440764/*.JPEG`, and likewise `train`.

    Raises:
        EvitError: there are not 1000 of them; a flat folder of images gives wrong classes.
    """
    found = image_folder(root, part, name="imagenet")
    if len(found.folders) != IMAGENET_CLASSES:
        raise wrong_layout(
            root,
            [f"{part}/n01440764/NAME.JPEG", "... (1000 folders)"],
            f"there are {len(found.folders)} class folders, not {IMAGENET_CLASSES}",
        )
    return ClassificationSet("imagenet", found.items, found.folders, published_names("imagenet"))
