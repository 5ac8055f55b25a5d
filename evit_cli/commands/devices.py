"""`evit devices`: the device profiles, and why each says what it says."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_cli.commands import options
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.config.profile import Profile

app = typer.Typer(
    help="Device profiles: what evit knows of a board, and why it chooses what it chooses.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_LS_EXAMPLES = options.examples("evit devices ls", "evit devices ls --json")
_SHOW_EXAMPLES = options.examples(
    "evit devices show orin",
    "evit devices show auto   # the profile of this machine",
    "evit devices show orin --json > my-board.yaml",
)


@app.command("ls", epilog=_LS_EXAMPLES)
def list_devices(json_output: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the device profiles and mark the one of this machine."""
    from evit_cli.config.device import detect_profile, list_profiles
    from evit_cli.errors import EvitError

    sink = Sink(json_output=json_output, quiet=quiet)
    profiles = list_profiles()
    try:
        here = detect_profile(profiles=profiles).profile.name
    except EvitError:
        here = ""
    rows = [_row(profile, profile.name == here) for profile in profiles]
    if json_output:
        sink.json(rows)
        return
    for row in rows:
        row["aliases"] = " ".join(row["aliases"])
        row["here"] = "yes" if row["this_machine"] else ""
    columns = ("name", "aliases", "backend", "precision", "transport", "here")
    sink.table(columns, rows, "Device profiles")


def _row(profile: Profile, here: bool) -> dict[str, Any]:
    return {
        "name": profile.name,
        "title": profile.title,
        "aliases": list(profile.aliases),
        "backend": profile.backend.value,
        "precision": profile.precision.value,
        "transport": profile.default_transport,
        "run_on_hardware_by_us": profile.run_on_hardware_by_us,
        "this_machine": here,
    }


@app.command("show", epilog=_SHOW_EXAMPLES)
def show_device(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", help="A profile, one of its aliases, a file, or auto."),
    ],
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Explain a device profile: its choices and why, its limits, the problems known."""
    from evit_cli.config.describe import describe
    from evit_cli.config.device import AUTO, detect_profile, load_profile

    sink = Sink(json_output=json_output, quiet=quiet)
    if name == AUTO:
        found = detect_profile()
        profile = found.profile
        sink.say(f"this machine is '{profile.name}', because {found.reason}")
    else:
        profile = load_profile(name)
    # The document is a valid profile: saved to a file, it is a start for the user's own.
    sink.json(profile.model_dump(mode="json"))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in describe(profile, width):
        sink.line(line)
