"""Shows progress: a Rich bar on a terminal, a plain line now and then in a pipe or a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

from evit_cli.types import NoProgress, Progress
from evit_cli.ui.sink import Mode, Sink

_PLAIN_INTERVAL_S = 5.0


def _shown(fields: Mapping[str, object]) -> list[str]:
    """The values beside a bar, as words."""
    words = []
    for name, value in fields.items():
        if name == "model_ms":
            words.append(f"model {value:.0f} ms")
        elif name == "dropped":
            words.extend([f"{value} dropped"] if value else [])
        elif isinstance(value, float):
            words.append(f"{name} {value:.4g}")
        else:
            words.append(f"{name} {value}")
    return words


class PlainProgress:
    """One line on standard error every few seconds."""

    def __init__(self) -> None:
        self._total: int | None = None
        self._unit = ""
        self._done = 0
        self._started = self._spoken = 0.0

    def start(self, total: int | None, unit: str) -> None:
        """Begin counting."""
        self._total, self._unit, self._done = total, unit, 0
        self._started = self._spoken = time.monotonic()

    def advance(self, done: int, **fields: object) -> None:
        """Count, and speak if it is time."""
        self._done += done
        now = time.monotonic()
        if now - self._spoken >= _PLAIN_INTERVAL_S:
            self._spoken = now
            rate = self._done / (now - self._started)
            of = f"/{self._total}" if self._total else ""
            left = ""
            if self._total:
                left = f", {max(self._total - self._done, 0) / rate:.0f} s left"
            speed = f"{rate:.1f} {self._unit}s/s"
            what = ", ".join([f"{self._done}{of} {self._unit}s, {speed}{left}", *_shown(fields)])
            sys.stderr.write(what + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        """Nothing is left on the line."""


class BarProgress:
    """A Rich bar with rate and time left."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None
        self._started = 0.0
        self._done = 0
        self._unit = ""

    def start(self, total: int | None, unit: str) -> None:
        """Draw the bar."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._unit, self._done = unit, 0
        self._started = time.monotonic()
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._progress.start()
        self._task = self._progress.add_task(unit, total=total, speed="", detail="")

    def advance(self, done: int, **fields: object) -> None:
        """Move the bar."""
        if self._progress is None:
            return
        self._done += done
        elapsed = max(time.monotonic() - self._started, 1e-9)
        detail = ", ".join(_shown(fields))
        speed = f"{self._done / elapsed:.1f} {self._unit}s/s"
        self._progress.update(self._task, advance=done, speed=speed, detail=detail)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()


def progress_for(sink: Sink) -> Progress:
    """What suits the sink and the terminal; silent under `--json` and `-q`."""
    if sink.mode is not Mode.HUMAN:
        return NoProgress()
    return BarProgress() if sys.stderr.isatty() else PlainProgress()
