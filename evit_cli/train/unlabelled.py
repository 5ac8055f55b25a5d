"""Images without labels for a teacher to label: files, folders, globs and videos."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.media.frame import SourceKind
from evit_cli.media.images import ImageSource, read_image, write_image
from evit_cli.media.open import open_source

_COMPLETE = "complete"
"""An empty file beside a video's frames once all of them are there."""


@dataclass(frozen=True)
class Unlabelled:
    """Images that no label belongs to."""

    files: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.files[index])[0]

    def where(self, index: int) -> str:
        """The file."""
        return str(self.files[index])


def open_unlabelled(sources: Sequence[str], *, every: int, cache: Path) -> Unlabelled:
    """Find the images, and take the frames out of videos, which cannot be read at random.

    Args:
        sources: whatever `evit segment` reads and ends: images, folders, globs, videos.
        every: take every so many frames of a video.
        cache: where frames are kept; those that are there are not made again.

    Raises:
        EvitError: a source is missing, is no picture, or never ends.
    """
    files: list[Path] = []
    for source in sources:
        files.extend(_files(source, every, cache))
    return Unlabelled(tuple(files))


def _files(source: str, every: int, cache: Path) -> list[Path]:
    with open_source(source) as found:
        if isinstance(found, ImageSource):
            return list(found.paths)
        if found.kind is SourceKind.LIVE or found.path is None:
            raise EvitError(f"{source} never ends, so it cannot be extra data", hint="record it")
        stat = found.path.stat()
        key = f"{found.path.resolve()} {stat.st_size} {stat.st_mtime_ns} {every}"
        folder = cache / hashlib.sha256(key.encode()).hexdigest()[:16]
        if not (folder / _COMPLETE).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            for frame in found.frames():
                if frame.index % every == 0:
                    write_image(folder / f"{frame.index:06d}.png", frame.image_rgb_u8)
            (folder / _COMPLETE).touch()
        return sorted(folder.glob("*.png"))
