"""What every run over a source has in common: how it is counted, timed and reported."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, Problems, Source

_TIMES_KEPT = 1000


class Stopwatch:
    """Times a run from its making on, and the model per frame over the last 1000 frames."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._model_ms: deque[float] = deque(maxlen=_TIMES_KEPT)

    def add(self, model_ms: float) -> None:
        """One more frame, milliseconds."""
        self._model_ms.append(model_ms)

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return time.perf_counter() - self._started

    @property
    def model_ms(self) -> float:
        """The median, milliseconds; 0 before the first frame."""
        return float(np.median(self._model_ms)) if self._model_ms else 0.0


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """What a run did.

    Attributes:
        written: files and folders, absolute.
        frames: how many images or frames were worked on.
        skipped: what could not be used, such as files that cannot be decoded.
        dropped: frames of a live source that came too fast.
        seconds: wall time of the run.
        model_ms: median time of the model per frame over the last 1000, milliseconds.
        interrupted: the signal's exception class if the run was cut short.
        notes: what the user should hear besides, such as what could not be kept of the source.
    """

    written: list[Path]
    frames: int
    skipped: Problems
    dropped: int
    seconds: float
    model_ms: float
    interrupted: type[KeyboardInterrupt] | None = None
    notes: Sequence[str] = ()

    @property
    def fps(self) -> float:
        """Frames per second over everything: decoding, the model, drawing and encoding."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def ended(self) -> str:
        """How a sentence about the run begins."""
        return "interrupted after" if self.interrupted else "done:"

    @property
    def sentence(self) -> str:
        """The report for people."""
        return (
            f"{self.ended} {self.frames} frames in {self.seconds:.1f} s, {self.fps:.3g} frames/s, "
            f"model {self.model_ms:.0f} ms"
        )

    def summary(self) -> dict[str, Any]:
        """The report as plain values for JSON."""
        return {
            "written": [str(path) for path in self.written],
            "frames": self.frames,
            "skipped": self.skipped.count,
            "problems": [*self.skipped.first, *self.notes],
            "dropped": self.dropped,
            "seconds": round(self.seconds, 3),
            "fps": round(self.fps, 3),
            "model_ms": round(self.model_ms, 3),
            "interrupted": self.interrupted is not None,
        }


def expected_frames(source: Source, every: int, max_frames: int | None) -> int | None:
    """How many frames a run will work on; None where nobody knows."""
    count = source.frame_count
    return None if count is None else min(-(-count // every), max_frames or count)


def check_any_frame(
    source: Source, frames: int, interrupted: type[KeyboardInterrupt] | None, what: str
) -> None:
    """Refuse a run to its end that had nothing to work on.

    Raises:
        EvitError: it gave not one `what`.
    """
    if frames or interrupted is not None:
        return
    detail = f": {source.skipped.first[0]}" if source.skipped.count else ""
    hint = "copy or record it again, and look at it in a player" if detail else ""
    raise EvitError(f"{source.name} gave no {what}{detail}", hint=hint)


def frame_name(frame: Frame) -> dict[str, Any]:
    """How a row of results begins: which frame it is, and its time in seconds where known."""
    row: dict[str, Any] = {"frame": frame.index, "name": frame.name}
    if frame.time_s is not None:
        row["time_s"] = round(float(frame.time_s), 6)
    return row
