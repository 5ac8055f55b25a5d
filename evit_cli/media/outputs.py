"""Where results go: file names, the rule not to overwrite, and writers for each kind of file."""

from __future__ import annotations

import contextlib
import json
import mimetypes
import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError
from evit_cli.media.board_writer import open_writer
from evit_cli.media.disk import NewFolders, writing
from evit_cli.media.encode import encode_plan
from evit_cli.media.frame import Frame, ImageU8, Source, SourceKind
from evit_cli.media.gstreamer import GStreamerSource
from evit_cli.media.images import ImageSource, write_image
from evit_cli.media.rules import Board
from evit_cli.media.video import DEFAULT_RATE, VideoSource
from evit_cli.media.video_writer import SUFFIXES as VIDEO_SUFFIXES
from evit_cli.media.video_writer import VideoWriter

DEFAULT_FOLDER = Path("evit-out")
LOSSY = (".jpg", ".jpeg", ".webp")
_WRITABLE_STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def refuse_existing(
    paths: Sequence[Path], *, force: bool, inputs: Sequence[Path | None] = ()
) -> None:
    """Stop before any work if an output exists and `force` is not given, or if it is an input.

    Raises:
        EvitError: the message names the first.
    """
    existing = [path for path in paths if path.exists()]
    if not existing:
        return
    read = {_identity(path) for path in inputs if path is not None and path.exists()}
    for path in existing:
        if _identity(path) in read:
            raise EvitError(
                f"{path.resolve()} is read and would be overwritten", hint="use another --out"
            )
    if not force:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise EvitError(
            f"{existing[0].resolve()} exists already{more}",
            hint="use --force to overwrite, or another --out",
        )


def check_folder(folder: Path, names: Sequence[str], *, force: bool) -> None:
    """Make sure that files called `names` can go into `folder`, which need not exist yet.

    Raises:
        EvitError: it is a file, or one of the names exists and `force` is not given.
    """
    if folder.exists() and not folder.is_dir():
        raise EvitError(f"{folder.resolve()} is a file, not a folder", hint="use another --out")
    refuse_existing([folder / name for name in names], force=force)


def _identity(path: Path) -> tuple[int, int]:
    """What stays the same under any name of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _is_file_name(path: Path) -> bool:
    """Whether the suffix is that of some kind of file; "run.v2" is a folder."""
    ours = path.suffix.lower() in (*_WRITABLE_STILLS, *VIDEO_SUFFIXES, ".jsonl")
    return ours or mimetypes.guess_type(path.name)[0] is not None  # which knows less on a board


class OutputNames:
    """The file names of one run.

    Args:
        source: what is read.
        kinds: what is saved for each frame, for example ["overlay", "json"].
        out: what the user gave with `--out`: a file if there is exactly one, else a folder.

    Attributes:
        file: the one output, None if they are named here.
        folder: where they are, or under.
        inputs: the files that are read.
        new_folders: makes folders for them.

    Raises:
        UsageError: `out` names a file but there will be several.
        EvitError: a folder on the way to the outputs is a file.
    """

    def __init__(self, source: Source, kinds: Sequence[str], out: Path | None) -> None:
        self._source = source
        stills = source.kind is SourceKind.IMAGES
        as_file = out is not None and _is_file_name(out) and not out.is_dir()
        if as_file and (len(kinds) > 1 or (stills and source.frame_count != 1)):
            raise UsageError(
                f"there will be several files, but --out {out} names one", hint="give a folder"
            )
        self.file = out if as_file else None
        self.folder = (out.parent if as_file else out) if out is not None else DEFAULT_FOLDER
        above = next((p for p in (self.folder, *self.folder.parents) if p.exists()), Path())
        if not above.is_dir():
            raise EvitError(f"{above.resolve()} is a file, not a folder", hint="use another --out")
        self.new_folders = NewFolders()
        self.inputs = list(source.paths) if isinstance(source, ImageSource) else [source.path]
        self._names = source.names if isinstance(source, ImageSource) else []
        stems = [Path(name).with_suffix("") for name in self._names]
        self._keep_suffix = len(set(stems)) < len(stems)  # a.jpg beside a.png

    def still(self, name: str, kind: str, suffix: str) -> Path:
        """The output for one still image called `name`."""
        if self.file is not None:
            return self.file
        path = Path(name)
        stem = path.name if self._keep_suffix else path.stem
        return self.folder / path.parent / f"{stem}_{kind}{suffix}"

    def whole(self, kind: str, suffix: str) -> Path:
        """The output for the source as a whole: a movie, or a folder with suffix ""."""
        if self.file is not None:
            return self.file
        return self.folder / f"{self._source.name}_{kind}{suffix}"

    def stills(self, kind: str, suffix: str | None) -> list[Path]:
        """Every still that will be written; `suffix` None keeps that of the input."""
        return [self.still(name, kind, suffix or picture_suffix(name)) for name in self._names]


def picture_suffix(name: str) -> str:
    """The suffix for a picture made from the image `name`: its own where it can be written."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in _WRITABLE_STILLS else ".png"


class StillsOutput:
    """One image file per frame.

    Args:
        names: the names.
        kind: "overlay", "color" or "mask".
        suffix: None keeps that of the input.
        exact: the pixels are numbers that a lossy format would change.
        force: overwrite.

    Raises:
        UsageError: the format that `--out` asks for does not suit.
    """

    def __init__(
        self,
        names: OutputNames,
        kind: str,
        *,
        suffix: str | None = None,
        exact: bool = False,
        force: bool = False,
    ) -> None:
        self._names, self._kind, self._suffix = names, kind, suffix
        self.written: list[Path] = []
        fit = [s for s in _WRITABLE_STILLS if not (exact and s in LOSSY)]
        if names.file is not None and names.file.suffix.lower() not in fit:
            what = "a mask" if exact else "an image"
            raise UsageError(
                f"{what} cannot be written as {names.file.name}", hint=f"use one of {' '.join(fit)}"
            )
        refuse_existing(names.stills(kind, suffix), force=force, inputs=names.inputs)

    def write(self, frame: Frame, image: npt.NDArray[Any]) -> None:
        """Write the (H, W[, 3]) picture made from `frame`."""
        suffix = self._suffix or picture_suffix(frame.name)
        path = self._names.still(frame.name, self._kind, suffix)
        self._names.new_folders.make(path.parent)
        write_image(path, image, alpha=frame.alpha if self._kind == "overlay" else None)
        self.written.append(path)

    def close(self) -> None:
        """Nothing is left open."""

    def abort(self) -> None:
        """Finished images stay: each is whole."""
        self._names.new_folders.remove_empty()


class MovieOutput:
    """One movie for the whole source, with its sound.

    Args:
        names: the names.
        kind: "overlay" or "color".
        source: gives rate and sound.
        force: overwrite.
        board: whose encoder to use.

    Raises:
        EvitError: there is no H.264 encoder.
        UsageError: the format that `--out` asks for is none for movies.
    """

    def __init__(
        self,
        names: OutputNames,
        kind: str,
        *,
        source: Source,
        force: bool = False,
        board: Board = Board.SOFTWARE,
    ) -> None:
        self._names, self._source = names, source
        self._path = names.whole(kind, ".mp4")
        if self._path.suffix.lower() not in VIDEO_SUFFIXES:
            raise UsageError(
                f"a video cannot be written as {self._path.name}",
                hint=f"use one of {' '.join(VIDEO_SUFFIXES)}",
            )
        self._plan = encode_plan(board)  # find out before the work that there is an encoder
        self.notes = self._plan.notes
        refuse_existing([self._path], force=force, inputs=names.inputs)
        self._writer: VideoWriter | None = None
        self.written: list[Path] = []

    @property
    def problem(self) -> str:
        """What could not be carried over from the source; empty if all is well."""
        return self._writer.problem if self._writer is not None else ""

    def write(self, frame: Frame, image: ImageU8) -> None:
        """Append the (H, W, 3) picture made from `frame`, shown from `frame.time_s` on."""
        if self._writer is None:
            self._names.new_folders.make(self._path.parent)
            source = self._source
            video = source if isinstance(source, VideoSource | GStreamerSource) else None
            self._writer = open_writer(
                self._path,
                self._plan,
                rate=self._source.rate or DEFAULT_RATE,
                audio_from=video.path if video else None,
                audio_start_s=video.start_s if video else Fraction(0),
                pixel_aspect=video.pixel_aspect if video else None,
            )
        self._writer.write(image, frame.time_s or Fraction(0))

    def close(self) -> None:
        """Finish the movie."""
        if self._writer is not None:
            self._writer.close()
            self.written.append(self._path)

    def abort(self) -> None:
        """Remove the unfinished movie."""
        if self._writer is not None:
            self._writer.abort()
        self._names.new_folders.remove_empty()


class MaskFolderOutput:
    """One lossless PNG of class indices per video frame; the folder appears when it is complete.

    Args:
        names: the names.
        force: overwrite.

    Raises:
        UsageError: `--out` names a file.
    """

    def __init__(self, names: OutputNames, *, force: bool = False) -> None:
        if names.file is not None:
            raise UsageError(
                f"the masks of a video are a folder, but --out {names.file} names a file",
                hint="give a folder",
            )
        self._names = names
        self._path = names.whole("mask", "")
        self._partial = self._path.with_name(f".{self._path.name}.evit-partial")
        refuse_existing([self._path], force=force, inputs=names.inputs)
        self._begun = False
        self.written: list[Path] = []

    def write(self, frame: Frame, labels: npt.NDArray[np.unsignedinteger[Any]]) -> None:
        """Write (H, W) class indices as NNNNNN.png, numbered by the source's frame."""
        if not self._begun:
            shutil.rmtree(self._partial, ignore_errors=True)  # left by a run that lost its power
            self._names.new_folders.make(self._partial)
            self._begun = True
        write_image(self._partial / f"{frame.index:06d}.png", labels)

    def close(self) -> None:
        """Give the folder its name."""
        if self._begun:
            with writing(self._path):
                if self._path.is_dir():
                    shutil.rmtree(self._path)
                else:
                    self._path.unlink(missing_ok=True)
                os.replace(self._partial, self._path)
            self._begun = False
            self.written.append(self._path)

    def abort(self) -> None:
        """Remove the unfinished folder."""
        shutil.rmtree(self._partial, ignore_errors=True)
        self._names.new_folders.remove_empty()


class JsonLinesOutput:
    """One JSON line per frame in one file; it appears when it is complete.

    Args:
        names: the names.
        force: overwrite.
    """

    def __init__(self, names: OutputNames, *, force: bool = False) -> None:
        self._names = names
        self._path = names.whole("segments", ".jsonl")
        self._partial = self._path.with_name(f".{self._path.name}.evit-partial")
        refuse_existing([self._path], force=force, inputs=names.inputs)
        self._file: IO[str] | None = None
        self.written: list[Path] = []

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        if self._file is None:
            self._names.new_folders.make(self._path.parent)
        with writing(self._path):
            if self._file is None:
                self._file = self._partial.open("w", encoding="utf-8", errors="surrogateescape")
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Give the file its name."""
        if self._file is not None:
            with writing(self._path):
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
