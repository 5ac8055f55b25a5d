"""The command line as a whole: help, exit codes, output modes."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import evit_cli
from evit_cli.app import EvitGroup
from evit_cli.errors import EvitError, MissingDependency, UsageError, require, suggest
from evit_cli.ui.sink import Sink
from tests.helpers.cli import evit

COMMANDS = [
    "bench", "segment", "upscale", "sam", "classify", "eval", "train", "distill", "export",
    "doctor",
    "models ls", "models show", "models pull",
    "devices ls", "devices show", "recipes ls", "recipes show", "recipes copy",
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_in_examples_and_offers_both_output_modes(command: str) -> None:
    result = evit(*command.split(), "--help")
    assert result.exit_code == 0, result.output
    assert "--json" in result.output
    assert "--quiet" in result.output
    _, _, examples = result.output.partition("Examples")
    assert examples.count(f"evit {command}") >= 2


def test_every_command_is_in_the_list_above() -> None:
    listed = evit("--help").output.partition("Commands:")[2]
    names = {line.split()[0] for line in listed.splitlines() if line.strip()}
    assert names == {command.split()[0] for command in COMMANDS}


def test_version() -> None:
    assert evit("--version").output.strip() == f"evit {evit_cli.__version__}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EvitError("bad input", hint="mend it"), 1),
        (UsageError("bad option"), 2),
        (MissingDependency("no torch"), 5),
        (EvitError("disagrees", exit_code=3), 3),
        (OSError(28, "No space left on device", "out.mp4"), 1),
        (MemoryError(), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_one_sentence_and_an_exit_code(error: BaseException, code: int) -> None:
    import typer

    small = typer.Typer(cls=EvitGroup)

    @small.callback()
    def root() -> None:
        """A group, as the real application is."""

    @small.command()
    def fail() -> None:
        raise error

    result = CliRunner().invoke(small, ["fail"])
    assert result.exit_code == code
    assert "Traceback" not in result.output
    if isinstance(error, EvitError):
        assert f"error: {error.message}" in result.stderr
        assert error.hint in result.stderr


def test_the_program_runs_as_a_module_and_tells_usage_errors() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evit_cli", "segment", "x.png", "--alpha", "7"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "alpha" in done.stderr


def test_public_names_are_lazy_and_complete() -> None:
    for name in evit_cli.__all__:
        assert getattr(evit_cli, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = evit_cli.nothing_like_it


def test_a_missing_library_names_the_extra() -> None:
    with pytest.raises(MissingDependency) as caught:
        require("no_such_library", extra="torch", why="running this")
    assert caught.value.exit_code == 5
    assert caught.value.hint == 'pip install "evit-cli[torch]"'


def test_suggestions() -> None:
    assert suggest("seg-b0-cityscape", ["seg-b0-cityscapes", "cls-b0"]).startswith("did you mean")
    assert suggest("zzz", ["one", "two"]) == "known: one, two"


def test_sink_modes(capsys: pytest.CaptureFixture[str]) -> None:
    for sink, out, err in (
        (Sink(), "line\n", "talk\n"),
        (Sink(quiet=True), "line\n", ""),
        (Sink(json_output=True), '{"a": 1}\n', ""),
    ):
        sink.line("line")
        sink.json({"a": 1})
        sink.say("talk")
        captured = capsys.readouterr()
        assert captured.out == out
        assert captured.err == err
