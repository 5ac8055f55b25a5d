"""One run of `evit sam`: a source through a promptable model into files."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.mask_generator import GeneratorOptions, MaskGenerator
from evit_cli.inference.run_report import (
    RunReport,
    Stopwatch,
    check_any_frame,
    expected_frames,
    frame_name,
)
from evit_cli.inference.sam_objects import SamResult, find_objects, generated_objects
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.inference.sam_prompts import Asked, ObjectPrompt, check_inside
from evit_cli.inference.sam_track import Tracker, TrackOptions
from evit_cli.inference.sam_writers import SAVE_KINDS, SamWriter, default_save
from evit_cli.media.frame import Frame, Source, SourceKind
from evit_cli.media.images import ImageSource
from evit_cli.media.open import open_source
from evit_cli.media.pipeline import Pipeline
from evit_cli.types import NoProgress, Progress

__all__ = ["SAVE_KINDS", "SamReport", "SamRequest", "check_request", "sam_source"]

_THREE_WAYS = "--point x,y or --box x0,y0,x1,y1 (both may repeat), --everything, or --prompts FILE"


@dataclass(frozen=True)
class SamRequest:
    """What to find and what to write.

    Attributes:
        asked: prompts, for every image, for single ones, or for the first frame of a video.
        everything: look for all objects instead, without a prompt.
        every_answer: write all three answers to each prompt.
        track: when an object of a video counts as seen.
        save: any of `SAVE_KINDS`; empty for what suits the source.
        out: file or folder; None means `evit-out/` in the current folder.
        every: process one of this many frames.
        max_frames: stop after this many.
        force: overwrite existing files.
    """

    asked: Asked = field(default_factory=Asked)
    everything: GeneratorOptions | None = None
    every_answer: bool = False
    track: TrackOptions = field(default_factory=TrackOptions)
    save: Sequence[str] = ()
    out: Path | None = None
    every: int = 1
    max_frames: int | None = None
    force: bool = False

    @property
    def alone(self) -> bool:
        """Whether each image has exactly one object."""
        if self.everything is not None or self.every_answer:
            return False
        each = [len(own) for own in self.asked.by_image.values()] or [len(self.asked.everywhere)]
        return max(each) == 1


@dataclass(frozen=True, kw_only=True)
class SamReport(RunReport):
    """What a run did.

    Attributes:
        objects: how many objects were found in all images or frames.
        lost: how often an object of a video was not seen in a frame.
        tracked: whether it was a video.
    """

    objects: int
    lost: int
    tracked: bool

    @property
    def sentence(self) -> str:
        """The report for people."""
        words = f"{self.ended} {self.frames} images, {self.objects} objects"
        if self.tracked:
            how = f"tracked by re-prompting, {self.lost} times lost"
            words = f"{self.ended} {self.frames} frames, {how}"
        return f"{words}, in {self.seconds:.1f} s, model {self.model_ms:.0f} ms"

    def summary(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return super().summary() | {
            "objects": self.objects,
            "lost": self.lost,
            "method": "tracking by re-prompting" if self.tracked else "prompts per image",
        }


def open_frames(source: str | None, asked: Asked) -> AbstractContextManager[Source]:
    """The source that a user means, or the images that a file of prompts names.

    Raises:
        EvitError: there is nothing there, or nothing that can be read.
    """
    paths = list(asked.by_image)
    if source is not None:
        return open_source(source)
    missing = next((path for path in paths if not path.exists()), None)
    if missing is not None:
        raise EvitError(f"{missing} does not exist", hint="paths are relative to the prompts' file")
    root = Path(os.path.commonpath([os.path.abspath(path.parent) for path in paths]))
    return nullcontext(ImageSource(paths, name=asked.name, root=root))


def frame_row(frame: Frame, result: SamResult, *, video: bool) -> dict[str, Any]:
    """One image's or frame's objects as plain values for JSON."""
    objects = [one.row() | ({"lost": one.lost} if video else {}) for one in result.objects]
    return frame_name(frame) | {
        "size_hw": list(result.image_hw),
        "model_ms": round(result.model_ms, 3),
        "objects": objects,
    }


def check_request(request: SamRequest, source: Source) -> None:
    """Find what is wrong with a request before a model is loaded for it; nothing is written.

    Raises:
        EvitError: an output exists already.
        UsageError: the request does not fit the source, or asks for nothing.
    """
    if not request.asked and request.everything is None:
        raise UsageError("nothing says what to look for", hint=_THREE_WAYS)
    if request.asked and request.everything is not None:
        raise UsageError("--everything needs no point, box or --prompts", hint=_THREE_WAYS)
    if request.every_answer and request.everything is not None:
        raise UsageError("--multimask is for prompts", hint="--everything judges every answer")
    if source.kind is not SourceKind.IMAGES:
        if request.everything is not None:
            raise UsageError(
                "--everything works on still images only",
                hint="give points or boxes of objects in the first frame",
            )
        if request.every_answer:
            raise UsageError(
                "--multimask works on still images only", hint="a video follows the best answer"
            )
    _writer(request, source)


def _writer(request: SamRequest, source: Source) -> SamWriter:
    return SamWriter(
        request.save or default_save(source.kind),
        source,
        out=request.out,
        alone=request.alone,
        force=request.force,
    )


class _Work:
    """What is done to each frame; called in order."""

    def __init__(
        self,
        predictor: SamPredictor,
        request: SamRequest,
        source: Source,
        progress: Progress,
    ) -> None:
        self._predictor, self._request, self._source = predictor, request, source
        self._progress = progress
        self._tracker = self._generator = None
        if source.kind is not SourceKind.IMAGES:
            self._tracker = Tracker(predictor, request.asked.everywhere, request.track)
        elif request.everything is not None:
            self._generator = MaskGenerator(predictor.session, request.everything)
        self._prompts = {os.path.abspath(path): own for path, own in request.asked.by_image.items()}

    def __call__(self, frame: Frame) -> SamResult | None:
        """The objects in a frame; None where its prompts do not fit and others may."""
        started = time.perf_counter()
        image_hw = (frame.image_rgb_u8.shape[0], frame.image_rgb_u8.shape[1])
        notes: list[str] = []
        if self._tracker is not None:
            objects = self._tracker(frame.image_rgb_u8)
        elif self._generator is not None:
            found = self._generator.generate(frame.image_rgb_u8, progress=self._progress)
            objects = generated_objects(found.masks, image_hw)
            if not objects:
                stage = found.counts.emptied_by()
                notes.append(f"{frame.name}: nothing is left after the stage '{stage}'")
        else:
            prompts = self._for(frame)
            try:
                check_inside(prompts, image_hw)
            except EvitError as error:
                if self._source.frame_count == 1:
                    raise
                self._source.skipped.add(f"{frame.name}: {error.message}")
                return None
            self._predictor.set_image(frame.image_rgb_u8)
            objects = find_objects(
                self._predictor, prompts, every_answer=self._request.every_answer
            )
        model_ms = (time.perf_counter() - started) * 1e3
        return SamResult(objects, image_hw, model_ms, notes)

    def _for(self, frame: Frame) -> Sequence[ObjectPrompt]:
        if not isinstance(self._source, ImageSource) or not self._prompts:
            return self._request.asked.everywhere
        return self._prompts[os.path.abspath(self._source.paths[frame.index])]


class _Tally:
    """What a report is made of."""

    def __init__(self) -> None:
        self.frames = self.objects = self.lost = 0
        self.watch = Stopwatch()
        self.notes: dict[str, None] = {}

    def add(self, result: SamResult) -> None:
        self.frames += 1
        self.watch.add(result.model_ms)
        lost = sum(one.lost for one in result.objects)
        self.lost += lost
        self.objects += len(result.objects) - lost
        self.notes |= dict.fromkeys(result.notes)


def sam_source(
    source: Source,
    predictor: SamPredictor,
    request: SamRequest,
    *,
    progress: Progress | None = None,
    on_row: Callable[[dict[str, Any]], None] | None = None,
) -> SamReport:
    """Find objects in every image of a source, or follow them through a video.

    Args:
        source: an open source; it is read to its end and closed.
        predictor: the model.
        request: what to find, what to save, and where.
        progress: gets one step per frame; of everything mode, per point of the grid.
        on_row: gets each frame's row as plain values.

    Returns:
        What was done; also when it was interrupted.

    Raises:
        EvitError: no frame could be used, or reading or writing failed. Unfinished files are gone.
        UsageError: the request does not fit the source.
    """
    progress = progress or NoProgress()
    check_request(request, source)
    writer, tally = _writer(request, source), _Tally()
    work = _Work(predictor, request, source, progress)
    by_point = request.everything is not None
    video = source.kind is not SourceKind.IMAGES
    unkept = ["embeddings are kept of prompted still images only"]
    unkept = unkept if predictor.caches and (video or by_point) else []

    def after(frame: Frame, result: SamResult | None) -> None:
        if result is not None:
            tally.add(result)
            if on_row is not None:
                on_row(frame_row(frame, result, video=video))
        if not by_point:
            shown = {} if result is None else {"model_ms": result.model_ms}
            progress.advance(1, dropped=source.dropped, **shown)

    pipeline = Pipeline(source, work, writer, every=request.every, max_frames=request.max_frames)
    if not by_point:
        expected = expected_frames(source, request.every, request.max_frames)
        progress.start(expected, "frame" if video else "image")
    try:
        outcome = pipeline.run(after)
    finally:
        if not by_point:
            progress.close()
    check_any_frame(source, tally.frames, outcome.interrupted, "image")
    return SamReport(
        written=writer.written,
        frames=tally.frames,
        objects=tally.objects,
        lost=tally.lost,
        skipped=source.skipped,
        dropped=source.dropped,
        seconds=tally.watch.seconds,
        model_ms=tally.watch.model_ms,
        tracked=video,
        interrupted=outcome.interrupted,
        notes=[*tally.notes, *writer.notes, *predictor.notes, *unkept],
    )
