"""Where results go: file names, the rule not to overwrite, and writers for each kind of file."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError
from evit_cli.media.frame import Frame, ImageU8, Source, SourceKind
from evit_cli.media.images import ImageSource, write_image
from evit_cli.media.video import DEFAULT_RATE, VideoSource
from evit_cli.media.video_writer import SUFFIXES as VIDEO_SUFFIXES
from evit_cli.media.video_writer import VideoWriter

DEFAULT_FOLDER = Path("evit-out")
LOSSY = (".jpg", ".jpeg", ".webp")
_WRITABLE_STILLS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


def refuse_existing(paths: Sequence[Path], *, force: bool) -> None:
    """Stop before any work if an output exists and `force` is not given.

    Raises:
        EvitError: one exists; the message names the first.
    """
    existing = [path for path in paths if path.exists()]
    if existing and not force:
        more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
        raise EvitError(
            f"{existing[0].resolve()} exists already{more}",
            hint="use --force to overwrite, or another --out",
        )


class OutputNames:
    """The file names of one run.

    Args:
        source: what is read.
        kinds: what is saved for each frame, for example ["overlay", "json"].
        out: what the user gave with `--out`: a file if there is exactly one, else a folder.

    Raises:
        UsageError: `out` names a file but there will be several.
    """

    def __init__(self, source: Source, kinds: Sequence[str], out: Path | None) -> None:
        self._source = source
        stills = source.kind is SourceKind.IMAGES
        # A suffix means a file: also for a new folder name, so that typos do not make folders.
        as_file = out is not None and out.suffix != "" and not out.is_dir()
        if as_file and (len(kinds) > 1 or (stills and source.frame_count != 1)):
            raise UsageError(
                f"there will be several files, but --out {out} names one", hint="give a folder"
            )
        self._file = out if as_file else None
        self.folder = (out.parent if as_file else out) if out is not None else DEFAULT_FOLDER
        paths = source.paths if isinstance(source, ImageSource) else []
        stems = [path.with_suffix("") for path in paths]
        self._keep_suffix = len(set(stems)) < len(stems)  # a.jpg beside a.png
        self._paths = [self._relative(path) for path in paths]

    def _relative(self, path: Path) -> Path:
        root = self._source.root if isinstance(self._source, ImageSource) else Path()
        return path.relative_to(root) if path.is_relative_to(root) else Path(path.name)

    def still(self, name: str, kind: str, suffix: str) -> Path:
        """The output for one still image called `name`."""
        if self._file is not None:
            return self._file
        path = Path(name)
        stem = path.name if self._keep_suffix else path.stem
        return self.folder / path.parent / f"{stem}_{kind}{suffix}"

    def whole(self, kind: str, suffix: str) -> Path:
        """The output for the source as a whole: a movie, or a folder with suffix ""."""
        if self._file is not None:
            return self._file
        return self.folder / f"{self._source.name}_{kind}{suffix}"

    def stills(self, kind: str, suffix: str | None) -> list[Path]:
        """Every still that will be written; `suffix` None keeps that of the input."""
        return [
            self.still(str(path), kind, suffix or picture_suffix(str(path))) for path in self._paths
        ]


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
        force: overwrite.
    """

    def __init__(
        self, names: OutputNames, kind: str, *, suffix: str | None = None, force: bool = False
    ) -> None:
        self._names, self._kind, self._suffix = names, kind, suffix
        self.written: list[Path] = []
        refuse_existing(names.stills(kind, suffix), force=force)

    def write(self, frame: Frame, image: npt.NDArray[Any]) -> None:
        """Write the (H, W[, 3]) picture made from `frame`."""
        suffix = self._suffix or picture_suffix(frame.name)
        path = self._names.still(frame.name, self._kind, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, image, alpha=frame.alpha if image.ndim == 3 else None)
        self.written.append(path)

    def close(self) -> None:
        """Nothing is left open."""

    def abort(self) -> None:
        """Finished images stay: each is whole."""


class MovieOutput:
    """One movie for the whole source, with its sound.

    Args:
        names: the names.
        kind: "overlay" or "color".
        source: gives rate and sound.
        force: overwrite.
    """

    def __init__(
        self, names: OutputNames, kind: str, *, source: Source, force: bool = False
    ) -> None:
        self._source = source
        self._path = names.whole(kind, ".mp4")
        if self._path.suffix.lower() not in VIDEO_SUFFIXES:
            raise UsageError(
                f"a video cannot be written as {self._path.name}",
                hint=f"use one of {' '.join(VIDEO_SUFFIXES)}",
            )
        refuse_existing([self._path], force=force)
        self._writer: VideoWriter | None = None
        self.written: list[Path] = []

    def write(self, frame: Frame, image: ImageU8) -> None:
        """Append the (H, W, 3) picture made from `frame`, shown from `frame.time_s` on."""
        if self._writer is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            video = self._source if isinstance(self._source, VideoSource) else None
            self._writer = VideoWriter(
                self._path,
                rate=self._source.rate or DEFAULT_RATE,
                audio_from=video.path if video else None,
                audio_start_s=video.start_s if video else Fraction(0),
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


class MaskFolderOutput:
    """One lossless PNG of class indices per video frame; the folder appears when it is complete.

    Args:
        names: the names.
        force: overwrite.
    """

    def __init__(self, names: OutputNames, *, force: bool = False) -> None:
        self._path = names.whole("mask", "")
        self._partial = self._path.with_name(f".{self._path.name}.evit-partial")
        refuse_existing([self._path], force=force)
        self.written: list[Path] = []

    def write(self, frame: Frame, labels: npt.NDArray[np.unsignedinteger[Any]]) -> None:
        """Write (H, W) class indices as NNNNNN.png, numbered by the source's frame."""
        self._partial.mkdir(parents=True, exist_ok=True)
        write_image(self._partial / f"{frame.index:06d}.png", labels)

    def close(self) -> None:
        """Give the folder its name."""
        if self._partial.exists():
            shutil.rmtree(self._path, ignore_errors=True)
            os.replace(self._partial, self._path)
            self.written.append(self._path)

    def abort(self) -> None:
        """Remove the unfinished folder."""
        shutil.rmtree(self._partial, ignore_errors=True)


class JsonLinesOutput:
    """One JSON line per frame in one file; it appears when it is complete.

    Args:
        names: the names.
        force: overwrite.
    """

    def __init__(self, names: OutputNames, *, force: bool = False) -> None:
        self._path = names.whole("segments", ".jsonl")
        self._partial = self._path.with_name(f".{self._path.name}.evit-partial")
        refuse_existing([self._path], force=force)
        self._file: IO[str] | None = None
        self.written: list[Path] = []

    def write(self, row: dict[str, Any]) -> None:
        """Append one row."""
        if self._file is None:
            self._partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("w", encoding="utf-8")
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Give the file its name."""
        if self._file is not None:
            self._file.close()
            os.replace(self._partial, self._path)
            self.written.append(self._path)

    def abort(self) -> None:
        """Remove the unfinished file."""
        if self._file is not None:
            self._file.close()
        self._partial.unlink(missing_ok=True)
