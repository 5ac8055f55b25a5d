from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from evit_cli.config.device import list_profiles
from tests.helpers.paths import REPOSITORY


def evit(*arguments: str) -> Result:
    from evit_cli.app import app

    return CliRunner().invoke(app, list(arguments))


def test_ls_names_every_profile_and_this_machine() -> None:
    result = evit("devices", "ls")
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split("\t")[-1] == "here"
    assert [row.split("\t")[0] for row in rows] == [profile.name for profile in list_profiles()]
    assert sum(row.endswith("\tyes") for row in rows) <= 1


def test_ls_json() -> None:
    rows = json.loads(evit("devices", "ls", "--json").stdout)
    orin = next(row for row in rows if row["name"] == "jetson-agx-orin")
    assert orin["aliases"] == ["orin", "agx-orin"]
    assert (orin["backend"], orin["precision"], orin["transport"]) == ("tensorrt", "fp16", "local")
    assert orin["run_on_hardware_by_us"] is False
    assert all(isinstance(row["this_machine"], bool) for row in rows)


def test_ls_works_on_a_machine_without_a_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    monkeypatch.setattr("evit_cli.config.machine._gpus", lambda root, run: ())
    assert not any(
        row["this_machine"] for row in json.loads(evit("devices", "ls", "--json").stdout)
    )
    shown = evit("devices", "show", "auto")
    assert shown.exit_code == 1
    assert "no device profile recognises this machine (riscv64)" in shown.stderr


def test_show_explains() -> None:
    result = evit("devices", "show", "nano")
    assert result.exit_code == 0
    for text in (
        "jetson-nano (also: nano)",
        "Not run on this hardware by us",
        "ONNX opset 13: TensorRT 8.2 reads opsets up to 13.",
        "no Pad (with a value that is not 0)",
        "mit-han-lab/efficientvit#63",
        "evit does not run there (Python 3.6)",
        "NVIDIA Jetson Nano System-on-Module Data Sheet",
    ):
        assert text in result.stdout


def test_show_json_starts_a_profile_of_ones_own(tmp_path: Path) -> None:
    shown = evit("devices", "show", "orin", "--json").stdout
    document = json.loads(shown)
    assert document["name"] == "jetson-agx-orin"
    document["name"] = "my-board"
    mine = tmp_path / "my-board.yaml"
    mine.write_text(json.dumps(document))
    assert json.loads(evit("devices", "show", str(mine), "--json").stdout) == document


def test_show_auto_says_why() -> None:
    result = evit("devices", "show", "auto")
    assert result.exit_code == 0
    assert "because" in result.stderr
    assert evit("devices", "show", "auto", "-q").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("show", "orinn"), 1, "did you mean 'orin'"),
        (("show", "no/such.yaml"), 1, "no such file"),
        (("show",), 2, "Missing argument"),
        (("list",), 2, "No such command"),
    ],
)
def test_errors(arguments: tuple[str, ...], code: int, message: str) -> None:
    result = evit("devices", *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


def test_a_mistake_in_ones_own_file_names_line_and_key(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nprecison: fp16\n")
    result = evit("devices", "show", str(mine))
    assert result.exit_code == 1
    assert "line 2: unknown key 'precison'" in result.stderr
    assert "did you mean 'precisions'?" in result.stderr


@pytest.mark.parametrize("command", [("devices", "ls"), ("devices", "show"), ("doctor",)])
def test_help_ends_in_examples(command: tuple[str, ...]) -> None:
    text = evit(*command, "--help").stdout
    examples = text.partition("Examples")[2]
    assert examples.count(f"evit {' '.join(command)}") >= 2


def test_config_is_not_imported_for_help() -> None:
    program = (
        "import sys, evit_cli.commands.devices, evit_cli.commands.doctor\n"
        "late = {'yaml', 'evit_cli.config.profile', 'evit_cli.config.checks', 'cv2', 'av'}\n"
        "sys.exit(', '.join(late & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
