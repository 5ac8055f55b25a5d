"""One run of `evit upscale`: a source through an upscaler into files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from evit_cli.inference.run_report import (
    RunReport,
    Stopwatch,
    check_any_frame,
    expected_frames,
    frame_name,
)
from evit_cli.inference.upscale_writers import (
    MovieWriter,
    StillsWriter,
    UpscaleRequest,
    writer_for,
)
from evit_cli.inference.upscaler import Upscaled, UpscaledDeep, Upscaler
from evit_cli.media.frame import Frame, ImageU8, Source
from evit_cli.media.pipeline import Pipeline
from evit_cli.types import NoProgress, Progress

__all__ = ["UpscaleReport", "UpscaleRequest", "check_request", "frame_row", "upscale_source"]


@dataclass(frozen=True, kw_only=True)
class UpscaleReport(RunReport):
    """What a run did.

    Attributes:
        tiles: how many times the model ran.
        scale: how many times the pictures are larger.
    """

    tiles: int
    scale: int

    @property
    def sentence(self) -> str:
        """The report for people."""
        return f"{super().sentence} in {self.tiles} tiles"

    def summary(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return super().summary() | {"tiles": self.tiles, "scale": self.scale}


def frame_row(frame: Frame, done: Upscaled | UpscaledDeep) -> dict[str, Any]:
    """What is told of one picture, as plain values."""
    height, width = frame.image_rgb_u8.shape[:2]
    return frame_name(frame) | {
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
    watch, frames, tiles = Stopwatch(), 0, 0

    def after(frame: Frame, done: Upscaled | UpscaledDeep) -> None:
        nonlocal frames, tiles
        frames, tiles = frames + 1, tiles + done.tiles
        watch.add(done.model_ms)
        if on_row is not None:
            on_row(frame_row(frame, done))

    if isinstance(writer, StillsWriter):
        interrupted = _run_stills(writer, upscaler, request, progress, after)
    else:
        interrupted = _run_movie(writer, upscaler, request, progress, after)
    source = writer.source
    check_any_frame(source, frames, interrupted, "picture")
    return UpscaleReport(
        written=[path.resolve() for path in writer.written],
        frames=frames,
        tiles=tiles,
        scale=upscaler.scale,
        skipped=source.skipped,
        dropped=source.dropped,
        seconds=watch.seconds,
        model_ms=watch.model_ms,
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
    progress.start(expected_frames(source, request.every, request.max_frames), "frame")
    try:
        return pipeline.run(told).interrupted
    finally:
        progress.close()
