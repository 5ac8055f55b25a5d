"""The output sink of a command: data on standard output, talk on standard error.

Three modes: `HUMAN` (tables and sentences), `JSON` (`--json`: one document, or one line per row)
and `QUIET` (`-q`: data only, no talk).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any


class Mode(Enum):
    """How a command speaks."""

    HUMAN = "human"
    JSON = "json"
    QUIET = "quiet"


def _plain(value: Any) -> Any:
    """JSON form of what the library returns: paths, enums and numpy scalars become plain."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "item"):
        return value.item()
    return str(value)


class Sink:
    """Where a command sends what it has to say."""

    def __init__(self, *, json_output: bool = False, quiet: bool = False) -> None:
        self.mode = Mode.JSON if json_output else Mode.QUIET if quiet else Mode.HUMAN

    @property
    def human(self) -> bool:
        """Whether tables and sentences are wanted."""
        return self.mode is Mode.HUMAN

    def say(self, text: str) -> None:
        """One line of talk, on standard error; nothing under `-q` or `--json`."""
        if self.human:
            from rich.console import Console

            Console(stderr=True, soft_wrap=True, highlight=False).print(text, markup=False)

    def warn(self, text: str) -> None:
        """One line that the user must see, on standard error in every mode."""
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, soft_wrap=True, highlight=False)
        console.print(Text("warning: ", style="bold yellow") + Text(text, style="default"))

    def silence(self) -> None:
        """Whoever read standard output has gone: write the rest nowhere."""
        sys.stdout = open(os.devnull, "w")

    def line(self, text: str) -> None:
        """One line of data for people or pipes, on standard output; nothing under `--json`."""
        if self.mode is not Mode.JSON:
            sys.stdout.write(text + "\n")

    def json(self, document: Any) -> None:
        """One JSON document on one line of standard output; nothing in the other modes."""
        if self.mode is Mode.JSON:
            sys.stdout.write(json.dumps(document, default=_plain, ensure_ascii=False) + "\n")
            sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], title: str) -> None:
        """Rows as a Rich table on a terminal, tab-separated in a pipe, one document as JSON."""
        if self.mode is Mode.JSON:
            self.json(list(rows))
        elif self.mode is Mode.HUMAN and sys.stdout.isatty():
            from rich.console import Console
            from rich.table import Table
            from rich.text import Text

            table = Table(title=title, title_justify="left", header_style="bold")
            for column in columns:
                table.add_column(column)
            for row in rows:
                # Text: a cell like "evit-cli[torch]" is not markup
                table.add_row(*(Text(str(row.get(column, ""))) for column in columns))
            Console().print(table)
        else:
            self.line("\t".join(columns))
            for row in rows:
                self.line("\t".join(str(row.get(column, "")) for column in columns))
