"""`evit export` through the runner, and its artifacts in the other commands."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from evit_cli.export import job as job_module
from evit_cli.export.plan import ExportPlan
from evit_cli.media.street_scene import street_frames
from evit_cli.runtime.description import read_description
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.cli import evit
from tests.helpers.segmentation_sets import write_folders
from tests.helpers.weight_files import pt_bytes

STREET = EMBEDDED["seg-b0-street"].weights
SMALL = ("export", "--weights", STREET, "--size", "64x96", "--threads", "1")
SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "tflite": ".tflite"}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), next(street_frames(1, (90, 160)))[:, :, ::-1])
    return path


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "cls.pt"
    path.write_bytes(pt_bytes("cls-b0"))
    return path


@pytest.fixture
def photo_set(tmp_path: Path) -> Path:
    return write_folders(tmp_path / "set", [np.full((64, 96), i, np.uint8) for i in range(2)])


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


@pytest.mark.parametrize(
    "target", ["onnx", "openvino", pytest.param("tflite", marks=pytest.mark.slow)]
)
def test_an_artifact_needs_no_other_option(
    target: str, tmp_path: Path, image: Path, photo_set: Path
) -> None:
    out = tmp_path / "made"
    made = evit(*SMALL, "--target", target, "--out", out, "--json")
    assert made.exit_code == 0, made.output
    document = json.loads(made.stdout)
    artifact = Path(document["written"][0])
    assert artifact == out / f"seg-b0-street-64x96-fp32{SUFFIXES[target]}"
    assert names(out) == {Path(path).name for path in document["written"]}
    assert document["size_bytes"] > 1_000_000
    assert document["seconds"] > 0
    found = document["description"]
    assert found["verification"]["verdict"] == "PASS"
    assert found["verification"]["images"] == 8
    assert found["licence"] == EMBEDDED["seg-b0-street"].licence
    assert read_description(artifact).info.sha256 == found["source_sha256"]

    shown = evit("segment", image, "--model", artifact, "--save", "mask", "--out", tmp_path / "s")
    assert shown.exit_code == 0, shown.output
    mask = cv2.imread(str(next((tmp_path / "s").iterdir())), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (90, 160)
    assert mask.max() < 11
    scored = evit(
        "eval", "--model", artifact, "--dataset", "folders", "--data", photo_set, "--json"
    )
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["images"] == 2


def test_a_classifier(tmp_path: Path, image: Path, classifier: Path) -> None:
    out = tmp_path / "cls.onnx"
    made = evit(
        "export", "--weights", classifier, "--size", "64", "--target", "onnx", "--out", out,
        "--threads", "1", "-q",
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    assert made.stdout.split() == [str(out), f"{out}.json"]
    assert made.stderr == ""
    result = evit("classify", image, "--model", out, "--json")
    assert result.exit_code == 0, result.output
    assert len(json.loads(result.stdout)["top"]) == 5


def test_what_is_said_to_people(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    result = evit(*SMALL, "--device", "nano", "--precision", "fp32", "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(out), f"{out}.json"]
    for words in ("comparing it with its source on 8 images", "PASS: ", " dB", "on the board: "):
        assert words in result.stderr
    line = result.stderr.partition("on the board: ")[2]
    assert "trtexec" in line
    assert "--onnx=m.onnx" in line


def test_no_verify_is_warned_of_in_every_mode(tmp_path: Path) -> None:
    result = evit(*SMALL, "--target", "onnx", "--out", tmp_path / "m.onnx", "--no-verify", "-q")
    assert result.exit_code == 0, result.output
    assert "not compared with its source" in result.stderr
    assert read_description(tmp_path / "m.onnx").verification == {}


@pytest.mark.parametrize("json_output", [True, False])
@pytest.mark.parametrize("device", ["orin", "snapdragon"])
def test_a_dry_run_only_prints(
    device: str, json_output: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And needs none of the libraries that write."""
    for module in ("onnx", "onnxscript", "onnxslim", "onnxruntime", "litert_torch", "openvino"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.chdir(tmp_path)
    flags = ["--json"] if json_output else []
    result = evit("export", "--weights", STREET, "--device", device, "--dry-run", *flags)
    assert result.exit_code == 0, result.output
    assert names(tmp_path) == set()
    if json_output:
        document = json.loads(result.stdout)
        assert document["model"] == "seg-b0-street"
        rows = {row["what"]: row for row in document["choices"]}
    else:
        lines = [line.split("\t") for line in result.stdout.splitlines()]
        rows = {line[0]: {"value": line[1], "why": "".join(line[2:])} for line in lines}
    assert {"target", "precision", "size", "input", "file"} <= rows.keys()
    assert rows["target"]["value"] == {"orin": "tensorrt", "snapdragon": "tflite"}[device]
    assert Path(rows["file"]["value"]).parent == tmp_path
    assert all(row["why"] for what, row in rows.items() if what != "file")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "what the artifact is for was not said"),
        (["--target", "onxx"], "there is no backend 'onxx'"),
        (["--target", "onnx", "--precision", "fp8"], "there is no precision 'fp8'"),
        (["--target", "torch"], "there is nothing to export"),
        (["--target", "onnx", "--size", "65x96"], "no multiple of 32"),
        (["--target", "onnx", "--size", "big"], "is not a size"),
        (["--target", "tflite", "--max-size", "1024x1024"], "one size"),
        (["--target", "onnx", "--opset", "7"], "must be 13 to 20"),
        (["--target", "onnx", "--out", "m.tflite"], "must end in .onnx"),
        (["--target", "onnx", "--dataset", "camvid"], "--dataset and --data go together"),
        (["--target", "onnx", "--batch", "0"], "batch"),
        (["--device", "nano", "--precision", "int8"], "does not compute in int8"),
    ],
)
def test_contradictions(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evit("export", "--weights", STREET, *arguments)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.stderr.split())
    assert names(tmp_path) == set()


def test_int8_without_images(tmp_path: Path) -> None:
    out = tmp_path / "m.tflite"
    result = evit(*SMALL, "--target", "tflite", "--precision", "int8", "--out", out)
    assert result.exit_code != 0
    assert "needs real images" in result.stderr
    assert "--calib" in result.stderr
    assert names(tmp_path) == set()


def test_existing_files_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "build_graph", None)
    out = tmp_path / "m.onnx"
    out.write_text("precious")
    result = evit(*SMALL, "--target", "onnx", "--out", out)
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert "--force" in result.stderr
    assert out.read_text() == "precious"


def test_a_failing_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = job_module.write_onnx

    def wrong(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        write(model, path, plan=plan)

    monkeypatch.setattr(job_module, "write_onnx", wrong)
    result = evit(*SMALL, "--target", "onnx", "--out", tmp_path / "m.onnx")
    assert result.exit_code == 3
    assert "does not agree with its source" in result.stderr
    assert names(tmp_path) == {"m.onnx.failed", "m.onnx.json.failed"}
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1, "no space left on device"),
        (KeyboardInterrupt(), 130, ""),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_what_stops_it_is_one_sentence(
    error: BaseException, code: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(job_module, "write_onnx", stop)
    result = evit(*SMALL, "--target", "onnx", "--out", tmp_path / "m.onnx")
    assert result.exit_code == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert names(tmp_path) == set()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    result = evit(*SMALL, "--target", "onnx", "--out", tmp_path / "m.onnx")
    tmp_path.chmod(0o700)
    assert result.exit_code == 1
    assert "permission denied" in result.stderr


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = evit(*SMALL, "--target", "onnx", "--out", tmp_path / "file" / "m.onnx")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert str(tmp_path / "file") in "".join(result.stderr.split("\n"))


def test_weights_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"no weights")
    result = evit("export", "--weights", path, "--target", "onnx", "--out", tmp_path / "m.onnx")
    assert result.exit_code == 1
    assert "x.safetensors" in result.stderr
    assert names(tmp_path) == {"x.safetensors"}


def test_a_set_for_a_model_that_does_not_segment(
    classifier: Path, photo_set: Path, tmp_path: Path
) -> None:
    result = evit(
        "export", "--weights", classifier, "--target", "onnx", "--out", tmp_path / "m.onnx",
        "--dataset", "folders", "--data", photo_set,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "does not segment" in result.stderr


@pytest.mark.parametrize(
    ("target", "module", "mend"),
    [
        ("onnx", "onnxslim", 'pip install "evit-cli[export]"'),
        ("tflite", "litert_torch", 'pip install "evit-cli[export]"'),
        ("openvino", "openvino", 'pip install "evit-cli[openvino]"'),
    ],
)
def test_a_missing_library(
    target: str, module: str, mend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    result = evit(*SMALL, "--target", target, "--out", tmp_path)
    assert result.exit_code == 5
    assert module in result.stderr
    assert mend in result.stderr
    assert names(tmp_path) == set()


@pytest.mark.slow
def test_converters_do_not_talk(tmp_path: Path) -> None:
    """In a process of its own: what C++ writes passes by Python."""
    command = [sys.executable, "-m", "evit_cli", *map(str, SMALL), "--target", "onnx", "--out"]
    done = subprocess.run([*command, tmp_path / "m.onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(tmp_path / "m.onnx"), str(tmp_path / "m.onnx.json")]
    assert len(done.stderr.splitlines()) == 4, done.stderr


def test_the_base_installation_names_what_is_missing(tmp_path: Path) -> None:
    """As on a board: torch cannot be imported. The plan needs none."""
    code = "import sys; sys.modules['torch'] = None; from evit_cli.app import main; main()"
    common = [sys.executable, "-c", code, "export", "--target", "tflite", "--offline"]
    done = subprocess.run(
        [*common, "--model", "seg-b0-street", "--out", tmp_path], capture_output=True, text=True
    )
    assert done.returncode == 5
    assert 'pip install "evit-cli[export]"' in done.stderr
    assert "Traceback" not in done.stderr
    plan = [*common, "--model", "seg-b1-cityscapes", "--dry-run"]
    assert subprocess.run(plan, capture_output=True).returncode == 0
    assert not list(tmp_path.iterdir())
