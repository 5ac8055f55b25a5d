"""The command line through Typer's runner."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from evit_cli.app import app


def evit(*arguments: object) -> Result:
    """Run `evit ARGUMENTS` in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
