"""What a command over a source prints, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from evit_cli.errors import EXIT_INTERRUPTED
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.inference.run_report import RunReport


def rows_to(sink: Sink) -> Callable[[dict[str, Any]], None]:
    """Print rows; when nobody reads them any more, end the run as Ctrl-C does."""
    from evit_cli.media.pipeline import ReaderGone

    def show(row: dict[str, Any]) -> None:
        try:
            sink.json(row)
        except BrokenPipeError as error:
            sink.silence()
            raise ReaderGone from error

    return show


def end_run(sink: Sink, report: RunReport) -> None:
    """Print what a run wrote, what went wrong, and a sentence about it.

    Raises:
        typer.Exit: the run was interrupted.
    """
    for path in report.written:
        sink.line(str(path))
    sink.json({"summary": report.summary()})
    if report.skipped.count:
        sink.warn(f"skipped {report.skipped.count}: {report.skipped.first[0]}")
    for note in report.notes:
        sink.warn(note)
    if report.dropped:
        sink.say(f"{report.dropped} live frames were overtaken by newer ones")
    sink.say(report.sentence)
    if report.interrupted is not None:
        raise typer.Exit(getattr(report.interrupted, "exit_code", EXIT_INTERRUPTED))
