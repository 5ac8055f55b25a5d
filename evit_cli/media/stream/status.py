"""How a run is doing: counted by the run, read by whoever asks."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from dataclasses import dataclass, field
from statistics import median

_KEPT = 100
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW = 5
"""A run is not stalled before it has been silent for so many times the model's time."""


@dataclass(frozen=True)
class Reading:
    """The run at one moment.

    Attributes:
        state: "starting", "running" or "stalled".
        frames: how many were processed.
        fps: over the last 100 frames, up to now.
        model_ms: median of the last 100.
        model_seconds: of all frames together.
        buckets: frames whose model time is in each interval of `BUCKETS_S`, and beyond.
        source_dropped: frames of a live source that were overtaken.
        uptime_s: since the stream was opened.
        silent_s: since the last frame, None before the first.
    """

    state: str
    frames: int
    fps: float
    model_ms: float
    model_seconds: float
    buckets: tuple[int, ...]
    source_dropped: int
    uptime_s: float
    silent_s: float | None


@dataclass
class Traffic:
    """What was sent; touched by the server's thread only."""

    clients: int = 0
    sent: int = 0
    dropped: int = 0
    refused: Counter[int] = field(default_factory=Counter)


class Status:
    """Counts frames.

    Args:
        stalled_s: how long a run may be silent.
    """

    def __init__(self, stalled_s: float) -> None:
        self._stalled_s = stalled_s
        self._lock = threading.Lock()
        self._opened = time.monotonic()
        self.started_at = time.time()
        self.facts: dict[str, str] = {}
        self.traffic = Traffic()
        self._frames = self._source_dropped = 0
        self._model_seconds = 0.0
        self._buckets = [0] * (len(BUCKETS_S) + 1)
        self._recent: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def count(self, model_ms: float, source_dropped: int) -> None:
        """One more frame; `source_dropped` is the total so far."""
        with self._lock:
            self._frames += 1
            self._source_dropped = source_dropped
            self._model_seconds += model_ms / 1e3
            self._buckets[bisect_left(BUCKETS_S, model_ms / 1e3)] += 1
            self._recent.append((time.monotonic(), model_ms))

    def read(self) -> Reading:
        """How things are now."""
        with self._lock:
            recent = list(self._recent)
            now = time.monotonic()
            silent_s = now - recent[-1][0] if recent else None
            return Reading(
                state=self._state(silent_s, recent),
                frames=self._frames,
                fps=_rate(recent, now),
                model_ms=median(ms for _, ms in recent) if recent else 0.0,
                model_seconds=self._model_seconds,
                buckets=tuple(self._buckets),
                source_dropped=self._source_dropped,
                uptime_s=now - self._opened,
                silent_s=silent_s,
            )

    def _state(self, silent_s: float | None, recent: list[tuple[float, float]]) -> str:
        if silent_s is None:
            return "starting"
        allowed_s = max(self._stalled_s, _SLOW * recent[-1][1] / 1e3)
        return "stalled" if silent_s > allowed_s else "running"


def _rate(recent: list[tuple[float, float]], now: float) -> float:
    """Frames per second, which falls while nothing comes."""
    if len(recent) < 2:
        return 0.0
    span_s = max(now, recent[-1][0]) - recent[0][0]
    return (len(recent) - 1) / span_s if span_s else 0.0
