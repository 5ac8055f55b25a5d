"""Errors and warnings for people, on standard error."""

from __future__ import annotations

import sys

from evit_cli.errors import EvitError


def print_error(error: EvitError) -> None:
    """Write "error: ..." and, if there is one, the mend on a second line."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True, highlight=False)
    console.print(Text("error: ", style="bold red") + Text(error.message, style="default"))
    if error.hint:
        console.print(Text("  mend: ", style="bold") + Text(error.hint, style="default"))
    sys.stderr.flush()
