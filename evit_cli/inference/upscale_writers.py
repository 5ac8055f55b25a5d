"""What a run of `evit upscale` writes: stills one by one, or a movie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from evit_cli.errors import EvitError
from evit_cli.inference.upscaler import Upscaled, UpscaledDeep, Upscaler
from evit_cli.media.compare import side_by_side
from evit_cli.media.deep_images import DeepImageSource, DeepStillsOutput, check_sides
from evit_cli.media.frame import Frame, ImageU8, Source
from evit_cli.media.images import ImageSource
from evit_cli.media.outputs import MovieOutput, OutputNames
from evit_cli.types import ImageSize, Progress

_COMPARED = "bicubic"


@dataclass(frozen=True)
class UpscaleRequest:
    """What to make of a source.

    Attributes:
        out: file or folder; None means `evit-out/` in the current folder.
        compare: write bicubic and model side by side in place of the result.
        every: process one of this many frames.
        max_frames: stop after this many.
        force: overwrite existing files.
    """

    out: Path | None = None
    compare: bool = False
    every: int = 1
    max_frames: int | None = None
    force: bool = False

    @property
    def kind(self) -> str:
        """What is added to the names of the files."""
        return "compare" if self.compare else "upscaled"


def bicubic(image_rgb_u8: ImageU8, scale: int) -> ImageU8:
    """What `--compare` shows on the left: OpenCV's cubic enlargement."""
    height, width = image_rgb_u8.shape[:2]
    size_wh = (width * scale, height * scale)
    large = cv2.resize(np.ascontiguousarray(image_rgb_u8), size_wh, interpolation=cv2.INTER_CUBIC)
    return np.asarray(large, np.uint8)


def compared(frame: Frame, large_rgb_u8: ImageU8, upscaler: Upscaler) -> ImageU8:
    """Bicubic and the model side by side, (H * scale, 2 W * scale + 2, 3) RGB."""
    left = bicubic(frame.image_rgb_u8, upscaler.scale)
    return side_by_side(left, large_rgb_u8, (_COMPARED, upscaler.session.info.name))


class StillsWriter:
    """Enlarges and writes one still after the other: a large one fits into memory only once."""

    def __init__(self, request: UpscaleRequest, source: ImageSource) -> None:
        self._request = request
        self.source = DeepImageSource(source)
        names = OutputNames(self.source, [request.kind], request.out)
        self._output = DeepStillsOutput(names, request.kind, force=request.force)

    def process(self, frame: Frame, upscaler: Upscaler, progress: Progress) -> UpscaledDeep | None:
        """Enlarge and write; None if this one cannot be written and others can.

        Raises:
            EvitError: the runtime or the disk failed.
        """
        deep = frame.deep
        assert deep is not None
        size_hw = ImageSize(*deep.size_hw)
        sides = [side * upscaler.scale for side in size_hw]
        try:
            check_sides(self._output.path_for(frame), (sides[0], sides[1]))
        except EvitError as error:
            if self.source.frame_count == 1:
                raise
            self.source.skipped.add(error.message)
            return None
        total = self.source.frame_count or 1
        shown = {"image": f"{frame.index + 1}/{total}"} if total > 1 else {}
        progress.start(upscaler.tiles(size_hw), "tile")
        try:
            done = upscaler.upscale(
                deep, on_tile=lambda ms: progress.advance(1, model_ms=ms, **shown)
            )
        finally:
            progress.close()
        if self._request.compare:
            self._output.write(frame, compared(frame, done.image.rgb_u8(), upscaler))
        else:
            self._output.write_deep(frame, done.image)
        return done

    def write(self, frame: Frame, result: object) -> None:
        """It is written already."""

    def close(self) -> None:
        """Nothing is left open."""

    def abort(self) -> None:
        """Finished images stay: each is whole."""
        self._output.abort()

    @property
    def written(self) -> list[Path]:
        """The files so far."""
        return self._output.written

    @property
    def notes(self) -> list[str]:
        """What could not be kept of the source."""
        return self._output.notes


class MovieWriter:
    """Enlarges in this thread, and writes in the pipeline's."""

    def __init__(self, request: UpscaleRequest, source: Source) -> None:
        self._request, self.source = request, source
        names = OutputNames(source, [request.kind], request.out)
        self._output = MovieOutput(names, request.kind, source=source, force=request.force)

    def process(self, frame: Frame, upscaler: Upscaler) -> tuple[Upscaled, ImageU8]:
        """Enlarge one frame; gives what it took and the picture to write."""
        done = upscaler(frame.image_rgb_u8)
        image = done.image_rgb_u8
        return done, compared(frame, image, upscaler) if self._request.compare else image

    def write(self, frame: Frame, result: tuple[Upscaled, ImageU8]) -> None:
        """Append one frame."""
        self._output.write(frame, result[1])

    def close(self) -> None:
        """Finish the movie."""
        self._output.close()

    def abort(self) -> None:
        """Remove the unfinished movie."""
        self._output.abort()

    @property
    def written(self) -> list[Path]:
        """The files so far."""
        return self._output.written

    @property
    def notes(self) -> list[str]:
        """What could not be kept of the source."""
        return [self._output.problem] if self._output.problem else []


def writer_for(request: UpscaleRequest, source: Source) -> StillsWriter | MovieWriter:
    """What suits the source; nothing is written yet.

    Raises:
        EvitError: an output exists already.
        UsageError: the request does not fit the source.
    """
    if isinstance(source, ImageSource):
        return StillsWriter(request, source)
    return MovieWriter(request, source)
