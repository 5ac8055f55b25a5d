"""One run of `evit upscale`: a source through an upscaler into files."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evit_cli.errors import EvitError
from evit_cli.inference.upscale_writers import (
    MovieWriter,
    StillsWriter,
    UpscaleRequest,
    writer_for,
)
from evit_cli.inference.upscaler import Upscaled, UpscaledDeep, Upscaler
from evit_cli.media.frame import Frame, ImageU8, Problems, Source
from evit_cli.media.pipeline import Pipeline
from evit_cli.types import NoProgress, Progress

__all__ = ["UpscaleReport", "UpscaleRequest", "check_request", "frame_row", "upscale_source"]

_TIMES_KEPT = 1000


@dataclass(frozen=True)
class UpscaleReport:
    """What a run did.

    Attributes:
        written: the files, absolute.
        frames: how many pictures were enlarged.
        tiles: how many times the model ran.
        scale: how many times they are larger.
        skipped: what could not be read.
        dropped: frames of a live source that came too fast.
        seconds: wall time of the run.
        model_ms: median time of the model per picture over the last 1000, milliseconds.
        interrupted: the signal's exception class if the run was cut short.
        notes: what could not be kept of the source, and smaller tiles.
    """

    written: list[Path]
    frames: int
    tiles: int
    scale: int
    skipped: Problems
    dropped: int
    seconds: float
    model_ms: float
    interrupted: type[KeyboardInterrupt] | None
    notes: list[str]

    @property
    def fps(self) -> float:
        """Pictures per second of wall time, reading and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0

    def summary(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "written": [str(path) for path in self.written],
            "frames": self.frames,
            "tiles": self.tiles,
            "scale": self.scale,
            "skipped": self.skipped.count,
            "dropped": self.dropped,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "model_ms": round(self.model_ms, 3),
            "interrupted": self.interrupted is not None,
            "problems": [*self.skipped.first, *self.notes],
        }


def frame_row(frame: Frame, done: Upscaled | UpscaledDeep) -> dict[str, Any]:
    """What is told of one picture, as plain values."""
    row: dict[str, Any] = {"frame": frame.index, "name": frame.name}
    if frame.time_s is not None:
        row["time_s"] = round(float(frame.time_s), 6)
    height, width = frame.image_rgb_u8.shape[:2]
    return row | {
        "size_hw": [height, width],
        "upscaled_hw": [height * done.scale, width * done.scale],
        "tile_hw": list(done.tile_hw),
        "tiles": done.tiles,
        "model_ms": round(done.model_ms, 3),
    }


def check_request(request: UpscaleRequest, source: Source) -> None:
    """Find what is wrong with a request before a model is loaded for it; nothing is written.

    Raises:
        EvitError: an output exists already.
        UsageError: the request does not fit the source.
    """
    writer_for(request, source)


def upscale_source(
    source: Source,
    upscaler: Upscaler,
    request: UpscaleRequest,
    *,
    progress: Progress | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> UpscaleReport:
    """Enlarge every picture of a source.

    Args:
        source: an open source; it is read to its end and closed.
        upscaler: the model.
        request: where to write.
        progress: gets one step per tile of a still, or per frame of a video.
        on_row: gets each picture's row as plain values.

    Returns:
        What was done; also when it was interrupted.

    Raises:
        EvitError: nothing could be read, or reading or writing failed. Unfinished files are gone.
    """
    progress = progress or NoProgress()
    writer = writer_for(request, source)
    times: deque[float] = deque(maxlen=_TIMES_KEPT)
    frames = tiles = 0
    started = time.perf_counter()

    def after(frame: Frame, done: Upscaled | UpscaledDeep) -> None:
        nonlocal frames, tiles
        frames, tiles = frames + 1, tiles + done.tiles
        times.append(done.model_ms)
        if on_row is not None:
            on_row(frame_row(frame, done))

    if isinstance(writer, StillsWriter):
        interrupted = _run_stills(writer, upscaler, request, progress, after)
    else:
        interrupted = _run_movie(writer, upscaler, request, progress, after)
    source = writer.source
    if frames == 0 and interrupted is None:
        detail = f": {source.skipped.first[0]}" if source.skipped.count else ""
        raise EvitError(f"{source.name} gave no picture{detail}")
    return UpscaleReport(
        written=[path.resolve() for path in writer.written],
        frames=frames,
        tiles=tiles,
        scale=upscaler.scale,
        skipped=source.skipped,
        dropped=source.dropped,
        seconds=time.perf_counter() - started,
        model_ms=float(np.median(times)) if times else 0.0,
        interrupted=interrupted,
        notes=[*upscaler.notes, *writer.notes],
    )


def _run_stills(
    writer: StillsWriter,
    upscaler: Upscaler,
    request: UpscaleRequest,
    progress: Progress,
    after: Callable[[Frame, UpscaledDeep], None],
) -> type[KeyboardInterrupt] | None:
    def process(frame: Frame) -> None:
        done = writer.process(frame, upscaler, progress)
        if done is not None:
            after(frame, done)

    pipeline = Pipeline(
        writer.source,
        process,
        writer,
        every=request.every,
        max_frames=request.max_frames,
        ahead=0,
    )
    return pipeline.run(lambda frame, result: None).interrupted


def _run_movie(
    writer: MovieWriter,
    upscaler: Upscaler,
    request: UpscaleRequest,
    progress: Progress,
    after: Callable[[Frame, Upscaled], None],
) -> type[KeyboardInterrupt] | None:
    source = writer.source

    def told(frame: Frame, result: tuple[Upscaled, ImageU8]) -> None:
        done = result[0]
        after(frame, done)
        progress.advance(1, model_ms=done.model_ms, dropped=source.dropped)

    pipeline = Pipeline(
        source,
        lambda frame: writer.process(frame, upscaler),
        writer,
        every=request.every,
        max_frames=request.max_frames,
    )
    expected = source.frame_count
    if expected is not None:
        expected = min(-(-expected // request.every), request.max_frames or expected)
    progress.start(expected, "frame")
    try:
        return pipeline.run(told).interrupted
    finally:
        progress.close()
