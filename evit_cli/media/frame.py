"""One picture on its way through evit, and where pictures come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from evit_cli.media.deep_images import DeepImage

ImageU8 = npt.NDArray[np.uint8]


class SourceKind(Enum):
    """What a source is, which decides what is written: still images or a movie."""

    IMAGES = "images"
    VIDEO = "video"
    LIVE = "live"


@dataclass(frozen=True)
class Frame:
    """A picture with its place in its source.

    Attributes:
        image_rgb_u8: (H, W, 3), upright.
        index: 0 for the source's first picture.
        name: file name of a still image, the source's name otherwise.
        time_s: exact seconds since the first frame; None for still images.
        alpha: (H, W) uint8 transparency of a still image, None if it has none.
        deep: the still image with all it has, where a source gives that.
    """

    image_rgb_u8: ImageU8
    index: int
    name: str
    time_s: Fraction | None = None
    alpha: ImageU8 | None = None
    deep: DeepImage | None = None


class Problems:
    """Counts what went wrong without stopping the work, and keeps the first few sentences."""

    KEPT = 20

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []
        self.why_ended = ""
        """The sentence of what ended the source early; empty if nothing did."""

    def add(self, sentence: str) -> None:
        """Note one more; memory stays constant however many there are."""
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append(sentence)

    def end(self, sentence: str) -> None:
        """Note what ended the source before its time."""
        self.why_ended = sentence
        self.add(sentence)


class Notes(list[str]):
    """Sentences about a run; a list that stays short however long the run is."""

    KEPT = 20

    def add(self, sentence: str) -> None:
        """Note one."""
        if len(self) < self.KEPT:
            self.append(sentence)


class Source(Protocol):
    """Something that gives frames, once.

    Attributes:
        kind: still images, a video file or something live.
        name: short name for messages and output files.
        frame_count: how many frames to expect, None if unknown.
        rate: frames per second, None for still images.
        path: the file, where it is one.
        skipped: what could not be decoded so far.
        dropped: frames of a live source that came faster than they were used.
    """

    @property
    def kind(self) -> SourceKind: ...  # noqa: D102

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def frame_count(self) -> int | None: ...  # noqa: D102

    @property
    def rate(self) -> Fraction | None: ...  # noqa: D102

    @property
    def path(self) -> Path | None: ...  # noqa: D102

    @property
    def skipped(self) -> Problems: ...  # noqa: D102

    @property
    def dropped(self) -> int: ...  # noqa: D102

    def frames(self) -> Iterator[Frame]:
        """The frames, in order.

        Raises:
            EvitError: nothing can be read.
        """

    def close(self) -> None:
        """Stop reading and free the device or file; safe to call from another thread."""


def reconnects(source: Source) -> int:
    """How often a live source was lost and came back; 0 for those that cannot."""
    return int(getattr(source, "reconnects", 0))


def source_notes(source: Source) -> list[str]:
    """What the user should know about how the source was opened and kept alive."""
    return list(getattr(source, "notes", ()))


def live_counts(source: Source) -> dict[str, int]:
    """What a row about a live source says beside the frame: {} for stills and files."""
    if source.kind is not SourceKind.LIVE:
        return {}
    return {"dropped": source.dropped, "reconnects": reconnects(source)}
