"""One run of `evit segment`: a source through a segmenter into files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import UsageError, suggest
from evit_cli.inference.run_report import (
    RunReport,
    Stopwatch,
    check_any_frame,
    expected_frames,
    frame_name,
)
from evit_cli.inference.segmenter import Segmentation, Segmenter
from evit_cli.media.drawing import Palette, blend, draw_legend, keep_classes
from evit_cli.media.frame import (
    Frame,
    ImageU8,
    Source,
    SourceKind,
    live_counts,
    reconnects,
    source_notes,
)
from evit_cli.media.outputs import (
    JsonLinesOutput,
    MaskFolderOutput,
    MovieOutput,
    OutputNames,
    StillsOutput,
)
from evit_cli.media.pipeline import Pipeline
from evit_cli.media.rules import Board
from evit_cli.types import ClassSet, NoProgress, Progress

if TYPE_CHECKING:
    from evit_cli.media.stream import FrameStream

SAVE_KINDS = ("overlay", "mask", "color", "json")
_SMALLEST_REPORTED_SHARE = 1e-6


@dataclass(frozen=True)
class SegmentRequest:
    """What to make of each frame.

    Attributes:
        save: any of `SAVE_KINDS`.
        out: file or folder; None means `evit-out/` in the current folder.
        alpha: opacity of the colours in the overlay, 0 to 1.
        legend: write class names and shares into the overlay.
        only: colour only these classes in the overlay, all when empty.
        every: process one of this many frames.
        max_frames: stop after this many.
        force: overwrite existing files.
        watched: somebody sees the frames, so that nothing need be saved.
        encode_on: whose encoder writes movies.
    """

    save: Sequence[str] = ("overlay",)
    out: Path | None = None
    alpha: float = 0.5
    legend: bool = True
    only: Sequence[str] = ()
    every: int = 1
    max_frames: int | None = None
    force: bool = False
    watched: bool = False
    encode_on: Board = Board.SOFTWARE


@dataclass(frozen=True, kw_only=True)
class SegmentReport(RunReport):
    """What a run did.

    Attributes:
        shares: mean share of the pixels per class name, in [0, 1], largest first.
        reconnects: how often a live source was lost and came back.
        told: what the source had to say when it was opened, lost and found.
    """

    shares: dict[str, float]
    reconnects: int = 0
    told: Sequence[str] = ()

    @property
    def sentence(self) -> str:
        """The report for people."""
        shares = ", ".join(f"{name} {share:.1%}" for name, share in list(self.shares.items())[:8])
        return f"pixels: {shares}\n{super().sentence}"

    def summary(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return super().summary() | {
            "problems": [*self.skipped.first, *self.notes, *self.told],
            "reconnects": self.reconnects,
            "classes": self.shares,
        }


def named_shares(shares: npt.NDArray[np.float64], classes: ClassSet) -> dict[str, float]:
    """{class name: share}, largest first, without the classes that do not occur."""
    order = np.argsort(-shares, kind="stable")
    return {
        classes.classes[i]: round(float(shares[i]), 6)
        for i in order
        if shares[i] > _SMALLEST_REPORTED_SHARE
    }


def frame_row(frame: Frame, result: Segmentation, classes: ClassSet) -> dict[str, Any]:
    """One frame's results as plain values for JSON."""
    height, width = result.class_map.shape
    return frame_name(frame) | {
        "size_hw": [height, width],
        "input_hw": list(result.input_hw),
        "model_ms": round(result.model_ms, 3),
        "classes": named_shares(result.shares, classes),
    }


class SegmentWriter:
    """Draws and writes what a request asks for; a `Writer` of the pipeline.

    Raises:
        EvitError: an output exists already.
        UsageError: the request does not fit the source.
    """

    def __init__(self, request: SegmentRequest, source: Source) -> None:
        unknown = [kind for kind in request.save if kind not in SAVE_KINDS]
        if not request.save and not request.watched:
            raise UsageError("nothing is to be saved", hint=f"--save any of {SAVE_KINDS}")
        if unknown:
            raise UsageError(
                f"evit cannot save '{unknown[0]}'", hint=suggest(unknown[0], SAVE_KINDS)
            )
        self._request, self._source = request, source
        names = OutputNames(source, request.save, request.out)
        stills = source.kind is SourceKind.IMAGES
        self._overlay = self._color = self._mask = None
        self._json: JsonLinesOutput | None = None
        picture: Callable[[str], Any] = (
            (lambda kind: StillsOutput(names, kind, force=request.force))
            if stills
            else (
                lambda kind: MovieOutput(
                    names, kind, source=source, force=request.force, board=request.encode_on
                )
            )
        )
        if "overlay" in request.save:
            self._overlay = picture("overlay")
        if "color" in request.save:
            self._color = (
                StillsOutput(names, "color", suffix=".png", force=request.force)
                if stills
                else picture("color")
            )
        if "mask" in request.save:
            self._mask = (
                StillsOutput(names, "mask", suffix=".png", exact=True, force=request.force)
                if stills
                else MaskFolderOutput(names, force=request.force)
            )
        if "json" in request.save:
            self._json = JsonLinesOutput(names, force=request.force)
        self._outputs = [o for o in (self._overlay, self._color, self._mask, self._json) if o]

    def use_classes(self, classes: ClassSet) -> None:
        """Names and colours of what will be written; to be told before the first frame.

        Raises:
            UsageError: the request names a class that is not among them.
        """
        self._classes = classes
        self._only = [_class_index(name, classes) for name in self._request.only]
        self._palette = Palette(classes)

    def overlay(self, frame: Frame, result: Segmentation, color: ImageU8 | None = None) -> ImageU8:
        """The picture with its classes' colours, (H, W, 3); `color` spares colouring twice."""
        if color is None:
            color = self._palette.colorize(result.class_map)
        image = blend(frame.image_rgb_u8, color, self._request.alpha)
        if self._only:
            kept = keep_classes(result.class_map, self._only)
            image = np.where(kept[:, :, None], image, frame.image_rgb_u8)
        if self._request.legend:
            shares = result.shares.copy()
            if self._only:
                shares[np.setdiff1d(np.arange(len(shares)), self._only)] = 0
            draw_legend(image, self._classes, shares)
        return image

    def write(self, frame: Frame, result: Segmentation) -> None:
        """Write everything for one frame."""
        if self._overlay or self._color:
            color = self._palette.colorize(result.class_map)
            if self._overlay:
                self._overlay.write(frame, self.overlay(frame, result, color))
            if self._color:
                self._color.write(frame, color)
        if self._mask:
            self._mask.write(frame, result.class_map)
        if self._json:
            self._json.write(self.row(frame, result))

    def row(self, frame: Frame, result: Segmentation) -> dict[str, Any]:
        """One frame's results as plain values, with the counts so far of a live source."""
        return frame_row(frame, result, self._classes) | live_counts(self._source)

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
        """What could not be carried over from the source, each thing once."""
        movies = [o for o in (self._overlay, self._color) if isinstance(o, MovieOutput)]
        said = [note for movie in movies for note in (*movie.notes, movie.problem) if note]
        return list(dict.fromkeys(said))


def _class_index(name: str, classes: ClassSet) -> int:
    if name in classes.classes:
        return classes.classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise UsageError(f"there is no class '{name}'", hint=suggest(name, classes.classes))


def check_request(request: SegmentRequest, source: Source) -> None:
    """Find what is wrong with a request before a model is loaded for it; nothing is written.

    Raises:
        EvitError: an output exists already.
        UsageError: the request does not fit the source.
    """
    SegmentWriter(request, source)


def _facts(source: Source, segmenter: Segmenter) -> dict[str, str]:
    """What a watcher of a run wants to know about it."""
    session = segmenter.session
    return {
        "model": session.info.name,
        "backend": session.backend.value,
        "precision": session.precision.value,
        "source": source.name,
    }


def segment_source(
    source: Source,
    segmenter: Segmenter,
    request: SegmentRequest,
    *,
    progress: Progress | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
    show: Callable[[ImageU8], None] | None = None,
    stream: FrameStream | None = None,
) -> SegmentReport:
    """Segment every frame of a source and write what is asked for.

    Args:
        source: an open source; it is read to its end and closed.
        segmenter: the model.
        request: what to save, and where.
        progress: gets one step per frame.
        on_row: gets each frame's row as plain values.
        show: gets each frame's overlay, (H, W, 3) RGB, for a live picture.
        stream: is offered each frame's overlay, which it draws only if somebody watches.

    Returns:
        What was done; also when it was interrupted.

    Raises:
        EvitError: no frame could be read, or reading or writing failed. Unfinished files are gone.
    """
    progress = progress or NoProgress()
    writer = SegmentWriter(request, source)
    writer.use_classes(segmenter.classes)
    totals = np.zeros(len(segmenter.classes))
    watch = Stopwatch()
    if stream is not None:
        stream.describe(**_facts(source, segmenter))

    def after(frame: Frame, result: Segmentation) -> None:
        nonlocal totals
        totals = totals + result.shares
        watch.add(result.model_ms)
        if on_row is not None:
            on_row(writer.row(frame, result))
        if show is not None:
            show(writer.overlay(frame, result))
        if stream is not None:
            stream.offer(
                lambda: writer.overlay(frame, result),
                model_ms=result.model_ms,
                source_dropped=source.dropped,
            )
        lost = {"reconnects": reconnects(source)} if reconnects(source) else {}
        progress.advance(1, model_ms=result.model_ms, dropped=source.dropped, **lost)

    pipeline = Pipeline(
        source,
        lambda frame: segmenter(frame.image_rgb_u8),
        writer,
        every=request.every,
        max_frames=request.max_frames,
    )
    progress.start(expected_frames(source, request.every, request.max_frames), "frame")
    try:
        outcome = pipeline.run(after)
    finally:
        progress.close()
    check_any_frame(source, outcome.frames, outcome.interrupted, "frame")
    return SegmentReport(
        written=writer.written,
        frames=outcome.frames,
        skipped=source.skipped,
        dropped=source.dropped,
        shares=named_shares(totals / max(outcome.frames, 1), segmenter.classes),
        seconds=watch.seconds,
        model_ms=watch.model_ms,
        interrupted=outcome.interrupted,
        notes=writer.notes,
        reconnects=reconnects(source),
        told=source_notes(source),
    )
