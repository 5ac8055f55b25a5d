"""`distill.quantise`: a run, its checkpoint, what it refuses, and the export that follows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from evit_cli.media.images import read_image
from evit_cli.weights.load import load_model
from tests.helpers.trainings import (
    SEGMENT,
    assert_same_run,
    changed,
    checkpoint,
    log_lines,
    run_here,
    write_model,
    write_recipe,
    write_segments,
)

INT8 = changed(
    SEGMENT,
    {
        "distill.quantise": "int8",
        "distill.view": "online",
        "distill.labels": 0.0,
        "train.batch_norm": "frozen",
        "train.ema": 0.9,
        "train.ema_tau": 1.0,
        "optimizer.lr": 1e-7,  # such random weights have outputs of 1e-3, and steps to match
    },
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("t") / "t.safetensors", "seg-b0-cityscapes", 3)


@pytest.mark.slow
def test_without_an_init_the_teacher_learns_from_itself(tmp_path: Path, teacher: Path) -> None:
    data, recipe = write_segments(tmp_path / "data"), write_recipe(tmp_path / "r.yaml", INT8)
    out = tmp_path / "out"
    result = run_here(recipe, data, out, "--teacher", teacher, command="distill")
    assert result.exit_code == 0, result.output
    line = next(line for line in log_lines(out) if "loss" in line)
    assert 0 < line["logits"] < 0.1  # what rounding costs, not what random weights do
    kept = sorted((out / "calibration").iterdir())  # what the export has to measure on
    assert kept and all(read_image(path)[0].ndim == 3 for path in kept)
    saved, source = load_model(str(out / "best.safetensors")), load_model(str(teacher))
    assert saved.info.classes is not None and source.info.classes is not None
    assert saved.info.classes.classes == source.info.classes.classes
    x = torch.randn(1, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted, found = source.model(x), saved.model(x)
    assert float((wanted - found).std() / wanted.std()) < 0.5
    assert not torch.equal(wanted, found)


@pytest.mark.slow
def test_it_goes_on_as_if_it_had_not_stopped(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evit_cli.models.quantize.rounded.MEASURE_EVERY", 3)
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(INT8, {"train.steps": 5}))
    more = ("--teacher", teacher)
    assert run_here(recipe, data, tmp_path / "whole", *more, command="distill").exit_code == 0

    from evit_cli.train.loop import Trainer

    plain = Trainer._train_step

    def stopped(self: Trainer, *args: object) -> bool:
        return plain(self, *args) or self.step == 2  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", stopped)
        result = run_here(recipe, data, tmp_path / "out", *more, command="distill")
        assert result.exit_code != 0
    assert checkpoint(tmp_path / "out")["step"] == 2
    again = ("--resume", "auto", *more)
    result = run_here(recipe, data, tmp_path / "out", *again, command="distill")
    assert result.exit_code == 0, result.output
    assert_same_run(tmp_path / "whole", tmp_path / "out")


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("distill.labels", 1.0, "the teacher's probabilities alone"),
        ("train.batch_norm", "local", "train.batch_norm: frozen"),
        ("train.bn_images", 4, "train.bn_images: 0"),
        ("model.classes", ["a", "b", "c"], "no model.classes"),
    ],
)
def test_what_int8_cannot_have_is_said(
    tmp_path: Path, teacher: Path, key: str, value: object, words: str
) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", changed(INT8, {key: value}))
    result = run_here(recipe, tmp_path, tmp_path / "o", "--teacher", teacher, command="distill")
    assert result.exit_code != 0
    assert words in " ".join(result.stderr.split())


def test_other_weights_than_the_variant_are_refused(tmp_path: Path) -> None:
    other = write_model(tmp_path / "t.safetensors", "seg-b1-cityscapes", 3)
    data, recipe = write_segments(tmp_path / "data"), write_recipe(tmp_path / "r.yaml", INT8)
    result = run_here(recipe, data, tmp_path / "o", "--teacher", other, command="distill")
    assert result.exit_code == 1
    assert "is seg-b1-cityscapes" in result.stderr
