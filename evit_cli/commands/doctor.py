"""`evit doctor`: what is installed, what works, and the command that mends the rest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_cli.commands import options
from evit_cli.errors import EXIT_FAILED
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.config.checks import Check

_EXAMPLES = options.examples(
    "evit doctor",
    "evit doctor --deep             # also try every runtime",
    "evit doctor --network --json   # for a bug report",
)


def _row(check: Check) -> dict[str, Any]:
    return {
        "check": check.check,
        "status": check.status.value,
        "level": check.level.value,
        "detail": check.detail,
        "mend": check.mend,
    }


def _summary(checks: list[Check]) -> str:
    broken = [check.check for check in checks if check.broken]
    if broken:
        return f"evit cannot work yet: {', '.join(broken)}. What mends it stands above."
    lacking = sum(bool(check.mend) for check in checks)
    return "evit can work here" + (f"; optional things missing: {lacking}" if lacking else "")


def is_terminal() -> bool:
    """Whether a person reads standard output as it is written."""
    return sys.stdout.isatty()


def doctor(
    deep: Annotated[
        bool, typer.Option("--deep", help="Import each runtime and run a tiny model (slower).")
    ] = False,
    network: Annotated[bool, typer.Option("--network", help="Ask the hub if it answers.")] = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Say what is installed, which backends work and what mends the rest.

    Exits with 0 when everything evit requires is fine, with 1 when something required is broken.
    """
    from evit_cli.bench.machine.clocks import read_clocks
    from evit_cli.config.checks import HubSettings, Surroundings, run_checks
    from evit_cli.config.machine import read_machine
    from evit_cli.weights import hub

    sink = Sink(json_output=json_output, quiet=quiet)
    around = Surroundings(
        machine=read_machine(),
        hub=HubSettings(hub.cache_dir(), hub.is_offline(False), hub.endpoint()),
        cwd=Path.cwd(),
        clocks_pinned=read_clocks().pinned,
    )
    checks = run_checks(around, deep=deep, network=network)
    rows = [_row(check) for check in checks]
    if sink.human and is_terminal():
        # A command broken over a table cell's lines cannot be copied: mends go below, one a line.
        sink.table(("check", "status", "detail"), rows, "evit doctor")
        for check in checks:
            if check.mend:
                sink.line(f"{check.check} ({check.level.value}): {check.mend}")
    else:
        sink.table(("check", "status", "level", "detail", "mend"), rows, "evit doctor")
    sink.say(_summary(checks))
    if any(check.broken for check in checks):
        raise typer.Exit(EXIT_FAILED)


def register(app: typer.Typer) -> None:
    """Add `evit doctor`."""
    app.command("doctor", epilog=_EXAMPLES)(doctor)
