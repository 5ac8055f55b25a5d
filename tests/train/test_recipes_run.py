"""Every shipped recipe runs: two steps at a tiny size, with the losses that were there before.

    EVIT_PIN_LOSSES=1 .venv/bin/python -m pytest tests/train/test_recipes_run.py

writes what it finds into `pinned_losses.json` in place of comparing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from evit_cli.config.recipe import Recipe, find_recipe, load_recipe, recipe_names
from evit_cli.models.build import build_model
from evit_cli.models.variants import get_variant, own_info
from evit_cli.train.run import TrainRequest, train
from evit_cli.types import Task
from evit_cli.weights.checkpoint import save_weights
from tests.helpers.mask_sets import write_every_layout
from tests.helpers.segmentation_sets import write_image, write_labels
from tests.helpers.set_files import write_cifar
from tests.helpers.trainings import write_classes, write_model, write_photos, write_segments

METRICS = {
    Task.CLASSIFY: "top1",
    Task.SEGMENT: "mean_iou",
    Task.SUPERRES: "psnr_db",
    Task.SAM: "box_iou",
}
PINNED = Path(__file__).with_name("pinned_losses.json")
WRITING = bool(os.environ.get("EVIT_PIN_LOSSES"))
SIDE = 64
LARGE = ("-l1-", "-l2-", "-l3-", "sam/")
"""Whose two steps differ visibly between processors: 0.5 % in float32, 2.5 % in bfloat16."""

BIG = ("imagenet-b1", "b2", "b3", "l1", "l2", "l3")


def write_imagenet(root: Path) -> None:
    """1000 folders for training with one picture each, one for validation."""
    colours = np.random.default_rng(0).integers(0, 256, (1000, 4, 4, 3), dtype=np.uint8)
    for number, colour in enumerate(colours):
        folder = root / "train" / f"n{number:08}"
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / "0.png"), cv2.resize(colour, (20, 16)))
    write_image(root / "val" / "n00000003" / "0.png", (16, 20), 1)


def random_labels(seed: int, values: list[int], size_hw: tuple[int, int] = (48, 64)) -> np.ndarray:
    """Blocks of 8 pixels that have one label each."""
    low = np.random.default_rng(seed).choice(values, (size_hw[0] // 8, size_hw[1] // 8))
    return np.asarray(np.kron(low, np.ones((8, 8))), np.uint8)


def write_cityscapes(root: Path) -> None:
    for part, count in (("train", 4), ("val", 1)):
        for number in range(count):
            name = f"ulm/ulm_{number}"
            image = root / "leftImg8bit" / part / f"{name}_leftImg8bit.png"
            write_image(image, (48, 64), number)
            labels = random_labels(number, [0, 7, 8, 11, 21, 23, 26, 33])
            write_labels(root / "gtFine" / part / f"{name}_gtFine_labelIds.png", labels)


def write_ade20k(root: Path) -> None:
    for part, count in (("training", 4), ("validation", 1)):
        for number in range(count):
            write_image(root / "images" / part / f"{number}.jpg", (48, 64), number)
            labels = random_labels(number, [0, 1, 2, 40, 99, 150])
            write_labels(root / "annotations" / part / f"{number}.png", labels)


def write_camvid(root: Path) -> None:
    for part, count in (("train", 4), ("val", 1)):
        for number in range(count):
            write_image(root / part / "images" / f"{number}.png", (48, 64), number)
            labels = random_labels(number, list(range(12)))
            write_labels(root / part / "labels" / f"{number}.png", labels)


WRITERS: dict[str, Any] = {
    "imagenet": write_imagenet,
    "cityscapes": write_cityscapes,
    "ade20k": write_ade20k,
    "camvid": write_camvid,
    "folders": write_segments,
    "imagefolder": write_classes,
    "cifar10": lambda root: write_cifar(root, binary=True),
    "superres": lambda root: write_photos(
        root, ("t91", "bsds400", "set5", "DIV2K_train_HR", "BSD100", "train", "val")
    ),
    "masks": write_every_layout,
    "images": lambda root: write_photos(root, ("any",)),
}


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny data set of every layout that a recipe names."""
    roots = {}
    for name, write in WRITERS.items():
        roots[name] = tmp_path_factory.mktemp(name)
        write(roots[name])
    return roots


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for CamVid with random weights."""
    return write_model(
        tmp_path_factory.mktemp("teacher") / "t.safetensors", "seg-b0-cityscapes", "camvid"
    )


@pytest.fixture(scope="session")
def sam_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM model with random weights."""
    variant = get_variant("sam-b0")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        state = build_model(variant).state_dict()
    path = tmp_path_factory.mktemp("sam") / "t.safetensors"
    save_weights(path, state, own_info(variant), variant)
    return path


def small(name: str, data: Path, teacher: Path) -> Recipe:
    """The recipe with sizes, length and starting weights changed, and nothing else."""
    recipe = load_recipe(find_recipe(name))
    changes = {
        "data.dir": str(data),
        "data.workers": 0,
        "model.init": None,
        "train.batch_size": 2,
        "train.epochs": None,
        "train.steps": 2,
        "train.warmup_epochs": 0,
        "train.warmup_steps": 0,
        "train.bn_images": min(recipe.train.bn_images, 2),
        "train.mesa_start": 0,
        "train.save_minutes": 1000,
        "train.eval_epochs": 1000,
    }
    if name.startswith("cls/imagenet-l3") and not name.endswith("r224"):
        changes["model.variant"] = "cls-l1"  # the r224 recipe builds l3, which takes a minute
    if recipe.train.precision == "bf16" and name != "cls/imagenet-l1-r224":
        changes["train.precision"] = "fp32"  # most CPUs emulate bfloat16, which takes minutes
    if recipe.segment is not None:
        part = recipe.segment
        changes |= {"segment.crop_hw": [[SIDE, SIDE]], "segment.eval_hw": [SIDE, SIDE]}
        if part.base_hw is not None:
            changes["segment.base_hw"] = [SIDE, 2 * SIDE]
    elif recipe.superres is not None:
        changes |= {"superres.patch_hw": [[16, 16]]}
    elif recipe.sam is not None:
        few = {"sides": [SIDE], "masks_per_image": 2, "points": 64, "val_clicks": []}
        changes |= {f"sam.{key}": value for key, value in few.items()}
        if name.startswith("sam/xl"):
            changes["model.variant"] = "sam-l0"  # xl1 has 200 million weights
    else:
        changes |= {"classify.sizes": [SIDE], "classify.eval_size": SIDE}
    if recipe.distill is not None:
        changes |= {"distill.teacher": str(teacher), "distill.teacher_hw": [SIDE, SIDE]}
    return load_recipe(find_recipe(name), [f"{k}={json.dumps(v)}" for k, v in changes.items()])


class Losses:
    """A `Progress` that notes the loss of every step."""

    def __init__(self) -> None:
        self.found: list[float] = []

    def start(self, total: int | None, unit: str) -> None:
        """Nothing to count."""

    def advance(self, done: int, **fields: object) -> None:
        if "loss" in fields:
            self.found.append(float(str(fields["loss"])))

    def close(self) -> None:
        """Nothing to close."""


def marks(name: str) -> Any:
    """The big models take their time."""
    big = any(size in name for size in BIG)
    return pytest.param(name, marks=[pytest.mark.slow] if big else [])


@pytest.mark.parametrize("name", [marks(name) for name in recipe_names()])
def test_two_steps_have_the_pinned_losses(
    name: str,
    sets: dict[str, Path],
    teacher: Path,
    sam_teacher: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("evit_cli.train.loop.save_snapshot", lambda *_: None)  # up to 4 GB each
    monkeypatch.setattr("evit_cli.train.validate.save_weights", lambda *_: None)
    torch.set_num_threads(1)
    kind = load_recipe(find_recipe(name)).data.name
    recipe = small(name, sets[kind], sam_teacher if kind == "images" else teacher)
    progress = Losses()
    result = train(TrainRequest(recipe, tmp_path, offline=True), progress)
    assert result.steps == 2
    assert result.metric == ("explained" if kind == "images" else METRICS[recipe.task])
    least = -np.inf if kind == "images" else 0  # a worse guess than the mean is below zero
    assert least <= result.best <= (100 if recipe.task is Task.SUPERRES else 1)
    logged = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ("mesa" in logged[0]) is (recipe.train.mesa_ratio > 0)
    pinned = json.loads(PINNED.read_text()) if PINNED.exists() else {}
    if WRITING:
        pinned[name] = progress.found
        PINNED.write_text(json.dumps(dict(sorted(pinned.items())), indent=1) + "\n")
    tolerance = 1e-3 if recipe.train.precision == "fp32" else 2e-2
    first, second = pinned[name]
    # Rounding moves the teacher's random weights by less than the order of a sum may.
    floor = 1e-5 if recipe.distill is not None and recipe.distill.quantise else 1e-12
    assert progress.found[0] == pytest.approx(first, rel=tolerance, abs=floor)
    # AdamW's first step has the size of the learning rate whatever the gradient's, so where that is
    # nearly zero the rounding of another processor's kernels decides its sign.
    if any(size in name for size in LARGE):
        tolerance = 1e-2 if recipe.train.precision == "fp32" else 4e-2
    assert progress.found[1:] == pytest.approx([second], rel=tolerance, abs=floor)


def test_every_recipe_is_pinned() -> None:
    assert sorted(json.loads(PINNED.read_text())) == sorted(recipe_names())
