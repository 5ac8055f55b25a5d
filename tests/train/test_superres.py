"""Super-resolution in the training loop, and `evit eval` of what it makes."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
import torch

from evit_cli.config.recipe import load_recipe
from evit_cli.errors import EvitError
from evit_cli.train.losses import pixel_distance
from evit_cli.weights.load import load_model
from tests.helpers.cli import evit
from tests.helpers.trainings import (
    EVERY_STEP,
    RANDOM_SUPERRES,
    SUPERRES,
    assert_same_run,
    changed,
    evaluations,
    run_here,
    write_photos,
    write_recipe,
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


def test_trains_and_is_measured_by_eval(photos: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", SUPERRES, train__steps=60)
    done = run_here(recipe, photos, tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    weights = tmp_path / "run" / "best.safetensors"
    assert result["weights"] == str(weights)
    measured = evit(
        "eval", "--weights", str(weights), "--dataset", "superres", "--data", str(photos / "val"),
        "--json", "--threads", "1",
    )  # fmt: skip
    score = json.loads(measured.stdout)
    assert score["psnr_db"] == pytest.approx(result["psnr_db"], abs=1e-3)
    assert score["images"] == 3
    last = evaluations(tmp_path / "run")[-1]["eval"]
    assert last["psnr_db"] > score["bicubic_psnr_db"]  # stripes of noise are soon learnt
    assert last["ssim"] == pytest.approx(score["ssim"], abs=1e-5)
    assert cv2.imread(str(tmp_path / "run" / "predictions.png")).shape[2] == 3
    loaded = load_model(None, weights=weights)
    assert (loaded.variant.name, loaded.info.classes) == ("sr-xs-res-x2", None)
    assert loaded.info.preprocess.stride == 4


@pytest.mark.parametrize("random", [{}, RANDOM_SUPERRES])
def test_resumed_is_uninterrupted(
    photos: Path, tmp_path: Path, random: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = changed(SUPERRES, {**random, **EVERY_STEP, "train.steps": 4})
    recipe = write_recipe(tmp_path / "r.yaml", document)
    assert run_here(recipe, photos, tmp_path / "whole").exit_code == 0
    from evit_cli.train.loop import Trainer

    step = Trainer._train_step

    def stopped(self: Trainer, *args: object) -> bool:
        if self.step == 2:
            raise KeyboardInterrupt
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_train_step", stopped)
    assert run_here(recipe, photos, tmp_path / "parts").exit_code == 130
    monkeypatch.undo()
    again = run_here(recipe, photos, tmp_path / "parts", "--resume", "auto")
    assert again.exit_code == 0, again.output
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"superres.patch_hw": [[18, 16]]}, "18, which is no multiple of 4"),
        ({"superres.photos": []}, "names no folder"),
        ({"data.name": "folders"}, "does not learn from data 'folders'"),
        ({"train.mesa_ratio": 1.0, "train.ema": 0.9}, "no distill, no mesa"),
        ({"model.classes": ["a"]}, "no model.classes"),
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", changed(SUPERRES, changes))
    with pytest.raises(EvitError, match=message):
        load_recipe(recipe)


def test_another_task_s_model_is_refused(photos: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", SUPERRES, model__variant="seg-b0-cityscapes")
    done = run_here(recipe, photos, tmp_path / "run")
    assert done.exit_code == 1
    assert "is not for super-resolution" in done.output


def test_eval_wants_the_task_s_own_set(photos: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", SUPERRES, train__steps=1)
    assert run_here(recipe, photos, tmp_path / "run").exit_code == 0
    weights = str(tmp_path / "run" / "last.safetensors")
    common = ("eval", "--weights", weights, "--data", str(photos))
    assert evit(*common, "--dataset", "camvid").exit_code == 2
    assert evit(*common, "--dataset", "superres", "--size", "64").exit_code == 2


def test_distances() -> None:
    found, truth = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    total, weight = pixel_distance(found, truth, kind="l1")
    assert (float(total), float(weight)) == (0.5, 1)
    total, _ = pixel_distance(found.zero_().requires_grad_(), truth, kind="charbonnier")
    assert float(total) == pytest.approx(1e-3)
    total.backward()
    assert torch.isfinite(found.grad).all()
