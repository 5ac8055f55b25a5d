"""Learning from a teacher: cached and online, with unlabelled images, and what the cache does."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evit_cli.config.recipe_parts import DistillPart
from evit_cli.models.class_maps import shipped_translation
from evit_cli.models.classes import class_set, numbered_classes
from evit_cli.train.teacher import load_teacher
from evit_cli.weights.load import load_model
from tests.helpers.media_files import numbered_video
from tests.helpers.trainings import (
    CLASSIFY,
    SEGMENT,
    Document,
    changed,
    checkpoint,
    log_lines,
    run_here,
    striped,
    write_classes,
    write_model,
    write_recipe,
    write_segments,
)

STUDENT: Document = {"distill": {"teacher_hw": [32, 64]}}
SEG = changed({**SEGMENT, **STUDENT}, {"distill.features": 1.0, "distill.feature_levels": [8, 32]})
CLS = {**CLASSIFY, "distill": {}}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("t") / "t.safetensors", "seg-b0-cityscapes", 3)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("t") / "c.safetensors", "cls-b0", 2)


def distill(recipe: Path, data: Path, out: Path, teacher: Path, *more: object) -> Any:
    return run_here(recipe, data, out, "--teacher", teacher, *more, command="distill")


def shards_of(out: Path) -> dict[str, int]:
    """Modification times of the cache's shards."""
    found = (out / "teacher" / "outputs").glob("*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in found}


def test_segmentation_with_unlabelled_images_and_a_video(tmp_path: Path, teacher: Path) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", SEG)
    extra = tmp_path / "extra"
    extra.mkdir()
    for number in range(3):
        cv2.imwrite(str(extra / f"{number}.png"), striped(50 + number)[0])
    video = numbered_video(tmp_path / "clip.mp4", 6)
    out = tmp_path / "out"
    more = ("--extra", extra, "--extra", video, "--set", "distill.extra_every=2")
    result = distill(recipe, data, out, teacher, *more, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["steps"] == 4
    assert len(list((out / "teacher" / "frames").rglob("*.png"))) == 3
    from safetensors import safe_open

    with safe_open(out / "teacher" / "outputs" / "00000.safetensors", framework="np") as file:
        names = set(file.keys())
        assert file.get_tensor("0.logits").shape == (3, 4, 4)  # 40x48 fits into 32x64 as 32x38
        assert file.get_tensor("0.stride32").shape == (128, 1, 1)
    kinds = ("logits", "stride8", "stride32")
    assert names == {f"{index}.{kind}" for index in range(6 + 3 + 3) for kind in kinds}
    line = next(line for line in log_lines(out) if "loss" in line)
    assert {"logits", "labels", "stride8", "stride32"} <= line.keys()
    assert all(line[name] > 0 for name in ("logits", "labels", "stride8", "stride32"))
    kept = checkpoint(out)["network"]
    assert any(name.startswith("adapters.stride32") for name in kept)
    loaded = load_model(str(out / "best.safetensors"))
    assert not any("adapters" in name for name in loaded.model.state_dict())


@pytest.mark.parametrize("view", ["cached", "online"])
def test_classification(tmp_path: Path, classifier: Path, view: str) -> None:
    data = write_classes(tmp_path / "data")
    changes: Document = {"distill.view": view, "classify.mixup": 0.4, "classify.cutmix": 0.4}
    if view == "online":
        changes["distill.features"] = 0.5
    recipe = write_recipe(tmp_path / "r.yaml", changed(CLS, changes))
    result = distill(recipe, data, tmp_path / "out", classifier)
    assert result.exit_code == 0, result.output
    line = next(line for line in log_lines(tmp_path / "out") if "loss" in line)
    assert math.isfinite(line["loss"])
    assert {"logits", "labels"} <= line.keys()
    assert ("stride16" in line) is (view == "online")
    assert bool(shards_of(tmp_path / "out")) is (view == "cached")


def test_a_classifier_that_is_very_sure_makes_no_nan(tmp_path: Path) -> None:
    """Its smallest probabilities are 0 in float32, and the loss takes their logarithm."""
    sure = write_model(tmp_path / "c.safetensors", "cls-b0", 2, sharp=1e8)
    data = write_classes(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(CLS, {"classify.mixup": 0.4}))
    result = distill(recipe, data, tmp_path / "out", sure)
    assert result.exit_code == 0, result.output
    from safetensors import safe_open

    shard = tmp_path / "out" / "teacher" / "outputs" / "00000.safetensors"
    with safe_open(shard, framework="np") as file:
        assert float(np.ptp(file.get_tensor("0.logits").astype(np.float32))) > 110


def test_segmentation_online(tmp_path: Path, teacher: Path) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEG, {"distill.view": "online"}))
    result = distill(recipe, data, tmp_path / "out", teacher)
    assert result.exit_code == 0, result.output
    assert not (tmp_path / "out" / "teacher" / "outputs").exists()
    line = next(line for line in log_lines(tmp_path / "out") if "loss" in line)
    assert {"logits", "labels", "stride8", "stride32"} <= line.keys()


def test_a_classifiers_features_need_the_teacher_online(tmp_path: Path, classifier: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", changed(CLS, {"distill.features": 1.0}))
    result = distill(recipe, write_classes(tmp_path / "data"), tmp_path / "out", classifier)
    assert result.exit_code == 1
    assert "distill.view=online" in result.stderr


def test_the_cache_goes_on_where_it_was(
    tmp_path: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evit_cli.data.outputs.PER_SHARD", 2)
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEG, {"train.steps": 1}))
    out = tmp_path / "out"
    assert distill(recipe, data, out, teacher).exit_code == 0
    before = shards_of(out)
    assert sorted(before) == ["00000.safetensors", "00001.safetensors", "00002.safetensors"]
    removed = out / "teacher" / "outputs" / "00001.safetensors"
    content = removed.read_bytes()
    removed.unlink()
    assert distill(recipe, data, out, teacher, "--force").exit_code == 0
    after = shards_of(out)
    assert {name for name in before if before[name] != after[name]} == {"00001.safetensors"}
    assert removed.read_bytes() == content
    other = write_model(tmp_path / "o.safetensors", "seg-b0-cityscapes", 3, seed=1)
    assert distill(recipe, data, out, other, "--force").exit_code == 0
    again = shards_of(out)
    assert all(again[name] != after[name] for name in before)
    assert removed.read_bytes() != content


def test_a_damaged_shard_is_named(tmp_path: Path, teacher: Path) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEG, {"train.steps": 1}))
    out = tmp_path / "out"
    assert distill(recipe, data, out, teacher).exit_code == 0
    shard = out / "teacher" / "outputs" / "00000.safetensors"
    os.truncate(shard, 5000)
    result = distill(recipe, data, out, teacher, "--force")
    assert result.exit_code == 1
    assert f"{shard} does not hold the teacher's outputs" in result.stderr
    shard.unlink()
    assert distill(recipe, data, out, teacher, "--force").exit_code == 0


def test_probabilities_of_joined_classes_add_up(tmp_path: Path) -> None:
    """Cityscapes' 19 classes become CamVid's 11."""
    path = write_model(tmp_path / "t.safetensors", "seg-b0-cityscapes", "cityscapes")
    camvid = class_set("camvid")
    found = load_teacher(DistillPart(teacher=str(path)), camvid, torch.device("cpu"))
    translation = shipped_translation(class_set("cityscapes"), "camvid")
    assert translation is not None
    images = torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    logits, features = found(images, (8, 32))
    with torch.no_grad():
        own = load_model(str(path)).model(images).softmax(1)
    expected = torch.zeros(2, 11, *own.shape[2:])
    for index, target in enumerate(translation.table):
        expected[:, target] += own[:, index]
    assert torch.allclose(logits.softmax(1), expected, atol=1e-5)
    assert len(set(translation.table)) < 19
    assert {name: f.shape[1] for name, f in features.items()} == {"stride8": 32, "stride32": 128}


def test_a_teacher_of_the_same_classes_answers_with_its_logits(teacher: Path) -> None:
    part = DistillPart(teacher=str(teacher))
    found = load_teacher(part, numbered_classes(3), torch.device("cpu"))
    images = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = load_model(str(teacher)).model(images)
    assert torch.allclose(found(images, ())[0], own, atol=1e-4)


def test_classes_that_do_not_fit(tmp_path: Path) -> None:
    four = write_model(tmp_path / "t.safetensors", "seg-b0-cityscapes", 4)
    recipe = write_recipe(tmp_path / "r.yaml", SEG)
    data = write_segments(tmp_path / "data")
    result = distill(recipe, data, tmp_path / "out", four)
    assert result.exit_code == 1
    assert "4 classes are not the data's 3" in result.stderr
    (tmp_path / "map.json").write_text(
        json.dumps({"classes": ["left", "middle", "right"], "map": [0, 1, 2, 2]})
    )
    changes = {"distill.class_map": str(tmp_path / "map.json"), "train.steps": 1}
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEG, changes))
    assert distill(recipe, data, tmp_path / "out", four).exit_code == 0


def distance(student: Path, teacher: Path) -> float:
    """KL divergence from the teacher over some pictures, both in evaluation mode."""
    models = [load_model(str(path)).model for path in (student, teacher)]
    pictures = np.stack([striped(number, (32, 64))[0][..., ::-1] for number in range(200, 206)])
    x = torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 255 * 4 - 2
    with torch.no_grad():
        p, q = (model(x).log_softmax(1) for model in models)
    return float(F.kl_div(p, q, log_target=True, reduction="batchmean"))


@pytest.mark.slow
def test_a_student_comes_closer_to_its_teacher(tmp_path: Path, teacher: Path) -> None:
    """Without any label: only the teacher can be what it learns from."""
    data = write_segments(tmp_path / "data")
    changes = {
        "distill.labels": 0.0,
        "distill.features": 0.0,
        "optimizer.lr": 3e-3,
        "train.bn_images": 12,
        "segment.scale": [0.9, 1.1],
    }
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEG, changes))
    far = []
    for steps in (1, 40):
        out = tmp_path / f"{steps}"
        result = distill(recipe, data, out, teacher, "--set", f"train.steps={steps}")
        assert result.exit_code == 0, result.output
        far.append(distance(out / "last.safetensors", teacher))
    assert far[1] < 0.7 * far[0]
