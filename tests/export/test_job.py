"""One export from plan to file: what is written, refused, kept, and cleared away."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from evit_cli.errors import EXIT_VERIFICATION, EvitError, MissingDependency
from evit_cli.export import job as job_module
from evit_cli.export.job import run_export
from evit_cli.export.labels import Labels
from evit_cli.export.plan import ExportPlan
from evit_cli.runtime.description import description_path, read_description
from evit_cli.runtime.open import open_artifact
from evit_cli.types import Backend
from tests.helpers.exports import CLASSES, tiny_job, tiny_model
from tests.helpers.segmentation_sets import write_folders


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def other_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer writes another model's file, as one with a bug would."""
    write = job_module.write_onnx

    def wrong(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(-parameter)
        write(model, path, plan=plan)

    monkeypatch.setattr(job_module, "write_onnx", wrong)


@pytest.mark.parametrize("target", [Backend.ONNX, Backend.OPENVINO])
def test_what_a_finished_export_leaves(target: Backend, tmp_path: Path) -> None:
    out = tmp_path / "new" / ("m.onnx" if target is Backend.ONNX else "m.xml")
    told: list[str] = []
    report = run_export(replace(tiny_job(out, target), notice=told.append))
    assert report.written[0] == out
    wanted = {out.name, f"{out.name}.json"} | ({"m.bin"} if target is Backend.OPENVINO else set())
    assert names(out.parent) == {path.name for path in report.written} == wanted
    assert report.size_bytes == sum(p.stat().st_size for p in report.written if p.suffix != ".json")
    assert report.seconds > report.verify_s > 0
    assert report.verification is not None
    assert report.verification.images == 3
    assert read_description(out) == replace(
        report.description, info=replace(report.description.info, source=str(out))
    )
    assert len(told) == 2
    assert "3 images" in told[1]


def test_a_second_ctrl_c_does_not_stop_the_clearing_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = shutil.rmtree

    def interrupted(folder: Path, *, ignore_errors: bool) -> None:
        if folder.exists():
            signal.raise_signal(signal.SIGINT)
        clear(folder, ignore_errors=ignore_errors)

    def told(_: str) -> None:
        monkeypatch.setattr(shutil, "rmtree", interrupted)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_export(replace(tiny_job(tmp_path / "m.onnx"), notice=told))
    assert names(tmp_path) == set()


def test_without_comparison(tmp_path: Path) -> None:
    report = run_export(replace(tiny_job(tmp_path / "m.onnx"), images=None))
    assert report.verification is None
    assert read_description(tmp_path / "m.onnx").verification == {}


def test_the_model_is_not_changed(tmp_path: Path) -> None:
    job = tiny_job(tmp_path / "m.onnx")
    run_export(job)
    before, after = tiny_model().state_dict(), job.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        run_export(replace(tiny_job(tmp_path / name), images=None))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(("target", "existing"), [
    (Backend.ONNX, "m.onnx"), (Backend.OPENVINO, "m.xml"), (Backend.OPENVINO, "m.bin"),
])  # fmt: skip
def test_existing_files_are_refused_without_force(
    target: Backend, existing: str, tmp_path: Path
) -> None:
    out = tmp_path / ("m.onnx" if target is Backend.ONNX else "m.xml")
    (tmp_path / existing).write_text("precious")
    with pytest.raises(EvitError, match=f"{existing} exists already") as caught:
        run_export(tiny_job(out, target))
    assert "--force" in caught.value.hint
    assert names(tmp_path) == {existing}
    run_export(tiny_job(out, target, force=True))
    assert open_artifact(out).info.name == "tiny"


def test_a_failing_artifact_is_kept_under_another_name(tmp_path: Path, other_model: None) -> None:
    out = tmp_path / "m.onnx"
    with pytest.raises(EvitError, match="does not agree with its source: ") as caught:
        run_export(tiny_job(out))
    assert caught.value.exit_code == EXIT_VERIFICATION == 3
    assert names(tmp_path) == {"m.onnx.failed", "m.onnx.json.failed"}
    assert str(tmp_path / "m.onnx.failed") in caught.value.hint
    document = json.loads((tmp_path / "m.onnx.json.failed").read_text())
    assert document["verification"]["verdict"] == "FAIL"


def test_a_failing_artifact_does_not_replace_a_good_one(tmp_path: Path, other_model: None) -> None:
    out = tmp_path / "m.onnx"
    out.write_text("good")
    with pytest.raises(EvitError, match="does not agree"):
        run_export(tiny_job(out, force=True))
    assert out.read_text() == "good"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), EvitError("no")])
@pytest.mark.parametrize("step", ["build_graph", "write_onnx", "describe_artifact", "verify"])
def test_nothing_is_left_of_an_interrupted_export(
    error: BaseException, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(job_module, step, stop)
    with pytest.raises(type(error)):
        run_export(tiny_job(tmp_path / "m.onnx"))
    assert names(tmp_path) == set()


def test_a_full_disk_is_reported_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the system's own error, which the command line turns into a sentence."""
    import onnx

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx, "save_model", full)
    with pytest.raises(OSError, match="No space left"):
        run_export(tiny_job(tmp_path / "m.onnx"))
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("target", "module", "hint"),
    [
        (Backend.ONNX, "onnx", 'pip install "evit-cli[export]"'),
        (Backend.ONNX, "onnxscript", 'pip install "evit-cli[export]"'),
        (Backend.ONNX, "onnxslim", 'pip install "evit-cli[export]"'),
        (Backend.ONNX, "onnxruntime", "pip install onnxruntime"),
        (Backend.TFLITE, "litert_torch", 'pip install "evit-cli[export]"'),
        (Backend.OPENVINO, "openvino", 'pip install "evit-cli[openvino]"'),
    ],
)
def test_a_missing_library_is_named_with_its_mend(
    target: Backend, module: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    out = tmp_path / {"onnx": "m.onnx", "tflite": "m.tflite", "openvino": "m.xml"}[target.value]
    with pytest.raises(MissingDependency, match=f"needs {module}, which is not installed") as found:
        run_export(tiny_job(out, target))
    assert found.value.exit_code == 5
    assert found.value.hint == hint
    assert names(tmp_path) == set()


@pytest.mark.parametrize("text", ["", "first\nsecond"])
def test_a_converter_that_fails_is_quoted_in_one_line(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import litert_torch

    def fail(*_: object, **__: object) -> None:
        raise AssertionError(text)

    monkeypatch.setattr(litert_torch, "convert", fail)
    with pytest.raises(EvitError, match=r"litert-torch failed: (first|no reason)$"):
        run_export(tiny_job(tmp_path / "m.tflite", Backend.TFLITE))
    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(EvitError, match=r"exporter failed: (first|no reason)$"):
        run_export(tiny_job(tmp_path / "m.onnx"))
    assert names(tmp_path) == set()


def test_too_little_memory_is_not_the_models_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(MemoryError):
        run_export(tiny_job(tmp_path / "m.onnx"))


def test_labels_are_measured_on_both(tmp_path: Path) -> None:
    from evit_cli.data.open import open_examples
    from evit_cli.models.class_maps import identity

    folder = write_folders(tmp_path / "set", [np.full((64, 96), i, np.uint8) for i in range(2)])
    examples = open_examples("folders", folder, "val", num_classes=CLASSES)
    job = tiny_job(tmp_path / "m.onnx")
    classes = job.plan.info.classes
    assert classes is not None
    labels = Labels(examples, identity(classes))
    report = run_export(replace(job, labels=labels))
    found = report.verification
    assert found is not None
    assert found.mean_iou is not None
    assert found.source_mean_iou is not None
    assert abs(found.mean_iou - found.source_mean_iou) < 1e-3
    assert read_description(tmp_path / "m.onnx").verification["mean_iou"] is not None


def test_a_description_is_beside_too(tmp_path: Path) -> None:
    run_export(replace(tiny_job(tmp_path / "m.onnx"), images=None))
    document = json.loads(description_path(tmp_path / "m.onnx").read_text())
    assert document["input"]["size_hw"] == [64, 96]
    assert document["preprocess"]["in_graph"] is True
