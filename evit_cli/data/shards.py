"""Tar shards in the format of WebDataset, read in any order.

The library webdataset streams shards from their beginning and shuffles in a buffer. A run that
stops in the middle of an epoch could then go on only by reading again what it has had, and its
order would depend on the number of processes. Here every example has a number, and its bytes are
read from their place in the shard: sampling, resuming and sharing out among processes are the same
as for files in folders, and the format on disk stays that of WebDataset.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_cli.data.class_names import NAMES_FILE, listed_names, numbered_names
from evit_cli.data.label_values import VoidToIgnore
from evit_cli.data.sample import (
    ImageU8,
    Labels,
    Part,
    check_labels,
    check_size,
    decode_labels,
    wrong_layout,
)
from evit_cli.data.shard_index import ShardIndex, shard_index
from evit_cli.data.split import held_out, part_folder
from evit_cli.errors import EvitError
from evit_cli.media.images import decode_image

_TREE = [
    "train/000000.tar (with NAME.jpg and NAME.cls, NAME.seg.png or NAME.label.png)",
    "val/000000.tar", "classes.txt (one name per line)",
]  # fmt: skip
_MOST_OPEN = 64


class _Descriptor:
    """An open file, closed when nobody uses it any more."""

    def __init__(self, path: Path) -> None:
        self.number = -1
        self.number = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def __del__(self) -> None:
        if self.number >= 0:
            with contextlib.suppress(OSError):
                os.close(self.number)


class OpenShards:
    """Reads places of files and keeps the latest of them open.

    `os.pread` moves no position, so processes that were forked may share the descriptors; a copy
    made by pickling opens its own.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _Descriptor] = OrderedDict()

    def __reduce__(self) -> tuple[type[OpenShards], tuple[()]]:
        return OpenShards, ()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Those bytes of a file.

        Raises:
            EvitError: the file cannot be read, or is shorter than that.
        """
        try:
            # Held by a name of its own: another thread may drop it from the table.
            descriptor = self._open.get(path) or _Descriptor(path)
            self._open[path] = descriptor
            while len(self._open) > _MOST_OPEN:
                self._open.popitem(last=False)
            data = b""
            while len(data) < size:
                more = os.pread(descriptor.number, size - len(data), offset + len(data))
                if not more:
                    raise EvitError(
                        f"{path} is cut short: it ends before byte {offset + size}",
                        hint="copy the shard again; it has changed since the run began",
                    )
                data += more
        except OSError as error:
            raise EvitError(f"{path} cannot be read: {error.strerror}") from error
        return data


@dataclass(frozen=True)
class ShardSet:
    """The samples of some shards, in their order.

    Attributes:
        paths: the shards.
        shards: (N,) for each sample, the index of its shard.
        samples: where in its shard each sample is.
        classes: names of the classes.
        void: the value in label images that does not count, None if there is none.
        name: of the set.
    """

    paths: Sequence[Path]
    shards: npt.NDArray[np.int32]
    samples: ShardIndex
    classes: tuple[str, ...]
    void: int | None = 255
    name: str = "shards"
    files: OpenShards = field(default_factory=OpenShards, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.samples)

    def read(self, index: int) -> tuple[ImageU8, Labels | int]:
        """RGB (H, W, 3) uint8, and (H, W) int16 labels or the index of its class.

        Raises:
            EvitError: a file does not decode, a label is out of range, or the sizes differ.
        """
        shard, where = self.paths[self.shards[index]], Path(self.where(index))
        offset, size = self.samples.images[index]
        image = decode_image(self.files.read(shard, int(offset), int(size)), where)[0]
        offset, size = self.samples.masks[index]
        if not size:
            return image, int(self.samples.targets[index])
        raw = decode_labels(self.files.read(shard, int(offset), int(size)), where)
        labels = check_labels(VoidToIgnore(self.void)(raw), len(self.classes), where)
        check_size(image, labels, str(where))
        return image, labels

    def where(self, index: int) -> str:
        """The shard and the name of the sample in it."""
        key = os.fsdecode(self.samples.keys[index])
        return f"{self.paths[self.shards[index]]}:{key}"


def shards(
    root: Path,
    part: Part = "val",
    *,
    num_classes: int | None = None,
    void: int | None = 255,
    val_share: float | None = None,
) -> ShardSet:
    """Shards in `root/train` and `root/val`, or in `root` itself.

    Args:
        root: of the set, with `classes.txt`, one name per line.
        part: which part is wanted.
        num_classes: if there is no `classes.txt`.
        void: the value in label images that does not count, None if there is none.
        val_share: share held out where there is no folder `val`; None takes all of `root` for
            the part that is wanted.

    Raises:
        EvitError: the folder is laid out in another way, a shard is cut short, the samples have
            targets of both kinds, or a class is out of range.
    """
    place = part_folder(root, part, holds=lambda base: bool(_tars(base)), val_share=val_share)
    if place is None:
        raise wrong_layout(root, _TREE, f"there are no shards for {part}")
    names = listed_names(root) or numbered_names(num_classes or 0)
    if not names:
        raise EvitError(
            f"{root / NAMES_FILE} is missing, which names the classes of the shards",
            hint="write one name per line; the first line is class 0",
        )
    paths = _tars(place[0])
    found = ShardSet(paths, *_all_samples(paths), names, void)
    _check_targets(found)
    if place[1] is None:
        return found
    keys = [os.fsdecode(key) for key in found.samples.keys]
    kept = held_out(keys, part, val_share=place[1], root=root)
    return ShardSet(paths, found.shards[kept], _taken(found.samples, kept), names, void)


def _tars(base: Path) -> list[Path]:
    return sorted(base.glob("*.tar")) if base.is_dir() else []


def _all_samples(paths: Sequence[Path]) -> tuple[npt.NDArray[np.int32], ShardIndex]:
    """Which shard each sample is in, and where there."""
    parts = [shard_index(path) for path in paths]
    for path, one in zip(paths, parts, strict=True):
        if not len(one):
            raise EvitError(
                f"{path} holds no samples",
                hint="a sample is NAME.jpg or .png with NAME.cls, .seg.png or .label.png",
            )
    owners = np.repeat(np.arange(len(parts), dtype=np.int32), [len(one) for one in parts])
    joined = ShardIndex(
        np.concatenate([one.keys for one in parts]),
        np.concatenate([one.images for one in parts]),
        np.concatenate([one.masks for one in parts]),
        np.concatenate([one.targets for one in parts]),
    )
    return owners, joined


def _taken(samples: ShardIndex, indices: npt.NDArray[np.int64]) -> ShardIndex:
    return ShardIndex(
        samples.keys[indices],
        samples.images[indices],
        samples.masks[indices],
        samples.targets[indices],
    )


def _check_targets(found: ShardSet) -> None:
    """Targets are of one kind, and classes in range; labels are checked when they are read."""
    has_mask = found.samples.masks[:, 1] > 0
    if has_mask.any() and not has_mask.all():
        raise EvitError(
            f"{found.where(int(np.argmin(has_mask)))} has a class, and "
            f"{found.where(int(np.argmax(has_mask)))} a label image",
            hint="all samples of a set have targets of one kind",
        )
    targets = found.samples.targets
    wrong = ~has_mask & ((targets < 0) | (targets >= len(found.classes)))
    if wrong.any():
        index = int(np.argmax(wrong))
        raise EvitError(
            f"{found.where(index)} has the class {targets[index]}, outside "
            f"0..{len(found.classes) - 1}",
            hint=f"{NAMES_FILE} has one line for every class",
        )
