"""Where the files of a tar shard begin, found once and kept beside the shard."""

from __future__ import annotations

import contextlib
import os
import tarfile
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError

IMAGES = ("jpg", "jpeg", "png", "webp")
MASKS = ("seg.png", "label.png")
CLASS = "cls"
NO_CLASS = -1
INDEX_SUFFIX = ".evit-index"

_VERSION = 1
_BLOCK = 512
_SUFFIXES = {**dict.fromkeys(IMAGES, "image"), **dict.fromkeys(MASKS, "mask"), CLASS: "class"}
_Span = tuple[int, int]


@dataclass(frozen=True)
class ShardIndex:
    """What one shard holds, sample by sample in its order.

    Attributes:
        keys: (N,) encoded names of the samples: path and file name up to its first dot.
        images: (N, 2) int64, offset and size of the image files in bytes.
        masks: (N, 2) int64 of the label images; size 0 where the target is a class.
        targets: (N,) int64 classes, `NO_CLASS` where the target is a label image.
    """

    keys: npt.NDArray[np.bytes_]
    images: npt.NDArray[np.int64]
    masks: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.keys)


def shard_index(path: Path) -> ShardIndex:
    """The index of a shard, from the file beside it if that is of this very shard.

    A new index is written beside the shard, if the folder lets itself be written to.

    Raises:
        EvitError: the shard cannot be read, is cut short, or a sample is not complete.
    """
    try:
        facts = path.stat()
    except OSError as error:
        raise EvitError(f"{path} cannot be read: {error.strerror}") from error
    stamp = np.array([_VERSION, facts.st_size, facts.st_mtime_ns], np.int64)
    kept = path.with_name(path.name + INDEX_SUFFIX)
    found = _load(kept, stamp)
    if found is None:
        found = build_index(path)
        _save(kept, stamp, found)
    return found


def _load(kept: Path, stamp: npt.NDArray[np.int64]) -> ShardIndex | None:
    """A kept index; None if there is none, it is broken, or of another state of the shard."""
    try:
        with np.load(kept, allow_pickle=False) as arrays:
            if not np.array_equal(arrays["stamp"], stamp):
                return None
            return ShardIndex(**{field.name: arrays[field.name] for field in fields(ShardIndex)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _save(kept: Path, stamp: npt.NDArray[np.int64], index: ShardIndex) -> None:
    """Keep an index for the next time; without the right to write it is made anew each time."""
    arrays: dict[str, Any] = {field.name: getattr(index, field.name) for field in fields(index)}
    # Several processes may do this at once: each has a file of its own.
    partial = kept.with_name(f".{kept.name}.{os.getpid()}.evit-partial")
    with contextlib.suppress(OSError):
        try:
            with open(partial, "wb") as file:
                np.savez(file, stamp=stamp, **arrays)
            os.replace(partial, kept)
        finally:
            partial.unlink(missing_ok=True)


def build_index(path: Path) -> ShardIndex:
    """Read a whole shard's headers.

    Raises:
        EvitError: the shard cannot be read, is cut short, or a sample is not complete.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            samples = _samples(tar, path)
            end = tar.offset
        with open(path, "rb") as file:
            file.seek(end)
            ended = file.read(_BLOCK) == bytes(_BLOCK)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise EvitError(
            f"{path} is not a tar archive, or is cut short: {error}",
            hint="copy the shard again; shards are tar files without compression",
        ) from error
    # tarfile takes an archive that ends between two files, or in a broken header, for complete.
    if not ended:
        raise EvitError(
            f"{path} is cut short at byte {end}: a tar archive ends with empty blocks",
            hint="copy the shard again",
        )
    return _as_arrays(samples, path)


def _samples(tar: tarfile.TarFile, path: Path) -> dict[str, dict[str, _Span]]:
    """Image, mask and class of every sample, as offsets and sizes.

    By the conventions of WebDataset: files whose paths agree up to the first dot of the file name
    are one sample, and the rest of the name in lower case says what they are. There they follow
    each other; here they need not.
    """
    samples: dict[str, dict[str, _Span]] = {}
    for member in tar:
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        kind = _SUFFIXES.get(suffix.lower())
        if kind is None or not stem or not member.isreg():
            continue
        if member.issparse():
            raise EvitError(f"{path} stores {member.name} as a sparse file, which has no one place")
        files = samples.setdefault(f"{folder}/{stem}" if folder else stem, {})
        if kind in files:
            raise EvitError(
                f"{path} has a second {kind} for the sample {stem}: {member.name}",
                hint="a sample is an image and one of .cls, .seg.png and .label.png",
            )
        files[kind] = (member.offset_data, member.size)
    return samples


def _as_arrays(samples: dict[str, dict[str, _Span]], path: Path) -> ShardIndex:
    """The index of complete samples; the classes are read here, as each is a few bytes."""
    targets = []
    with open(path, "rb") as file:
        for key, files in samples.items():
            if "image" not in files or ("mask" in files) == ("class" in files):
                there = " and ".join(files)
                raise EvitError(
                    f"{path} has {there} for the sample {key}, and not an image and one target",
                    hint="a sample is NAME.jpg or .png with NAME.cls, .seg.png or .label.png",
                )
            targets.append(_class_of(file.fileno(), files.get("class"), f"{key} in {path}"))
    nothing = (0, 0)
    return ShardIndex(
        np.array([os.fsencode(key) for key in samples], np.bytes_),
        np.array([files["image"] for files in samples.values()], np.int64).reshape(-1, 2),
        np.array([f.get("mask", nothing) for f in samples.values()], np.int64).reshape(-1, 2),
        np.array(targets, np.int64),
    )


def _class_of(descriptor: int, span: _Span | None, what: str) -> int:
    if span is None:
        return NO_CLASS
    text = os.pread(descriptor, span[1], span[0])
    try:
        return int(text.decode("ascii"))
    except ValueError as error:
        raise EvitError(
            f"the class of {what} is {text[:20]!r}, not a whole number",
            hint="NAME.cls holds the index of the class as text",
        ) from error
