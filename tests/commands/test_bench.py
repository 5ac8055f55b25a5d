"""`evit bench` through the runner, and once as a real process that is interrupted."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evit_cli.bench.row import Kind, decode_row
from evit_cli.bench.store import read_rows
from tests.helpers.cli import evit

QUICK = ("--quick", "--threads", 1, "--parts", "host")


def documents(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_row_is_one_json_line() -> None:
    done = evit("bench", "seg-b0-street", "--quick", "--json")
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    row = decode_row(line)
    assert row.kind is Kind.MEASURED
    assert row.compute and row.host and row.e2e
    assert row.compute.n >= 10
    assert row.environment["versions"]["evit"]


def test_a_table_for_people_and_reports_for_others(tmp_path: Path) -> None:
    reports = [tmp_path / f"report.{kind}" for kind in ("html", "md", "csv")]
    options = [word for path in reports for word in ("--report", path)]
    done = evit("bench", "seg-b0-street", *QUICK, *options)
    assert done.exit_code == 0, done.output
    header, row = done.stdout.splitlines()[:2]
    cells = dict(zip(header.split("\t"), row.split("\t"), strict=True))
    assert cells["model"] == "seg-b0-street"
    assert float(cells["host ms"]) > 0
    assert "runs were measured" in cells["tainted"]
    for path in reports:
        assert "seg-b0-street" in path.read_text("utf-8")
        assert str(path) in done.stdout
    (line,) = csv.DictReader(reports[2].open(newline=""))
    assert float(line["latency_host_p50_ms"]) > 0


def test_strict_refuses_tainted_rows() -> None:
    assert evit("bench", "seg-b0-street", *QUICK, "--strict").exit_code == 4


def test_rows_are_kept_between_calls(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = ("bench", "seg-b0-street", *QUICK, "--json", "--out", out)
    first, second = evit(*command), evit(*command)
    assert first.exit_code == second.exit_code == 0
    assert first.stdout == second.stdout
    assert len(read_rows(out)) == 1
    evit(*command, "--again")
    assert len(read_rows(out)) == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "no model was named"),
        (("seg-b0-street", "--thorough", "--quick"), "exclude each other"),
        (("seg-b0-street", "--host", "a@b", "--adb", "-"), "exclude each other"),
        (("seg-b0-street", "--batch", "0"), "not a number from 1 to 512"),
        (("seg-b0-street", "--threads", "many"), "not a number from 1 to 512"),
        (("seg-b0-street", "--size", "12"), "multiple"),
        (("seg-b0-street", "--size", "x"), "is not a size"),
        (("seg-b0-street", "--parts", "hots"), "did you mean 'host'"),
        (("seg-b0-street", "--backend", "caffe"), "there is no backend"),
        (("seg-b0-street", "--report", "rows.pdf"), ".html, .md or .csv"),
        (("--paper", "table9"), "table9"),
        (("seg-b0-street", "--estimate"), "name it: --device"),
        (("seg-b0-street", "--against", "yolo"), "there is no model or peer 'yolo'"),
        (("seg-b0-street", "--device", "orin", "--against", "segformer-b0"), "not estimated"),
    ],
)
def test_wrong_options_are_usage_errors(options: tuple[str, ...], said: str) -> None:
    done = evit("bench", *options)
    assert done.exit_code == 2, done.output
    assert said in " ".join(done.stderr.split())


def test_a_report_is_not_overwritten(tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    report.write_text("mine")
    done = evit("bench", "seg-b0-street", *QUICK, "--report", report)
    assert done.exit_code != 0
    assert report.read_text() == "mine"
    assert evit("bench", "seg-b0-street", *QUICK, "--report", report, "--force").exit_code == 0
    assert report.read_text() != "mine"


def test_a_device_that_is_not_here_is_estimated_and_says_so() -> None:
    done = evit("bench", "seg-b1-cityscapes", "--device", "orin", "--json", "--explain")
    assert done.exit_code == 0, done.output
    *rows, layers = documents(done.stdout)
    assert [row["kind"] for row in rows] == ["published", "estimate"]
    published, estimate = rows
    assert published["host"]["p50"] == 24.3
    assert (
        estimate["estimate"]["low_ms"] < estimate["host"]["p50"] < estimate["estimate"]["high_ms"]
    )
    assert 0 < estimate["estimate"]["median_error"] <= 0.15
    assert {row["bound by"] for row in layers["rows"]} & {"bandwidth", "arithmetic"}
    people = evit("bench", "seg-b1-cityscapes", "--device", "orin")
    assert "this machine is no orin" in people.stderr
    assert "estimated ms" in people.stdout


def test_a_device_without_published_latencies_says_what_to_do() -> None:
    done = evit("bench", "seg-b1-cityscapes", "--device", "snapdragon")
    assert done.exit_code == 1
    assert "--adb" in done.stderr


def test_what_cannot_be_measured_is_a_row_and_exit_code_1() -> None:
    command = ("bench", "cls-b0-r224", "--random-weights", "--backend", "tflite", *QUICK)
    done = evit(*command, "--size", "224x256", "--json")
    assert done.exit_code == 1
    (row,) = documents(done.stdout)
    assert row["kind"] == "failed"
    assert "square" in row["error"]["reason"]


@pytest.mark.slow
def test_a_missing_library_is_exit_code_5(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "openvino.py").write_text("raise ImportError('no openvino', name='openvino')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("EVIT_CACHE_DIR", str(tmp_path / "cache"))
    command = ("bench", "seg-b0-cityscapes", "--random-weights", "--backend", "openvino", *QUICK)
    done = evit(*command, "--size", 64)
    assert done.exit_code == 5, done.output
    assert "pip install" in done.stdout


@pytest.mark.slow
def test_an_interruption_keeps_what_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    many = ",".join(map(str, range(1, 33)))  # so that a machine that stalls is not done before
    command = [sys.executable, "-m", "evit_cli", "bench", "seg-b0-street", "--threads", many]
    command += ["--out", str(out), "--parts", "host", "--quick"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline and not (out.exists() and out.read_text()):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    threads = [row.point.threads for row in read_rows(out)]
    assert 1 <= len(threads) < 32
    assert threads == list(range(1, len(threads) + 1))
    assert "seg-b0-street" in stdout
    assert not _workers_of(process.pid)


def _workers_of(pid: int) -> list[str]:
    found = subprocess.run(
        ["ps", "-o", "args=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return [line for line in found.splitlines() if "bench.worker" in line]


@pytest.mark.slow
def test_exported_models_are_measured_beside_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIT_CACHE_DIR", str(tmp_path))
    command = ("bench", "seg-b0-cityscapes", "--random-weights", "--size", "64x128")
    done = evit(*command, "--backend", "tflite,onnx", "--against", "seg-b1-cityscapes", *QUICK,
                "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = documents(done.stdout)
    assert [row["point"]["backend"] for row in rows] == ["tflite"] * 2 + ["onnx"] * 2
    assert [row.get("ratio", {}).get("to") for row in rows] == [None, "seg-b0-cityscapes"] * 2
    assert len(os.listdir(tmp_path / "bench")) == 4
