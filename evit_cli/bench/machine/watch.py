"""An eye on the machine while it measures: why a row may not be what the machine can do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from evit_cli.bench.machine.clocks import ClockEye
from evit_cli.bench.machine.contention import ContentionEye
from evit_cli.bench.machine.throttle import HeatEye, NvidiaEye, RaspberryPiEye
from evit_cli.config.machine import Runner, run_tool


class Eye(Protocol):
    """Watches one thing."""

    def open(self) -> None:
        """Measuring begins."""

    def look(self) -> None:
        """A block of runs has just ended."""

    def close(self) -> list[str]:
        """Measuring has ended: what was seen, a sentence each."""


class Watch:
    """Watches from `start` to `stop`; nothing of it raises, and what cannot be read is not seen.

    Args:
        pids: the processes that are measured; they, their descendants and this process are not
            "other processes".
        root: where the file tree starts; a test gives a fake one.
        run: runs a tool and returns its standard output, "" on any failure.

    Example:
        >>> watch = Watch()
        >>> watch.start()
        >>> watch.sample()
        >>> reasons = watch.stop()
    """

    def __init__(
        self, pids: Iterable[int] = (), *, root: Path = Path("/"), run: Runner = run_tool
    ) -> None:
        # The last to open and the first to close counts CPU time: the others' own is not in it.
        self._eyes: tuple[Eye, ...] = (
            NvidiaEye(run),
            RaspberryPiEye(run),
            HeatEye(root),
            ClockEye(root),
            ContentionEye(frozenset(pids), root),
        )
        self._started = False

    def start(self) -> None:
        """Begin, after the warm-up."""
        for eye in self._eyes:
            eye.open()
        self._started = True

    def sample(self) -> None:
        """Look; call it right after a block of runs and never during one."""
        if self._started:
            for eye in self._eyes:
                eye.look()

    def stop(self) -> tuple[str, ...]:
        """End, and say what taints the measurement; empty when nothing does."""
        if not self._started:
            return ()
        self._started = False
        return tuple(sentence for eye in reversed(self._eyes) for sentence in eye.close())
