"""Tiny trainings: data sets, recipes, and runs of `evit train` in this process or in others."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from typer.testing import Result

from evit_cli.models.build import build_model
from evit_cli.models.classes import class_set, numbered_classes
from evit_cli.models.variants import get_variant
from evit_cli.train.start import initialise
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task
from evit_cli.weights.checkpoint import save_weights
from tests.helpers.cli import evit
from tests.helpers.paths import REPOSITORY

Document = dict[str, Any]

SEGMENT: Document = {
    "name": "seg/tiny",
    "task": "segment",
    "model": {"variant": "seg-b0-cityscapes"},
    "data": {"name": "folders", "workers": 0},
    "segment": {"crop_hw": [[32, 32]], "eval_hw": [32, 32]},
    "optimizer": {"lr": 1e-3},
    "train": {"steps": 4, "batch_size": 4, "ema": None, "eval_epochs": 100},
}
CLASSIFY: Document = {
    "name": "cls/tiny",
    "task": "classify",
    "model": {"variant": "cls-b0"},
    "data": {"name": "imagefolder", "workers": 0},
    "classify": {"sizes": [32], "eval_size": 32, "area": [0.5, 1.0]},
    "optimizer": {"lr": 1e-3},
    "train": {"steps": 4, "batch_size": 4, "ema": None, "eval_epochs": 100},
}
SUPERRES: Document = {
    "name": "sr/tiny",
    "task": "superres",
    "model": {"variant": "sr-xs-res-x2"},
    "data": {"name": "superres", "workers": 0},
    "superres": {"photos": [{"folder": "train"}], "val": "val", "patch_hw": [[16, 16]]},
    "optimizer": {"lr": 1e-3},
    "train": {"steps": 4, "batch_size": 4, "ema": None, "eval_epochs": 100},
}
RANDOM_SUPERRES = {
    "superres.patch_hw": [[16, 16], [12, 20]],
    "superres.loss": "charbonnier",
    "model.drop_path": 0.3,
    "train.ema": 0.9,
    "train.ema_tau": 3.0,
    "train.accumulate": 2,
}
"""Everything that is random, or has a state, in a super-resolution."""
RANDOM_SEGMENT = {
    "model.drop_path": 0.5,
    "segment.crop_hw": [[32, 32], [32, 64]],
    "segment.color": {"brightness": 0.3, "hue": 0.1},
    "segment.noise": 4.0,
    "segment.ohem": 0.7,
    "train.ema": 0.9,
    "train.ema_tau": 3.0,
    "train.accumulate": 2,
    "train.bn_images": 4,
}
"""Everything that is random, or has a state, in a segmentation."""
RANDOM_CLASSIFY = {
    "model.drop_path": 0.5,
    "classify.mixup": 0.4,
    "classify.cutmix": 0.4,
    "classify.rand_augment": [1, 5],
    "classify.erase": 0.5,
    "train.ema": 0.9,
    "train.ema_tau": 3.0,
    "train.accumulate": 2,
    "train.mesa_ratio": 1.0,
    "train.mesa_start": 0.0,
}
"""The same in a classification."""
EVERY_STEP = {"train.save_minutes": 1e-4}
"""So few minutes that nearly every step is followed by a checkpoint."""


def changed(document: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """A copy in which "a.b" has another value; None for a whole key that is missing adds it."""
    result: Document = copy.deepcopy(dict(document))
    for key, value in changes.items():
        *parents, last = key.split(".")
        here = result
        for parent in parents:
            here = here.setdefault(parent, {})
        here[last] = value
    return result


def write_recipe(path: Path, document: Mapping[str, Any], **changes: Any) -> Path:
    """A recipe file; changes have "__" in place of the dot."""
    flat = {key.replace("__", "."): value for key, value in changes.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(changed(document, flat)), "utf-8")
    return path


def striped(number: int, size_hw: tuple[int, int] = (40, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A BGR picture with three bands of different grey, noise on top, and their classes 0..2."""
    rng = np.random.default_rng(number)
    edges = sorted(rng.integers(4, size_hw[1] - 4, 2))
    labels = np.zeros(size_hw, np.uint8)
    labels[:, edges[0] :] = 1
    labels[:, edges[1] :] = 2
    grey = np.array([40, 120, 220])[labels][..., None] + rng.integers(-30, 31, (*size_hw, 3))
    return np.clip(grey, 0, 255).astype(np.uint8), labels


def write_segments(root: Path, train: int = 6, val: int = 2) -> Path:
    """`striped` pictures as the set "folders" with three classes, of which some pixels are void."""
    for part, numbers in (("train", range(train)), ("val", range(100, 100 + val))):
        for number in numbers:
            image, labels = striped(number)
            labels[:3] = 255
            for kind, pixels in (("images", image), ("labels", labels)):
                path = root / part / kind / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)
    (root / "classes.txt").write_text("left\nmiddle\nright\n")
    return root


def write_classes(root: Path, train: int = 8, val: int = 4, classes: int = 2) -> Path:
    """Dark and bright noise as the set "imagefolder"."""
    for part, numbers in (("train", range(train)), ("val", range(100, 100 + val))):
        for number in numbers:
            rng, target = np.random.default_rng(number), number % classes
            low = 200 * target // classes
            path = root / part / f"class{target}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(low, low + 56, (36, 40, 3), dtype=np.uint8))
    return root


def write_photos(root: Path, folders: Sequence[str] = ("train", "val"), count: int = 3) -> Path:
    """`striped` pictures as photographs."""
    for place, folder in enumerate(folders):
        for number in range(count):
            path = root / folder / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), striped(10 * place + number, (80, 96))[0])
    return root


def write_model(
    path: Path, variant: str, classes: int | str, *, seed: int = 0, sharp: float = 1.0
) -> Path:
    """A weights file of a model with random weights, such as a teacher.

    Args:
        path: of the file.
        variant: its name.
        classes: how many, or the data set that has them.
        seed: of the weights.
        sharp: factor on the logits.
    """
    names = numbered_classes(classes) if isinstance(classes, int) else class_set(classes)
    chosen = get_variant(variant, num_classes=len(names))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(chosen)
        initialise(model, zero_residual=False)
        for norm in model.modules():
            if isinstance(norm, torch.nn.BatchNorm2d):
                norm.running_var.fill_(0.01)  # as far as such weights spread: answers differ
        matrices = [p for p in model.parameters() if p.ndim > 1]
        with torch.no_grad():
            matrices[-1].mul_(sharp)  # the last layer
    size = ImageSize(32, 32)
    task = Task.CLASSIFY if variant.startswith("cls") else Task.SEGMENT
    info = ModelInfo(path.stem, task, Preprocess(size), classes=names)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, model.state_dict(), info, chosen)
    return path


def arguments(
    recipe: Path, data: Path, out: Path, *more: object, command: str = "train"
) -> list[str]:
    """Arguments of `evit train`."""
    common = [command, recipe, "--data", data, "--out", out, "--threads", 1]
    return [str(argument) for argument in (*common, *more)]


def run_here(recipe: Path, data: Path, out: Path, *more: object, command: str = "train") -> Result:
    """`evit train` in this process."""
    return evit(*arguments(recipe, data, out, *more, command=command))


def start(
    args: Sequence[str], *, launcher: Sequence[str] = ("-m",), **options: Any
) -> subprocess.Popen[str]:
    """`python LAUNCHER evit_cli ARGS` as a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "EVIT_CLI_TEST": "1"}
    return subprocess.Popen(
        [sys.executable, *launcher, "evit_cli", *args],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_processes(args: Sequence[str], processes: int) -> subprocess.CompletedProcess[str]:
    """`evit ARGS` under torchrun."""
    launcher = (
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m",
    )  # fmt: skip
    process = start(args, launcher=launcher)
    out, err = process.communicate(timeout=170)
    return subprocess.CompletedProcess(args, process.returncode, out, err)


def checkpoint(out: Path) -> Document:
    """The content of `last.ckpt`."""
    return dict(torch.load(out / "last.ckpt", weights_only=True))


def log_lines(out: Path) -> list[Document]:
    """The lines of `log.jsonl`."""
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def evaluations(out: Path) -> list[Document]:
    """The evaluations in the log, without their times."""
    return [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in log_lines(out)
        if "eval" in line
    ]


def differing(left: Any, right: Any, where: str = "") -> list[str]:
    """Where two nested states differ in any bit."""
    if isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor):
        same = left.dtype == right.dtype and torch.equal(left, right)
        return [] if same else [where]
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        if left.keys() != right.keys():
            return [f"{where} (keys)"]
        return [d for key in left for d in differing(left[key], right[key], f"{where}.{key}")]
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            return [f"{where} (length)"]
        pairs = enumerate(zip(left, right, strict=True))
        return [d for i, (a, b) in pairs for d in differing(a, b, f"{where}[{i}]")]
    return [] if left == right else [where]


def assert_same_run(left: Path, right: Path) -> None:
    """Two run folders hold the same training, bit by bit."""
    one, two = checkpoint(left), checkpoint(right)
    for key in ("step", "network", "average", "optimizer", "best"):
        assert differing(one[key], two[key], key) == []
    assert evaluations(left) == evaluations(right)
    for name in ("best.safetensors", "last.safetensors"):
        assert (left / name).read_bytes() == (right / name).read_bytes()
