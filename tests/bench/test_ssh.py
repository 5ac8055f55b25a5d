"""Measuring on a board over the real ssh client, against real ssh servers on loopback."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from evit_cli.bench.protocol import QUICK, THOROUGH
from evit_cli.bench.remote.over_ssh import RemoteRequest, measure_over_ssh
from evit_cli.bench.remote.ssh import SshTarget
from evit_cli.bench.row import Kind, encode_row
from evit_cli.errors import EvitError, UsageError
from evit_cli.runtime.description import Description, description_path, encode_description
from evit_cli.types import (
    Backend,
    NoProgress,
    Precision,
)
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.boards import (
    INFO,
    LARGE,
    ROW,
    SIZE,
    artifact,
    calls,
    evit_shim,
    measure,
    printing,
    trtexec_shim,
)
from tests.helpers.ssh_server import SshBoard
from tests.helpers.trtexec_texts import times_json


def test_evit_there_measures(each_board: SshBoard, tmp_path: Path) -> None:
    path = artifact(tmp_path, largest=LARGE)
    out = each_board.folder / "seen"
    rows = printing(
        f"hello\n{encode_row(ROW)}\n" + '{"table": "x", "rows": []}\n', each_board, "rows"
    )
    evit_shim(each_board, f'{{ pwd; ls; echo "$@"; sha256sum model.tflite; }} >{out}\n{rows}')
    said: list[str] = []
    request = RemoteRequest(
        threads=(1, 4), sizes=(SIZE, LARGE), parts=("compute", "host"), protocol=THOROUGH
    )
    (row,) = measure(each_board, path, request, said)
    assert row == replace(ROW, host_name=str(SshTarget.parse(each_board.target)))
    where, *names, words, digest = out.read_text().splitlines()
    assert Path(where).parent == each_board.tmp
    assert names == ["model.tflite", "model.tflite.json"]
    assert words == (
        "model.tflite --json --threads 1,4 --size 64x128,96x160 --parts compute,host --thorough"
    )
    assert digest.split()[0] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert any("evit 0.9.0" in words for words in said)


def test_weights_beside_an_xml_go_along(board: SshBoard, tmp_path: Path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("<net/>")
    path.with_suffix(".bin").write_bytes(os.urandom(300_000))
    text = encode_description(Description(INFO, SIZE, Precision.FP32))
    description_path(path).write_text(text)
    rows = printing(encode_row(ROW), board, "rows")
    evit_shim(board, f"cmp model.bin {path.with_suffix('.bin')} && {rows}")
    assert len(measure(board, path)) == 1


def test_evit_of_a_virtual_environment(board: SshBoard, tmp_path: Path) -> None:
    rows = printing(encode_row(ROW), board, "rows")
    own = board.home / "venv" / "bin" / "evit"
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(f"#!/bin/sh\n{rows}\n")
    own.chmod(0o755)
    path = artifact(tmp_path)
    request = RemoteRequest(evit=str(board.home / "venv"))
    assert len(measure(board, path, request)) == 1
    with pytest.raises(EvitError, match="no evit at /nowhere"):
        measure(board, path, RemoteRequest(evit="/nowhere"))


@pytest.mark.parametrize(
    ("profile", "version", "flags"),
    [
        ("jetson-agx-orin", "10.3.0", {"--stronglyTyped", "--skipInference"}),
        ("", "10.13.3", {"--stronglyTyped", "--skipInference"}),
        ("", "8.6.1", {"--fp16", "--skipInference"}),
    ],
)
def test_trtexec_builds_and_times_an_onnx_file(
    board: SshBoard, tmp_path: Path, profile: str, version: str, flags: set[str]
) -> None:
    path = artifact(tmp_path, ".onnx", profile=profile)
    times = [float(ms) for ms in range(1, 201)]
    trtexec_shim(board, version, times=times_json(times))
    (row,) = measure(board, path)
    build, run = calls(board)
    assert {"--onnx=model.onnx", "--saveEngine=built.engine", *flags} <= set(build)
    assert {"--loadEngine=built.engine", "--exposeDMA", "--iterations=100"} <= set(run)
    assert row.compute is not None and row.host is not None
    assert (row.compute.n, row.compute.p50, row.host.p50) == (200, 100.5, 101.0)
    assert row.point.backend is Backend.TENSORRT and row.point.precision is Precision.FP16
    assert row.environment["versions"] == {"tensorrt": version}
    assert row.environment["gpu"] == "Orin" and row.environment["tool"] == "trtexec"
    assert row.host_name and row.file_bytes == path.stat().st_size


def test_trtexec_without_times_leaves_the_summary(each_board: SshBoard, tmp_path: Path) -> None:
    path = artifact(tmp_path, ".engine", size=5000)
    trtexec_shim(each_board, "8.2.1")
    (row,) = measure(each_board, path, RemoteRequest(protocol=QUICK))
    (run,) = calls(each_board)
    assert "--loadEngine=model.engine" in run
    # evit's description stands behind the engine, and trtexec must not see it.
    assert (each_board.folder / "engine_bytes").read_text().strip() == "5000"
    assert path.stat().st_size > 5000
    assert row.host is not None and row.host.p99 == pytest.approx(6.02)
    assert any("p90" in words for words in row.tainted)


def test_trtexec_at_several_sizes(board: SshBoard, tmp_path: Path) -> None:
    path = artifact(tmp_path, ".onnx", profile="jetson-agx-orin", largest=LARGE)
    trtexec_shim(board, times=times_json([1.0] * 100))
    rows = measure(board, path, RemoteRequest(sizes=(SIZE, LARGE)))
    assert [row.point.size_hw for row in rows] == [SIZE, LARGE]
    build, *runs = calls(board)
    assert {"--minShapes=image:1x64x128x3", "--maxShapes=image:1x96x160x3"} <= set(build)
    for run, shape in zip(runs, ("1x64x128x3", "1x96x160x3"), strict=True):
        assert f"--shapes=image:{shape}" in run


def test_a_size_the_artifact_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"runs at 64x128 only"):
        measure_over_ssh(
            "board",
            artifact(tmp_path),
            RemoteRequest(sizes=(LARGE,)),
            notice=print,
            progress=NoProgress(),
        )


def test_trtexec_steps_in_where_evit_lacks_a_library(board: SshBoard, tmp_path: Path) -> None:
    path = artifact(tmp_path, ".onnx")
    failed = replace(ROW, kind=Kind.FAILED, host=None, error={"reason": "no", "missing": True})
    evit_shim(board, printing(encode_row(failed), board, "rows") + "; exit 5")
    trtexec_shim(board, times=times_json([1.0] * 100))
    said: list[str] = []
    (row,) = measure(board, path, said=said)
    assert row.kind is Kind.MEASURED and row.point.backend is Backend.TENSORRT
    assert any("lacks a library" in words for words in said)
    calls(board)


@pytest.mark.slow
def test_the_real_evit_there(board: SshBoard, tmp_path: Path) -> None:
    """Both ends are this evit; its embedded model is measured for a moment."""
    board.install("evit", f'cd "$PWD"; exec {sys.executable} -m evit_cli "$@"\n')
    source = next(iter(EMBEDDED.values())).artifact
    (row,) = measure(board, source, RemoteRequest(threads=(1,), protocol=QUICK))
    assert row.kind is Kind.MEASURED, row.error
    assert row.host is not None and row.host.p50 > 0
    assert row.point.backend is Backend.TFLITE and row.point.threads == 1
    assert row.host_name and row.environment["cpu"]
