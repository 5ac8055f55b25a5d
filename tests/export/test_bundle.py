"""`evit export --bundle` up to the folder: what is planned, refused, written, and left behind."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from pathlib import Path

import pytest
import torch
from torch import nn

from evit_cli.config.device import load_profile
from evit_cli.export import job as job_module
from evit_cli.export.bundle_files import fill
from evit_cli.export.plan import ExportPlan
from evit_cli.export.trtexec import trtexec_command
from evit_cli.runtime.description import read_description
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.cli import evit
from tests.helpers.tensorrt8 import Board8
from tests.helpers.weight_files import pt_bytes

STREET = EMBEDDED["seg-b0-street"].weights
NANO = ("export", "--weights", STREET, "--size", "64x96", "--threads", "1", "--max-images", "2",
        "--device", "nano", "--bundle")  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, exported once."""
    folder = tmp_path_factory.mktemp("made") / "nano"
    result = evit(*NANO, folder)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == [str(folder)]
    for words in ("PASS: ", "not run on hardware by us", "next: copy the folder"):
        assert words in result.stderr
    return folder


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_manifest_lists_every_file(made: Path) -> None:
    manifest = json.loads((made / "bundle.json").read_text("utf-8"))
    assert names(made) == {*manifest["files"], "bundle.json"}
    for name, facts in manifest["files"].items():
        data = (made / name).read_bytes()
        assert facts == {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    assert manifest["verdict"] == "PASS"
    (model,) = manifest["models"]
    description = read_description(made / model["file"])
    assert model["description"]["verification"] == dict(description.verification)
    assert model["description"]["verification"]["images"] == 2
    assert description.profile == manifest["device"] == "jetson-nano"
    assert model["engine"] not in names(made)  # the board builds it


def test_no_file_tells_of_the_machine_that_made_it(made: Path) -> None:
    told = [str(made.parent), str(Path.home()), os.getcwd(), str(STREET.parent), torch.__path__[0]]
    for name in names(made):
        data = (made / name).read_bytes()
        found = [text for text in told if len(text) > 2 and text.encode() in data]
        assert not found, f"{name} holds {found}"


def test_scripts_can_be_executed(made: Path) -> None:
    for name in ("run.py", "build_engine.sh"):
        assert (made / name).stat().st_mode & stat.S_IXUSR
    assert not (made / "README.md").stat().st_mode & stat.S_IXUSR


def test_classes_for_other_programs(made: Path) -> None:
    classes = read_description(next(made.glob("*.onnx"))).info.classes
    assert classes is not None
    labels = (made / "labels.txt").read_text("utf-8").splitlines()
    assert labels == list(classes.classes)
    rows = (made / "palette.csv").read_text("utf-8").splitlines()
    assert rows[0] == "index,name,red,green,blue"
    assert rows[1] == ",".join(map(str, (0, labels[0], *classes.colors_rgb[0])))
    assert len(rows) == len(labels) + 1


def test_nothing_is_left_to_fill_in(made: Path) -> None:
    for name in ("run.py", "build_engine.sh", "README.md"):
        text = (made / name).read_text("utf-8")
        assert fill(text, {}) == text
    with pytest.raises(KeyError):
        fill("@MISSING@", {})


def test_trtexec_is_called_as_the_profile_says(made: Path, tmp_path: Path) -> None:
    board = Board8(tmp_path / "board", made)
    done = board.build()
    assert done.returncode == 0, done.stdout + done.stderr
    (model,) = json.loads((made / "bundle.json").read_text("utf-8"))["models"]
    engine = made / model["engine"]
    assert done.stdout.splitlines()[-1] == str(engine)
    expected = trtexec_command(
        model["file"],
        f"{model['engine']}.partial",
        description=read_description(made / model["file"]),
        profile=load_profile("nano"),
    )
    assert board.calls() == [expected[1:]]
    again = board.build()
    assert again.returncode == 1
    assert "exists already" in again.stderr
    engine.write_bytes(b"old")
    failed = board.build("--force", STANDIN_BUILD_FAILS="1")
    assert failed.returncode == 1
    assert "trtexec built no engine" in failed.stderr
    assert engine.read_bytes() == b"old"
    assert not list(made.glob("*.partial"))
    assert board.build("--force").returncode == 0
    assert engine.stat().st_size > 1_000_000
    assert board.build("--fast").returncode == 2
    engine.unlink()


def test_a_dry_run_lists_what_a_run_writes(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evit(*NANO, "b", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["choices"]
    assert {row["value"] for row in rows if row["what"] == "file"} == names(made)
    assert {"what": "folder", "value": str(tmp_path / "b"), "why": ""} in rows
    assert all(row["why"] for row in rows if row["what"] != "folder")
    by_name = evit("export", "--model", "seg-b1-cityscapes", "--device", "nano", "--bundle", "b",
                   "--dry-run")  # fmt: skip
    assert by_name.exit_code == 0, by_name.output
    assert "build_engine.sh" in by_name.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--bundle", "b"], "a bundle is for a device"),
        (["--device", "orin", "--bundle", "b"], "jetson-agx-orin needs no bundle"),
        (["--device", "x86", "--bundle", "b"], "needs no bundle"),
        (["--device", "nano", "--bundle", "b", "--out", "m.onnx"], "both say where to write"),
        (["--device", "nano", "--bundle", "b", "--target", "onnx"], "for tensorrt, not onnx"),
        (["--device", "nano", "--bundle", "b", "--batch", "2"], "one image of one size"),
        (["--device", "nano", "--bundle", "b", "--max-size", "512x512"], "one image of one size"),
        (["--device", "nano", "--bundle", "b", "--precision", "int8"], "does not compute in int8"),
        (["--device", "snapdragon", "--bundle", "b", "--target", "onnx"], "for tflite, not onnx"),
    ],
)
def test_contradictions(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = evit("export", "--weights", STREET, *arguments)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.stderr.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["nano", "snapdragon"])
@pytest.mark.parametrize("model", ["sam-l0", "cls-b0-r224", "sr-s-x2"])
def test_models_that_do_not_segment(device: str, model: str, tmp_path: Path) -> None:
    result = evit("export", "--model", model, "--device", device, "--bundle", tmp_path / "b",
                  "--random-weights")  # fmt: skip
    assert result.exit_code == 2, result.output
    assert f"a bundle segments, and {model}" in result.stderr
    assert "leave --bundle away" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file_is_no_source_of_a_bundle(tmp_path: Path) -> None:
    result = evit("export", "--model", "m.onnx", "--device", "nano", "--bundle", tmp_path / "b")
    assert result.exit_code == 2
    assert "a bundle is made from weights" in result.stderr


def test_a_classifier_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cls.pt"
    path.write_bytes(pt_bytes("cls-b0"))
    result = evit("export", "--weights", path, "--device", "nano", "--bundle", tmp_path / "b")
    assert result.exit_code == 2
    assert "a bundle segments" in result.stderr


def test_an_existing_folder_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_module, "build_graph", None)
    folder = tmp_path / "nano"
    folder.mkdir()
    (folder / "precious").write_text("mine")
    result = evit(*NANO, folder)
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert "--force" in result.stderr
    forced = evit(*NANO, folder, "--force")
    assert forced.exit_code == 1
    assert "is no bundle" in forced.stderr
    assert (folder / "precious").read_text() == "mine"


@pytest.mark.slow
def test_force_replaces_a_bundle(tmp_path: Path, made: Path) -> None:
    folder = tmp_path / "nano"
    folder.mkdir()
    (folder / "bundle.json").write_text("{}")
    (folder / "old.engine").write_text("")
    result = evit(*NANO, folder, "--force", "--no-verify")
    assert result.exit_code == 0, result.output
    assert "not compared with its source" in result.stderr
    assert names(folder) == names(made)
    assert json.loads((folder / "bundle.json").read_text("utf-8"))["verdict"] == "not compared"
    assert [path.name for path in tmp_path.iterdir()] == ["nano"]


@pytest.mark.slow
def test_a_model_that_fails_leaves_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = job_module.write_onnx

    def wrong(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        write(model, path, plan=plan)

    monkeypatch.setattr(job_module, "write_onnx", wrong)
    result = evit(*NANO, tmp_path / "nano")
    assert result.exit_code == 3
    assert "no bundle was made" in result.stderr
    assert "does not agree with its source" in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "code"),
    [(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 1), (KeyboardInterrupt(), 130)],
)
def test_what_stops_it_leaves_nothing(
    error: BaseException, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("evit_cli.export.bundle.write_manifest", stop)
    result = evit(*NANO, tmp_path / "nano")
    assert result.exit_code == code
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []
