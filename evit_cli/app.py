"""The Typer application; the one place that turns an exception into words and an exit code."""

from __future__ import annotations

import errno
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from evit_cli import __version__
from evit_cli.commands import (
    bench,
    classify,
    devices,
    doctor,
    evaluate,
    export,
    models,
    recipes,
    sam,
    segment,
    train,
    upscale,
)
from evit_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EvitError
from evit_cli.ui.messages import print_error


def _explain_os_error(error: OSError) -> EvitError:
    """An operating-system error that no room below turned into its own sentence."""
    where = f" at {os.fspath(error.filename)}" if error.filename else ""
    hints = {
        errno.ENOSPC: "free some space, or write elsewhere with --out",
        errno.EACCES: "check the permissions, or write elsewhere with --out",
    }
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return EvitError(f"{reason}{where}", hint=hints.get(error.errno or 0, ""))


class EvitGroup(TyperGroup):
    """A command group whose commands end in one sentence and the exit code of `errors.py`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The list of commands in plain text: importing what draws boxes would take 0.1 s more."""
        drawn, self.rich_markup_mode = self.rich_markup_mode, None
        super().format_help(ctx, formatter)
        self.rich_markup_mode = drawn

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen subcommand; a known error is printed and becomes its exit code."""
        try:
            return super().invoke(ctx)
        except EvitError as error:
            print_error(error)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError as error:
            # The reader went away (`evit ... | head`): not an error, but nothing more can be said.
            sys.stdout = open(os.devnull, "w")
            raise typer.Exit(EXIT_FAILED) from error
        except KeyboardInterrupt as error:
            raise typer.Exit(getattr(error, "exit_code", EXIT_INTERRUPTED)) from error
        except MemoryError as error:
            print_error(EvitError("out of memory", hint="try a smaller --size"))
            raise typer.Exit(EXIT_FAILED) from error
        except OSError as error:
            print_error(_explain_os_error(error))
            raise typer.Exit(EXIT_FAILED) from error


app = typer.Typer(
    name="evit",
    cls=EvitGroup,
    help="EfficientViT on edge devices: segment, upscale, classify, measure.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """EfficientViT on edge devices: segment, upscale, classify, measure."""


for _module in (segment, upscale, sam, classify, evaluate, train, export, bench, doctor):
    _module.register(app)
app.add_typer(models.app, name="models")
app.add_typer(devices.app, name="devices")
app.add_typer(recipes.app, name="recipes")


def main() -> None:
    """The `evit` program."""
    app()
