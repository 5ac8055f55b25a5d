"""What goes wrong with phones: a sentence with its mend, and a clean phone."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evit_cli.bench.protocol import QUICK
from evit_cli.bench.remote import phone_measure
from evit_cli.bench.remote.adb import AdbRequest
from evit_cli.bench.remote.adb_client import Adb
from evit_cli.bench.row import Kind
from evit_cli.errors import EvitError, MissingDependency, UsageError
from tests.helpers.adb_measure import ARTIFACT, measure, refused
from tests.helpers.adb_standin import AdbStandin


def test_a_hot_phone_is_refused(adb: AdbStandin) -> None:
    adb.add_phone(thermal=3)
    assert "too hot to measure: Android calls its heat severe" in refused(adb).message
    assert not any(words[2:3] == ["push"] for words in adb.calls())


def test_a_phone_that_gets_hot_keeps_what_is_measured(adb: AdbStandin) -> None:
    adb.add_phone(heats_to=3)
    rows = measure(adb, "cpu", "gpu")
    assert [row.kind for row in rows] == [Kind.MEASURED, Kind.FAILED]
    assert "too hot" in rows[1].error["reason"]


def test_no_adb(adb: AdbStandin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    adb.add_phone()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependency, match="needs adb") as caught:
        measure(adb)
    assert "platform-tools" in caught.value.hint
    sdk = tmp_path / "sdk" / "platform-tools"
    shutil.copytree(adb.folder / "bin", sdk)
    monkeypatch.setenv("ADB_STANDIN", str(adb.folder))
    monkeypatch.setenv("ANDROID_HOME", str(tmp_path / "sdk"))
    assert Adb().serial == "AB12CD34"


def test_no_phone(adb: AdbStandin) -> None:
    assert refused(adb).message == "no phone is connected"


@pytest.mark.parametrize(
    ("state", "words", "mend"),
    [
        ("unauthorized", "has not allowed this computer", "unlock it and accept"),
        ("offline", "does not answer", "plug it in again"),
        ("no permissions", "may not open", "udev"),
        ("authorizing", "still connecting", "try again"),
        ("recovery", "in state 'recovery'", "start the phone"),
    ],
)
def test_a_phone_that_is_not_ready(adb: AdbStandin, state: str, words: str, mend: str) -> None:
    serial = adb.add_phone(state=state)
    for wanted in (serial, "-"):
        error = refused(adb, serial=wanted)
        assert words in error.message and mend in error.hint


def test_several_phones(adb: AdbStandin, monkeypatch: pytest.MonkeyPatch) -> None:
    adb.add_phone("FIRST")
    adb.add_phone("SECOND", model="Pixel 8")
    error = refused(adb)
    assert isinstance(error, UsageError) and error.exit_code == 2
    assert "FIRST (SM S928B), SECOND (Pixel 8)" in error.message and "--adb" in error.hint
    assert "SECOND" in refused(adb, serial="THIRD").hint
    assert Adb("SECOND").serial == "SECOND"
    monkeypatch.setenv("ANDROID_SERIAL", "SECOND")
    assert Adb().serial == "SECOND" and Adb("FIRST").serial == "FIRST"
    monkeypatch.delenv("ANDROID_SERIAL")
    adb.set("FIRST", state="unauthorized")
    assert Adb().serial == "SECOND"  # one is ready: it is meant


def test_a_broken_server(adb: AdbStandin) -> None:
    adb.set_server("* failed to start daemon\nadb: cannot connect to daemon")
    error = refused(adb)
    assert error.message == "adb does not work: adb: cannot connect to daemon"
    assert "kill-server" in error.hint


@pytest.mark.parametrize("settings", [{"free_kib": 4_096}, {"full": True}])
def test_no_space(adb: AdbStandin, settings: dict[str, Any]) -> None:
    adb.add_phone(**settings)
    assert "no space left in /data/local/tmp" in refused(adb).message
    assert adb.left() == []


def test_no_tool(adb: AdbStandin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adb.add_phone()
    error = refused(adb, benchmark_model=None)
    assert "https://storage.googleapis.com/litert/binaries/latest/android_arm64/" in error.hint
    assert "EVIT_BENCHMARK_MODEL" in error.hint
    assert "there is no benchmark_model at" in refused(adb, benchmark_model=tmp_path / "x").message
    monkeypatch.setenv("EVIT_BENCHMARK_MODEL", str(adb.tool()))
    assert measure(adb, benchmark_model=None)[0].kind is Kind.MEASURED


def test_a_tool_for_another_processor(adb: AdbStandin) -> None:
    adb.add_phone()
    error = refused(adb, benchmark_model=adb.tool("x86_64"))
    assert "is for x86_64, and the Samsung SM-S928B runs arm64-v8a" in error.message
    script = adb.folder / "benchmark_model.sh"
    script.write_text("#!/bin/sh\n", "utf-8")
    assert "is no program for Android" in refused(adb, benchmark_model=script).message


def test_a_tool_that_the_phone_cannot_execute(adb: AdbStandin) -> None:
    adb.add_phone(runs=[])
    (row,) = measure(adb)
    assert row.kind is Kind.FAILED and "not executable: 64-bit ELF file" in row.error["reason"]
    assert adb.left() == []


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite"])
def test_what_is_no_tflite(adb: AdbStandin, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"something else altogether")
    error = refused(adb, artifact=path)
    assert f"and {path} is none" in error.message and "evit export" in error.hint
    with pytest.raises(EvitError, match="there is no file"):
        measure(adb, artifact=tmp_path / "absent.tflite")


def test_an_unknown_accelerator() -> None:
    with pytest.raises(UsageError, match="no accelerator 'gpuu'") as caught:
        AdbRequest(accelerators=("gpuu",))
    assert "'gpu'" in caught.value.hint


def test_the_cable_is_pulled_before_anything_is_measured(adb: AdbStandin) -> None:
    adb.add_phone(vanishes_in="--use_xnnpack=true")
    said: list[str] = []
    error = refused(adb, "cpu", "gpu", notice=said.append)
    assert error.message == "the phone was disconnected in the middle" and "cable" in error.hint
    assert any("the next run does it" in words for words in said)
    (left,) = adb.left()
    # The next run finds the folder of a process that is no more, and removes it.
    adb.set(gone=False, vanishes_in="")
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], **_TEXT)
    host = left.split("-")[1]
    others = [f"evit-{host}-{dead.stdout.strip()}-0a1b2c", f"evit-{host}-{os.getppid()}-0a1b2c"]
    foreign, foreign_old = "evit-00000000-1-0a1b2c", "evit-00000000-1-ffffff"
    for name in (*others, foreign, foreign_old, "evit-models"):
        (adb.place() / name).mkdir()
        (adb.place() / name / "file").write_text("x", "utf-8")
    for name in (foreign_old, "evit-models"):
        os.utime(adb.place() / name, (1e9, 1e9))
    assert measure(adb)[0].kind is Kind.MEASURED
    # A run that still goes on, another computer's, and the user's own stay.
    assert adb.left() == sorted([others[1], foreign, "evit-models"])


_TEXT: dict[str, Any] = {"capture_output": True, "text": True, "check": True}


def test_the_cable_is_pulled_later(adb: AdbStandin) -> None:
    adb.add_phone(vanishes_in="--use_gpu=true")
    rows = measure(adb, "cpu", "gpu", "npu")
    assert [row.kind for row in rows] == [Kind.MEASURED, Kind.FAILED, Kind.FAILED]
    assert all("disconnected" in row.error["reason"] for row in rows[1:])


def test_the_cable_is_pulled_while_copying(adb: AdbStandin) -> None:
    adb.add_phone(vanishes_in="push /data/local/tmp/evit-")
    assert "disconnected" in refused(adb).message


def hanging(adb: AdbStandin) -> int:
    """The process of a benchmark_model that hangs, once there is one."""
    path = adb.folder / "hanging.txt"
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if path.is_file() and path.read_text("utf-8"):
            return int(path.read_text("utf-8"))
        time.sleep(0.02)
    raise AssertionError("benchmark_model was not started")


def ends(pid: int) -> bool:
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.02)
    return False


def test_a_run_without_end_is_given_up(adb: AdbStandin, monkeypatch: pytest.MonkeyPatch) -> None:
    adb.add_phone(hangs=True)
    monkeypatch.setattr(phone_measure, "_INIT_WITHIN_S", -2 * QUICK.limit_s + 1.0)
    (row,) = measure(adb, protocol=QUICK)
    assert "did not finish" in row.error["reason"]
    assert ends(hanging(adb)) and adb.left() == []


def test_ctrl_c_leaves_the_phone_clean(adb: AdbStandin) -> None:
    adb.add_phone(hangs=True)
    code = (
        "from pathlib import Path\n"
        "from evit_cli.bench.remote.adb import AdbRequest, measure_over_adb\n"
        "from evit_cli.types import NoProgress\n"
        f"request = AdbRequest(benchmark_model=Path({str(adb.tool())!r}))\n"
        f"measure_over_adb(None, Path({str(ARTIFACT)!r}), request, "
        "notice=lambda words: None, progress=NoProgress())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    pid = hanging(adb)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in said
    assert ends(pid) and adb.left() == []
