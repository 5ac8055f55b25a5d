"""From readings to joules, while a thread reads now and then."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence


class _Reader(ABC):
    """Calls `_read` when it starts, at an interval, and when it stops."""

    def __init__(self, name: str, every_s: float) -> None:
        self.name = name
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to count."""
        self._begin()
        self._read()
        self._ended.clear()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """End, and say how many joules it was; None if the counter stopped answering."""
        if self._thread is None:
            return None
        self._ended.set()
        self._thread.join()
        self._thread = None
        self._read()
        return self._joules()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._read()

    @abstractmethod
    def _begin(self) -> None: ...

    @abstractmethod
    def _read(self) -> None: ...

    @abstractmethod
    def _joules(self) -> float | None: ...


class EnergySum(_Reader):
    """Counters that add up energy themselves and begin again at zero when they are full.

    Args:
        name: of the counter.
        read: all counters now, in `unit_j`; None where they do not answer.
        ranges: at which each begins again at zero, 0 if it never does.
        unit_j: joules per step.
        every_s: often enough that none gets full twice in between.
    """

    def __init__(
        self,
        name: str,
        read: Callable[[], Sequence[int] | None],
        *,
        ranges: Sequence[int],
        unit_j: float,
        every_s: float = 10.0,
    ) -> None:
        super().__init__(name, every_s)
        self._counters, self._ranges, self._unit_j = read, ranges, unit_j

    def _begin(self) -> None:
        self._last: Sequence[int] | None = None
        self._steps, self._failed = 0, False

    def _read(self) -> None:
        now = self._counters()
        if now is None or len(now) != len(self._ranges):
            self._failed = True
            return
        for before, after, full in zip(self._last or now, now, self._ranges, strict=True):
            self._steps += after - before if after >= before else after - before + full
        self._last = now

    def _joules(self) -> float | None:
        return None if self._failed else self._steps * self._unit_j


class PowerSum(_Reader):
    """A sensor of power, integrated between its readings by the trapezium rule.

    Args:
        name: of the sensor.
        read_w: the power now in watts; None where it does not answer.
        every_s: how often to read.
    """

    def __init__(self, name: str, read_w: Callable[[], float | None], *, every_s: float) -> None:
        super().__init__(name, every_s)
        self._read_w = read_w

    def _begin(self) -> None:
        self._readings: list[tuple[float, float]] = []

    def _read(self) -> None:
        before = time.monotonic()
        watts = self._read_w()
        if watts is not None:
            # A tool takes a while to answer; what it says holds for the middle of that.
            self._readings.append(((before + time.monotonic()) / 2, watts))

    def _joules(self) -> float | None:
        pairs = list(zip(self._readings, self._readings[1:], strict=False))
        if not pairs:
            return None
        return sum((t1 - t0) * (w0 + w1) / 2 for (t0, w0), (t1, w1) in pairs)
