"""A live source that is opened again when it ends, fails or falls silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, Notes, Problems, Source, SourceKind
from evit_cli.media.live import NewestFrame
from evit_cli.media.pipeline import SourceLost
from evit_cli.media.rules import SourceRules

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 10.0
STEADY_S = 10.0
"""A connection that lasted so long was a good one: after it the waits begin again at the first."""


def _never(source: Source) -> bool:
    return False


class ReconnectingSource:
    """Newest frames of a source that is opened again whenever it is lost.

    Indices go on and times are those of arrival, so that an outage is a pause in the movie: the
    last frame stands, and none is invented. Waits between attempts double from half a second up to
    ten. The time since the last frame decides when to give up.

    Args:
        first: the source, already open.
        again: opens it again, or raises an EvitError.
        rules: the limits, and who hears of losses and returns.
        ended: says of a source that ended without an error whether that was its end.

    Attributes:
        reconnects: how often it came back.
        notes: losses and returns in words, the first few.
    """

    kind = SourceKind.LIVE

    def __init__(
        self,
        first: Source,
        again: Callable[[], Source],
        rules: SourceRules,
        *,
        ended: Callable[[Source], bool] = _never,
    ) -> None:
        self._again, self._rules, self._ended = again, rules, ended
        self._newest = NewestFrame(first, stall_s=rules.stall_s)
        self._first = first
        self.name = first.name
        self.rate = first.rate
        self.path: Path | None = first.path
        self.frame_count: int | None = None
        self.skipped = Problems()
        self.reconnects = 0
        self.notes = Notes()
        self._dropped_before = 0
        self._index = 0
        self._last_s = 0.0
        self._started: Fraction | None = None
        self._stop = threading.Event()

    @property
    def dropped(self) -> int:
        """Frames overtaken by newer ones, of all connections."""
        return self._dropped_before + self._newest.dropped

    def frames(self) -> Iterator[Frame]:
        """Frames until the source ends or is lost for good.

        Raises:
            EvitError: the first connection failed before its first frame.
            SourceLost: the limit is over; a sentence says so.
        """
        wait_s, source = FIRST_WAIT_S, self._first
        self._last_s = time.monotonic()
        while True:
            opened_s, before = time.monotonic(), self._index
            error = yield from self._connection()
            if self._index == 0 and error is not None:
                raise error
            if self._stop.is_set() or self._index == 0 or self._was_its_end(source, error):
                self._keep_problems(source.skipped, told="")
                return
            if self._rules.reconnect_s == 0:
                self._keep_problems(source.skipped, told="")
                if error is not None:
                    self.skipped.end(error.message)
                return
            why = error.message if error else source.skipped.why_ended or "it ended"
            self._keep_problems(source.skipped, told=why)
            if self._index > before:
                self._say(f"{self.name} was lost after {self._index} frames: {why}")
                steady = self._last_s - opened_s >= STEADY_S
                wait_s = FIRST_WAIT_S if steady else wait_s
            found, wait_s = self._seek(wait_s)
            if found is None:
                return
            source = found
            self._dropped_before += self._newest.dropped
            self._newest = NewestFrame(source, stall_s=self._rules.stall_s)

    def _connection(self) -> Generator[Frame, None, EvitError | None]:
        """The frames of one connection, and what it failed with."""
        newest, came = self._newest, False
        try:
            for frame in newest.frames():
                if self._index and not came:
                    self.reconnects += 1
                    away_s = time.monotonic() - self._last_s
                    self._say(f"{self.name} is back after {away_s:.1f} s")
                came = True
                begun = newest.started_s or Fraction(0)
                self._started = begun if self._started is None else self._started
                time_s = begun - self._started + (frame.time_s or Fraction(0))
                yield replace(frame, index=self._index, time_s=time_s)
                self._index += 1
                self._last_s = newest.heard_s
        except EvitError as error:
            return error
        return None

    def _was_its_end(self, source: Source, error: EvitError | None) -> bool:
        return error is None and not source.skipped.why_ended and self._ended(source)

    def _seek(self, wait_s: float) -> tuple[Source | None, float]:
        """The source, open again, and the next wait; None if the run is being stopped.

        Raises:
            SourceLost: the limit is over.
        """
        why = ""
        while True:
            left_s = self._last_s + self._rules.reconnect_s - time.monotonic()
            if left_s <= 0:
                detail = f": {why}" if why else ""
                self._lost(
                    f"{self.name} did not come back for {self._rules.reconnect_s:g} s{detail}"
                )
            if self._stop.wait(min(wait_s, left_s)):
                return None, wait_s
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                source = self._again()
            except EvitError as error:
                why = error.message
                continue
            if self._stop.is_set():  # asked to stop while it was being opened
                source.close()
                return None, wait_s
            return source, wait_s

    def _lost(self, sentence: str) -> None:
        self._say(sentence)
        raise SourceLost(sentence)

    def _say(self, sentence: str) -> None:
        self.notes.add(sentence)
        self._rules.notice(sentence)

    def _keep_problems(self, problems: Problems, *, told: str) -> None:
        """Keep what one connection could not decode, but for what is told as a loss."""
        kept = [sentence for sentence in problems.first if sentence != told]
        for sentence in kept:
            self.skipped.add(sentence)
        self.skipped.count += max(problems.count - len(problems.first), 0)

    def close(self) -> None:
        """Stop reading, also while waiting for the source to come back."""
        self._stop.set()
        self._newest.close()
