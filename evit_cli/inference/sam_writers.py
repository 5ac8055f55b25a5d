"""What a run of `evit sam` writes: overlays, masks, cut-outs and run lengths."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import UsageError, suggest
from evit_cli.inference.sam_drawing import draw_objects
from evit_cli.inference.sam_objects import SamObject, SamResult
from evit_cli.media.disk import writing
from evit_cli.media.frame import Frame, ImageU8, Source, SourceKind
from evit_cli.media.images import write_image
from evit_cli.media.outputs import (
    MaskFolderOutput,
    MovieOutput,
    OutputNames,
    StillsOutput,
    refuse_existing,
)

SAVE_KINDS = ("overlay", "mask", "cutout", "rle")
_WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")
_CATEGORY = 1
"""COCO's tools want one; every object is of the same."""

Picture = tuple[ImageU8, ImageU8 | None]


def default_save(kind: SourceKind) -> tuple[str, ...]:
    """What is written if nobody says what."""
    return ("overlay", "mask") if kind is SourceKind.IMAGES else ("overlay",)


class ObjectFolders:
    """A folder of PNG files per image, one per object; it appears when it is complete.

    Args:
        names: the names.
        kind: "mask" or "cutout"; the folders are NAME_masks or NAME_cutouts.
        force: overwrite.

    Raises:
        UsageError: `--out` names a file.
        EvitError: one of the folders exists.
    """

    def __init__(self, names: OutputNames, kind: str, *, force: bool) -> None:
        if names.file is not None:
            raise UsageError(
                f"several objects are a folder of files, but --out {names.file} names a file",
                hint="give a folder",
            )
        self._names, self._kind = names, f"{kind}s"
        refuse_existing(names.stills(self._kind, ""), force=force, inputs=names.inputs)
        self._partial: Path | None = None
        self.written: list[Path] = []

    def write(self, frame: Frame, pictures: dict[int, Picture]) -> None:
        """Write pixels and transparency of each object as NNN.png, by its number."""
        if not pictures:
            return
        path = self._names.still(frame.name, self._kind, "")
        self._partial = partial = path.with_name(f".{path.name}.evit-partial")
        shutil.rmtree(partial, ignore_errors=True)  # left by a run that lost its power
        self._names.new_folders.make(partial)
        for number, (image, alpha) in pictures.items():
            write_image(partial / f"{number:03d}.png", image, alpha=alpha)
        with writing(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
            os.replace(partial, path)
        self._partial = None
        self.written.append(path)

    def close(self) -> None:
        """Nothing is left open."""

    def abort(self) -> None:
        """Finished folders stay: each is whole."""
        if self._partial is not None:
            shutil.rmtree(self._partial, ignore_errors=True)
        self._names.new_folders.remove_empty()


class ObjectFiles:
    """One file per image, which has one object.

    Args:
        names: the names.
        kind: "mask" or "cutout".
        force: overwrite.

    Raises:
        UsageError: the format that `--out` asks for does not suit.
        EvitError: one of the files exists.
    """

    def __init__(self, names: OutputNames, kind: str, *, force: bool) -> None:
        self._stills = StillsOutput(names, kind, suffix=".png", exact=kind == "mask", force=force)
        suffix = names.file.suffix.lower() if names.file is not None else ".png"
        if kind == "cutout" and suffix not in _WITH_ALPHA:
            raise UsageError(
                f"a cut-out has transparency, which {suffix} does not keep",
                hint=f"use one of {' '.join(_WITH_ALPHA)}",
            )
        self._names, self._kind = names, kind
        self.written: list[Path] = []

    def write(self, frame: Frame, pictures: dict[int, Picture]) -> None:
        """Write pixels and transparency of the one object."""
        path = self._names.still(frame.name, self._kind, ".png")
        self._names.new_folders.make(path.parent)
        for image, alpha in pictures.values():
            write_image(path, image, alpha=alpha)
            self.written.append(path)

    def close(self) -> None:
        """Nothing is left open."""

    def abort(self) -> None:
        """Finished files stay: each is whole."""
        self._names.new_folders.remove_empty()


class RleOutput:
    """All masks of a run as one list in COCO's results format; it appears when it is complete.

    Args:
        names: the names.
        force: overwrite.

    Raises:
        UsageError: `--out` names something else than a .json file.
        EvitError: the file exists.
    """

    def __init__(self, names: OutputNames, *, force: bool) -> None:
        self._names = names
        self._path = names.whole("rle", ".json")
        if self._path.suffix.lower() != ".json":
            raise UsageError(
                f"run lengths cannot be written as {self._path.name}", hint="use .json"
            )
        self._partial = self._path.with_name(f".{self._path.name}.evit-partial")
        refuse_existing([self._path], force=force, inputs=names.inputs)
        self._file: IO[str] | None = None
        self._count = 0
        self.written: list[Path] = []

    def write(self, frame: Frame, objects: Sequence[SamObject]) -> None:
        """Append the objects of one frame."""
        if self._file is None:
            self._names.new_folders.make(self._path.parent)
        with writing(self._path):
            if self._file is None:
                self._file = self._partial.open("w", encoding="utf-8", errors="surrogateescape")
            for one in objects:
                self._file.write("[\n" if self._count == 0 else ",\n")
                self._file.write(json.dumps(_result_row(frame, one), ensure_ascii=False))
                self._count += 1

    def close(self) -> None:
        """Give the file its name."""
        if self._file is not None:
            with writing(self._path):
                self._file.write("\n]\n" if self._count else "[]\n")
                self._file.close()
                os.replace(self._partial, self._path)
            self.written.append(self._path)

    def abort(self) -> None:
        """Remove the unfinished file."""
        with contextlib.suppress(OSError):  # closing writes what is still in memory
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)
        self._names.new_folders.remove_empty()


def _result_row(frame: Frame, one: SamObject) -> dict[str, Any]:
    """One object as COCO's results have it, and what evit knows beyond that."""
    about = {"image": frame.name, "image_id": frame.index, "category_id": _CATEGORY}
    return about | {"segmentation": one.rle()} | one.row()


def mask_picture(one: SamObject) -> Picture:
    """(H, W) uint8: 255 on the object, 0 elsewhere."""
    return one.mask.astype(np.uint8) * np.uint8(255), None


def cutout_picture(frame: Frame, one: SamObject) -> Picture:
    """The picture cut to an object's box, black where it is not, and its mask as transparency.

    What a cut-out leaves out must not come back when a viewer ignores transparency.
    """
    alpha = one.window.astype(np.uint8) * np.uint8(255)
    if frame.alpha is not None:
        alpha = np.minimum(alpha, frame.alpha[one.place])
    return np.where(one.window[..., None], frame.image_rgb_u8[one.place], np.uint8(0)), alpha


def number_map(objects: Sequence[SamObject], image_hw: tuple[int, int]) -> npt.NDArray[Any]:
    """(H, W) numbers of objects, 0 for none; small ones lie over large ones.

    uint8, or uint16 above 255 objects.
    """
    most = max((one.number for one in objects), default=0)
    labels = np.zeros(image_hw, np.uint8 if most <= 255 else np.uint16)
    for one in sorted(objects, key=lambda one: -one.area):
        labels[one.place][one.window] = one.number
    return labels


class SamWriter:
    """Draws and writes what a run asks for; a `Writer` of the pipeline.

    Args:
        save: any of `SAVE_KINDS`.
        source: what is read.
        out: file or folder, None for `evit-out/`.
        alone: whether each image has exactly one object.
        force: overwrite.

    Attributes:
        notes: what could not be written or kept, each thing once.

    Raises:
        EvitError: an output exists already.
        UsageError: the outputs do not fit the source.
    """

    def __init__(
        self,
        save: Sequence[str],
        source: Source,
        *,
        out: Path | None,
        alone: bool,
        force: bool,
    ) -> None:
        stills = source.kind is SourceKind.IMAGES
        _check_kinds(save, stills=stills)
        names = OutputNames(source, save, out)
        each = ObjectFiles if alone else ObjectFolders
        self._overlay: StillsOutput | MovieOutput | None = None
        self._masks: ObjectFiles | ObjectFolders | None = None
        self._cutouts: ObjectFiles | ObjectFolders | None = None
        self._maps: MaskFolderOutput | None = None
        self._rle = RleOutput(names, force=force) if "rle" in save else None
        self._stills = stills
        if "overlay" in save:
            self._overlay = (
                StillsOutput(names, "overlay", force=force)
                if stills
                else MovieOutput(names, "overlay", source=source, force=force)
            )
        if "mask" in save and stills:
            self._masks = each(names, "mask", force=force)
        elif "mask" in save:
            self._maps = MaskFolderOutput(names, force=force)
        if "cutout" in save:
            self._cutouts = each(names, "cutout", force=force)
        outputs = (self._overlay, self._masks, self._cutouts, self._maps, self._rle)
        self._outputs = [o for o in outputs if o is not None]
        self._empty = 0
        self._written_frames = 0

    def write(self, frame: Frame, result: SamResult | None) -> None:
        """Write everything for one frame; None for one that failed."""
        if result is None:
            return
        first, self._written_frames = self._written_frames == 0, self._written_frames + 1
        seen = [one for one in result.objects if not one.lost]
        if self._overlay is not None:
            drawn = draw_objects(frame.image_rgb_u8, result.objects, prompts=self._stills or first)
            self._overlay.write(frame, drawn)
        if self._masks is not None:
            self._masks.write(frame, {one.number: mask_picture(one) for one in seen})
        if self._maps is not None:
            self._maps.write(frame, number_map(seen, result.image_hw))
        if self._cutouts is not None:
            there = [one for one in seen if one.area]
            self._empty += len(seen) - len(there)
            self._cutouts.write(frame, {o.number: cutout_picture(frame, o) for o in there})
        if self._rle is not None:
            self._rle.write(frame, seen)

    def close(self) -> None:
        """Finish all files."""
        for output in self._outputs:
            output.close()

    def abort(self) -> None:
        """Remove unfinished files."""
        for output in self._outputs:
            output.abort()

    @property
    def written(self) -> list[Path]:
        """What was written, absolute."""
        return [path.resolve() for output in self._outputs for path in output.written]

    @property
    def notes(self) -> list[str]:
        """What could not be written, or kept of the source."""
        notes = [f"{self._empty} empty masks gave no cut-out"] if self._empty else []
        if isinstance(self._overlay, MovieOutput) and self._overlay.problem:
            notes.append(self._overlay.problem)
        return notes


def _check_kinds(save: Sequence[str], *, stills: bool) -> None:
    if not save:
        raise UsageError("nothing is to be saved", hint=f"--save any of {', '.join(SAVE_KINDS)}")
    unknown = next((kind for kind in save if kind not in SAVE_KINDS), None)
    if unknown is not None:
        raise UsageError(f"evit cannot save '{unknown}'", hint=suggest(unknown, SAVE_KINDS))
    if "cutout" in save and not stills:
        raise UsageError(
            "cut-outs are made of still images only", hint="save overlay, mask or rle of a video"
        )
