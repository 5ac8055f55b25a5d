from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import evit_cli.config.checks as checks_room
from evit_cli.config.checks import Check, Level, Status, Surroundings
from evit_cli.ui.sink import Sink

GOOD = Check("python", Status.OK, "3.11", level=Level.REQUIRED)
LACKING = Check("onnx", Status.MISSING, "not installed", "pip install onnxruntime")
BROKEN = Check(
    "av", Status.PROBLEM, "does not import", 'pip install "evit-cli[torch]"', Level.REQUIRED
)


def evit(*arguments: str) -> Result:
    from evit_cli.app import app

    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What the checks find; a test fills it."""
    answer: list[Check] = []
    monkeypatch.setattr(checks_room, "run_checks", lambda around, **how: answer)
    return answer


def test_the_real_checks_run() -> None:
    result = evit("doctor", "--json")
    rows = json.loads(result.stdout)
    assert {"python", "device profile", "numpy", "torch", "hub cache"} <= {r["check"] for r in rows}
    assert all({"check", "status", "detail", "mend"} <= set(row) for row in rows)
    broken = any(row["level"] == "required" and row["status"] != "ok" for row in rows)
    assert result.exit_code == int(broken)


def test_hub_settings_come_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = {row["check"]: row for row in json.loads(evit("doctor", "--json", "--network").stdout)}
    assert str(tmp_path / "hub") in rows["hub cache"]["detail"]
    assert rows["hub requests"]["detail"].startswith("off")
    assert "not tried" in rows["network"]["detail"]


def test_lacking_something_optional_is_fine(found: list[Check]) -> None:
    found += [GOOD, LACKING]
    result = evit("doctor")
    assert result.exit_code == 0
    assert "onnx\tmissing\toptional\tnot installed\tpip install onnxruntime" in result.stdout
    assert "evit can work here; optional things missing: 1" in result.stderr


def test_something_required_is_not(found: list[Check]) -> None:
    found += [GOOD, BROKEN]
    result = evit("doctor")
    assert result.exit_code == 1
    assert 'pip install "evit-cli[torch]"' in result.stdout
    assert "evit cannot work yet: av" in result.stderr


def test_quiet_and_json_do_not_talk(found: list[Check]) -> None:
    found += [GOOD, BROKEN]
    for option in ("-q", "--json"):
        result = evit("doctor", option)
        assert (result.exit_code, result.stderr) == (1, "")


def test_on_a_terminal_each_mend_is_a_line_to_copy(
    found: list[Check], monkeypatch: pytest.MonkeyPatch
) -> None:
    found += [GOOD, LACKING, BROKEN]
    tables: list[tuple[str, ...]] = []
    lines: list[str] = []
    monkeypatch.setattr("evit_cli.commands.doctor.is_terminal", lambda: True)
    monkeypatch.setattr(Sink, "table", lambda self, columns, rows, title: tables.append(columns))
    monkeypatch.setattr(Sink, "line", lambda self, text: lines.append(text))
    assert evit("doctor").exit_code == 1
    assert tables == [("check", "status", "detail")]
    assert lines == [
        "onnx (optional): pip install onnxruntime",
        'av (required): pip install "evit-cli[torch]"',
    ]


def test_options_reach_the_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, bool]] = []

    def run_checks(around: Surroundings, **how: bool) -> list[Check]:
        asked.append(how)
        return [GOOD]

    monkeypatch.setattr(checks_room, "run_checks", run_checks)
    evit("doctor")
    evit("doctor", "--deep", "--network")
    assert asked == [{"deep": False, "network": False}, {"deep": True, "network": True}]
