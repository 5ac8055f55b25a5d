"""Shows a download: a Rich bar with bytes and time left on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from typing import Any

from evit_cli.types import NoProgress, Progress
from evit_cli.ui.sink import Sink


class DownloadBar:
    """One bar per file, on standard error; gone when the file is there."""

    def __init__(self) -> None:
        self._bars: Any = None
        self._bar: Any = None

    def start(self, total: int | None, unit: str) -> None:
        """Draw the bar; units are bytes."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bars = Progress(
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bars.start()
        self._bar = self._bars.add_task(unit, total=total)

    def advance(self, done: int, **fields: object) -> None:
        """Move the bar."""
        if self._bars is not None:
            self._bars.update(self._bar, advance=done)

    def close(self) -> None:
        """Take the bar away."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def download_progress(sink: Sink) -> Progress:
    """A bar where a person watches; silent under `--json`, `-q` and in a pipe."""
    return DownloadBar() if sink.human and sys.stderr.isatty() else NoProgress()
