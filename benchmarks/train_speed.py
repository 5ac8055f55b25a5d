"""Images per second of the training loop, beside a plain PyTorch loop over the same model.

    python -m benchmarks.train_speed [--steps 6] [--threads N] [--device cpu|cuda]

The plain loop does only forward, loss, backward and step, once with a batch in memory and once fed
by the same loader as ours; ours also averages weights, clips, checks and logs. All run in turns in
one process, so that a noisy machine slows all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evit_cli.config.recipe import Recipe, find_recipe, load_recipe
from evit_cli.data.loader import load_batches, worker_count
from evit_cli.data.sample import IGNORE
from evit_cli.data.sampling import Plan
from evit_cli.models.build import build_model
from evit_cli.models.variants import get_variant
from evit_cli.train.build import build_task
from evit_cli.train.distributed import Group
from evit_cli.train.logbook import RunFolder
from evit_cli.train.loop import Trainer
from evit_cli.train.task import normalise
from evit_cli.types import NoProgress


@dataclass(frozen=True)
class Case:
    """One row: a recipe, its crop and its batch."""

    recipe: str
    crop_hw: tuple[int, int]
    image_hw: tuple[int, int]
    batch: int


CASES = (
    Case("seg/cityscapes-b1", (512, 1024), (1024, 2048), 2),
    Case("seg/camvid-b0", (352, 480), (360, 480), 8),
)
CLASSES = 11
ROUNDS = 3


def write_set(root: Path, image_hw: tuple[int, int], count: int) -> None:
    """Pictures that compress like photographs: smooth noise, with labels in large patches."""
    rng = np.random.default_rng(0)
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (root / part / kind).mkdir(parents=True)
        for i in range(count if part == "train" else 1):
            small = rng.integers(0, 256, (image_hw[0] // 8, image_hw[1] // 8, 3), dtype=np.uint8)
            image = cv2.resize(small, image_hw[::-1], interpolation=cv2.INTER_CUBIC)
            patches = rng.integers(0, CLASSES, (8, 16), dtype=np.uint8)
            labels = cv2.resize(patches, image_hw[::-1], interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(root / part / "images" / f"{i}.png"), image)
            cv2.imwrite(str(root / part / "labels" / f"{i}.png"), labels)
    (root / "classes.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))


def recipe_of(case: Case, root: Path, steps: int, precision: str) -> Recipe:
    """The shipped recipe, shortened and on the drawn set."""
    changes = [
        "model.init=null",
        "model.drop_path=0",  # the plain loop has none
        "model.classes=null",
        "data.name=folders",
        f"data.dir={root}",
        f"segment.crop_hw=[[{case.crop_hw[0]}, {case.crop_hw[1]}]]",
        "segment.class_weights=null",
        "segment.label_stride=1",
        f"train.batch_size={case.batch}",
        "train.accumulate=1",
        "train.epochs=null",
        f"train.steps={steps}",
        "train.warmup_epochs=0",
        "train.warmup_steps=0",
        "train.bn_images=0",
        f"train.precision={precision}",
        "train.save_minutes=1000",
    ]
    return load_recipe(find_recipe(case.recipe), changes)


class Clock(NoProgress):
    """Notes when each step was done."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def advance(self, done: int, **fields: object) -> None:
        self.times.append(time.perf_counter())


def in_memory(case: Case, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """One random batch, again and again."""
    images = torch.randn(case.batch, 3, *case.crop_hw, device=device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (case.batch, *case.crop_hw), device=device)
    while True:
        yield images, labels


def loaded(case: Case, root: Path, steps: int, device: str) -> Iterator[tuple[Tensor, Tensor]]:
    """What our loop's own loader gives."""
    group = Group(0, 1, torch.device(device))
    task = build_task(recipe_of(case, root, steps, "fp32"), group=group, cache=root / "none")
    plan = Plan(task.count, case.batch, task.sizes)
    order = (plan.step(step) for step in range(steps))
    for batch in load_batches(task, order, workers=worker_count("auto"), pin=device == "cuda"):
        tensors = batch.to(group.device).tensors
        images = normalise(tensors["image"], task.info)
        yield images.contiguous(memory_format=torch.channels_last), tensors["labels"].long()


def plain_loop(
    case: Case, batches: Iterator[tuple[Tensor, Tensor]], steps: int, device: str, precision: str
) -> float:
    """Images per second of forward, loss, backward and AdamW, channels-last."""
    variant = get_variant(f"seg-{case.recipe.rpartition('-')[2]}-cityscapes", num_classes=CLASSES)
    model = build_model(variant).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

    def step() -> float:
        images, labels = next(batches)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(images)
        logits = F.interpolate(logits.float(), size=case.crop_hw, mode="bilinear")
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORE)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    step()
    begun = time.perf_counter()
    for _ in range(steps):
        step()
    return steps * case.batch / (time.perf_counter() - begun)


def our_loop(
    case: Case, root: Path, steps: int, device: str, precision: str
) -> tuple[float, float]:
    """Images per second of `Trainer` and the share of time it waited for data; without evaluation.

    The first step, in which the loader starts, is left out as in the plain loop.
    """
    recipe = recipe_of(case, root, steps + 1, precision)
    group = Group(0, 1, torch.device(device))
    task = build_task(recipe, group=group, cache=root / "none")
    with tempfile.TemporaryDirectory() as out:
        clock = Clock()
        trainer = Trainer(recipe, task, RunFolder(Path(out)), group=group, progress=clock)
        trainer.run()
        waits = [line["data_wait"] for line in trainer.history if "data_wait" in line]
    return steps * case.batch / (clock.times[-1] - clock.times[0]), waits[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    precision = "bf16" if options.device == "cuda" else "fp32"
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "set"
            write_set(root, case.image_hw, count=4 * case.batch)
            steps, device = options.steps, options.device
            rounds = []
            for _ in range(ROUNDS):
                fed = loaded(case, root, steps + 1, device)
                rounds.append(
                    (
                        plain_loop(case, in_memory(case, device), steps, device, precision),
                        plain_loop(case, fed, steps, device, precision),
                        *our_loop(case, root, steps, device, precision),
                    )
                )
        columns = zip(*rounds, strict=True)
        memory, plain, ours, wait = (sorted(column)[ROUNDS // 2] for column in columns)
        row = {
            "recipe": case.recipe,
            "crop_hw": case.crop_hw,
            "batch": case.batch,
            "device": options.device,
            "precision": precision,
            "in_memory_images_per_s": round(memory, 2),
            "plain_images_per_s": round(plain, 2),
            "evit_images_per_s": round(ours, 2),
            "ratio": round(ours / plain, 3),
            "data_wait": round(wait, 4),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
