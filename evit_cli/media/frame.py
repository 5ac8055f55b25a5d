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

    def add(self, sentence: str) -> None:
        """Note one more; memory stays constant however many there are."""
        self.count += 1
        if len(self.first) < self.KEPT:
            self.first.append(sentence)


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
