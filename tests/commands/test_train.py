"""`evit train` and `evit distill` through the runner: what is refused, said and printed."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import evit
from tests.helpers.trainings import (
    SEGMENT,
    Document,
    changed,
    log_lines,
    run_here,
    write_recipe,
    write_segments,
)

QUICK = changed(SEGMENT, {"train.steps": 1, "train.batch_size": 2})
WITH_TEACHER: Document = {**QUICK, "distill": {}}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_segments(tmp_path / "data", train=2, val=1)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "r.yaml", QUICK)


@pytest.mark.parametrize(
    ("name", "words"),
    [("seg/cityscapes-b", "did you mean"), ("seg/camvid-b00", "'seg/camvid-b0'")],
)
@pytest.mark.parametrize("command", ["train", "distill"])
def test_an_unknown_recipe(command: str, name: str, words: str) -> None:
    result = evit(command, name)
    assert result.exit_code == 1
    assert f"there is no recipe '{name}'" in result.stderr
    assert words in result.stderr


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("train.steps", 2, "is not KEY=VALUE"),
        ("=3", 2, "is not KEY=VALUE"),
        ("train.stepz=3", 1, "stepz"),
        ("train.steps=many", 1, "train.steps"),
        ("train.epochs=3", 1, "epochs or as steps"),
        ("train.accumulate=3", 1, "does not divide into 3 micro-batches"),
        ("train.mesa_ratio=1", 1, "mesa_ratio needs ema"),
        ("classify.loss=ce", 1, "classify"),
        ("model.variant=seg-b9-cityscapes", 1, "seg-b9-cityscapes"),
        ("model.variant=cls-b0", 1, "is for task classify"),
        ("model.classes=[a, b]", 1, "names 2 classes"),
        ("segment.class_weights=[1, 2]", 1, "has 2 values for 3 classes"),
        ("data.name=imagenet", 1, "class folders"),
    ],
)
def test_changes_that_are_wrong(
    tmp_path: Path, recipe: Path, data: Path, change: str, code: int, words: str
) -> None:
    result = run_here(recipe, data, tmp_path / "out", "--set", change)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    assert words in result.stderr
    assert not (tmp_path / "out").exists()


def test_data_must_be_named(tmp_path: Path, recipe: Path) -> None:
    result = evit("train", recipe, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "--data DIR" in result.stderr


def test_data_laid_out_in_another_way(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    result = run_here(recipe, tmp_path / "data", tmp_path / "out")
    assert result.exit_code == 1
    assert "train/images/NAME.jpg" in result.stderr
    assert "pictures/" in result.stderr


def test_json(tmp_path: Path, recipe: Path, data: Path) -> None:
    result = run_here(recipe, data, tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document.keys() == {"recipe", "steps", "mean_iou", "weights", "seconds"}
    assert (document["recipe"], document["steps"]) == ("seg/tiny", 1)
    assert 0 <= document["mean_iou"] <= 1
    assert Path(document["weights"]) == (tmp_path / "out" / "best.safetensors").resolve()


def test_the_run_folder_tells_everything(tmp_path: Path, recipe: Path, data: Path) -> None:
    out = tmp_path / "out"
    result = run_here(recipe, data, out, "--quiet")
    assert result.exit_code == 0, result.output
    first, second = result.stdout.splitlines()
    assert first.startswith("mean_iou ")
    assert second == str((out / "best.safetensors").resolve())
    assert result.stderr == ""
    assert {path.name for path in out.iterdir()} == {
        "recipe.yaml", "environment.json", "log.jsonl", "last.ckpt", "best.safetensors",
        "last.safetensors", "report.html", "predictions.png",
    }  # fmt: skip
    assert json.loads((out / "environment.json").read_text())["threads"] == 1
    report = (out / "report.html").read_text()
    assert "mean_iou" in report
    assert "data:image/png;base64," in report
    assert [set(line) & {"loss", "eval"} for line in log_lines(out)] == [{"loss"}, {"eval"}]
    again = evit("train", out / "recipe.yaml", "--out", tmp_path / "again", "--threads", 1)
    assert again.exit_code == 0, again.output
    weights = [folder / "best.safetensors" for folder in (out, tmp_path / "again")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    scored = evit(
        "eval", "--weights", weights[0], "--dataset", "folders", "--data", data / "val",
        "--size", "32x32", "--json",
    )  # fmt: skip
    assert scored.exit_code == 0, scored.output
    value = log_lines(out)[-1]["eval"]["mean_iou"]
    assert json.loads(scored.stdout)["mean_iou"] == pytest.approx(value, abs=1e-6)


def test_a_folder_with_a_run_in_it(tmp_path: Path, recipe: Path, data: Path) -> None:
    out = tmp_path / "out"
    assert run_here(recipe, data, out).exit_code == 0
    result = run_here(recipe, data, out)
    assert result.exit_code == 2
    assert "--resume auto" in result.stderr
    assert "--force" in result.stderr
    assert run_here(recipe, data, out, "--force").exit_code == 0


def test_going_on_with_another_recipe(tmp_path: Path, recipe: Path, data: Path) -> None:
    out = tmp_path / "out"
    assert run_here(recipe, data, out).exit_code == 0
    more = ("--resume", "auto", "--set", "optimizer.lr=0.5")
    result = run_here(recipe, data, out, *more)
    assert result.exit_code == 1
    assert "optimizer.lr = 0.001, and the recipe now says 0.5" in result.stderr
    free = ("--set", "data.workers=auto", "--set", "train.save_minutes=7")
    assert run_here(recipe, data, out, "--resume", "auto", *free).exit_code == 0


def test_a_recipe_with_a_teacher_is_not_trained_without(tmp_path: Path, data: Path) -> None:
    recipe = write_recipe(tmp_path / "d.yaml", WITH_TEACHER)
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == 2
    assert f"evit distill {recipe}" in result.stderr


def test_a_teacher_must_be_named(tmp_path: Path, data: Path, recipe: Path) -> None:
    for path in (recipe, write_recipe(tmp_path / "d.yaml", WITH_TEACHER)):
        result = run_here(path, data, tmp_path / "out", command="distill")
        assert result.exit_code == 2
        assert "--teacher" in result.stderr


def test_a_teacher_that_is_not_there(tmp_path: Path, data: Path) -> None:
    recipe = write_recipe(tmp_path / "d.yaml", WITH_TEACHER)
    missing = tmp_path / "none.safetensors"
    result = run_here(
        recipe, data, tmp_path / "out", "--teacher", missing, "--offline", command="distill"
    )
    assert result.exit_code == 1
    assert str(missing) in result.stderr


def test_without_torch(
    tmp_path: Path, recipe: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **named: Any) -> Any:
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **named)

    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(
        "importlib.import_module",
        lambda name: without(name),
    )
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == 5, result.output
    assert "training needs torch" in result.stderr
    assert "pip install" in result.stderr


def test_an_interrupted_run(
    tmp_path: Path, recipe: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says nothing that looks like a fault, and can be resumed."""
    import os
    import signal

    from evit_cli.train.segment_task import SegmentTask

    plain = SegmentTask.loss

    def stop(self: SegmentTask, *args: Any, **named: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return plain(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentTask, "loss", stop)
        result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == 130
    assert "Traceback" not in result.output
    assert "error:" not in result.output
    assert result.stdout == ""
    assert run_here(recipe, data, tmp_path / "out", "--resume", "auto").exit_code == 0
