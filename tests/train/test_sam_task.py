"""Promptable segmentation in the training loop."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from evit_cli.config.recipe import load_recipe
from evit_cli.data.loader import Batch, stack
from evit_cli.data.sampling import Plan
from evit_cli.errors import EvitError
from evit_cli.models.sam.prompts import ABSENT, LOWER_RIGHT, UPPER_LEFT
from evit_cli.models.variants import get_variant
from evit_cli.train.sam.task import SamTask
from evit_cli.train.sam.validate import framed
from evit_cli.train.start import start_model
from evit_cli.train.task import normalise
from evit_cli.types import ImageSize
from evit_cli.weights.load import load_model
from tests.helpers.mask_sets import (
    RANDOM_SAM,
    SAM,
    TINY,
    add_tiny,
    shapes,
    tiny_model,
    write_objects,
    write_regions,
)
from tests.helpers.trainings import (
    EVERY_STEP,
    assert_same_run,
    changed,
    checkpoint,
    evaluations,
    log_lines,
    run_here,
    run_processes,
    write_model,
    write_recipe,
)
from tests.helpers.trainings import arguments as train_arguments


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny(monkeypatch)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_regions(tmp_path_factory.mktemp("regions"), 3)


def task_of(data: Path, tmp_path: Path, changes: dict[str, object] | None = None) -> SamTask:
    document = changed(SAM, {**(changes or {}), "data.dir": str(data)})
    return SamTask(load_recipe(write_recipe(tmp_path / "r.yaml", document)))


OVERFIT = {
    "sam.sides": [96],
    "sam.flip": 0.0,
    "sam.box_noise": 0.0,
    "sam.multimask": "both",
    "sam.iou": 1.0,
    "sam.points": 512,
    "optimizer.lr": 3e-3,
    "train.steps": 130,
    "train.warmup_steps": 5,
    "train.eval_epochs": 1000,
}


@pytest.mark.slow
def test_two_images_are_soon_known(tmp_path: Path) -> None:
    data = write_regions(tmp_path / "data", 2)
    recipe = write_recipe(tmp_path / "r.yaml", changed(SAM, OVERFIT))
    done = run_here(recipe, data, tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["box_iou"] > 0.8
    assert evaluations(tmp_path / "run")[-1]["eval"]["click1_iou"] > 0.7


def test_a_run_leaves_weights_that_load(regions: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", SAM)
    done = run_here(recipe, regions, tmp_path / "run", "--json")
    assert done.exit_code == 0, done.output
    loaded = load_model(None, weights=tmp_path / "run" / "best.safetensors")
    assert loaded.variant.name == "sam-tiny"
    assert loaded.info.preprocess.size_hw == ImageSize(512, 512)
    assert loaded.info.classes is None
    trained = checkpoint(tmp_path / "run")["network"]
    for name, value in loaded.model.state_dict().items():
        torch.testing.assert_close(value, trained[f"sam.{name}"], rtol=0, atol=0)
    score = evaluations(tmp_path / "run")[-1]["eval"]
    assert set(score) == {"box_iou", "click1_iou"}
    picture = cv2.imread(str(tmp_path / "run" / "predictions.png"))
    assert picture.shape[1] == 3 * 480


@pytest.mark.parametrize("random", [{}, RANDOM_SAM])
def test_resumed_is_uninterrupted(
    regions: Path, tmp_path: Path, random: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    document = changed(SAM, {**random, **EVERY_STEP, "train.steps": 4})
    recipe = write_recipe(tmp_path / "r.yaml", document)
    assert run_here(recipe, regions, tmp_path / "whole").exit_code == 0
    from evit_cli.train.loop import Trainer

    step = Trainer._train_step

    def stopped(self: Trainer, *args: object) -> bool:
        if self.step == 2:
            raise KeyboardInterrupt
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_train_step", stopped)
    assert run_here(recipe, regions, tmp_path / "parts").exit_code == 130
    monkeypatch.setattr(Trainer, "_train_step", step)
    again = run_here(recipe, regions, tmp_path / "parts", "--resume", "auto")
    assert again.exit_code == 0, again.output
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_two_processes_train_together(regions: Path, tmp_path: Path) -> None:
    changes = {
        "model.variant": "sam-b0",
        "train.batch_norm": "frozen",
        "train.steps": 2,
        "sam.points": 40000,  # each process draws its own: so many leave no luck
        "sam.boxes": 1.0,  # the embeddings of points get no gradient of their own
        "optimizer.lr": 1e-6,
    }
    recipe = write_recipe(tmp_path / "r.yaml", changed(SAM, changes))
    alone = run_here(recipe, regions, tmp_path / "one")
    assert alone.exit_code == 0, alone.output
    done = run_processes(train_arguments(recipe, regions, tmp_path / "two"), 2)
    assert done.returncode == 0, done.stderr
    one, two = (checkpoint(tmp_path / name)["network"] for name in ("one", "two"))
    assert one.keys() == two.keys()
    losses = [log_lines(tmp_path / name)[0]["loss"] for name in ("one", "two")]
    # The same examples, at other points.
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
    assert evaluations(tmp_path / "one")[-1]["eval"] == pytest.approx(
        evaluations(tmp_path / "two")[-1]["eval"], abs=0.01
    )


def batch_of(task: SamTask, step: int = 0) -> Batch:
    plan = Plan(task.count, 2, task.sizes, seed=1)
    requests = plan.step(step)
    return Batch(requests, stack([task.sample(r) for r in requests]))


def test_examples_are_what_the_rules_say(regions: Path, tmp_path: Path) -> None:
    task = task_of(regions, tmp_path, {"sam.masks_per_image": 5, "sam.boxes": 0.0})
    batch = batch_of(task)
    tensors = batch.tensors
    assert tensors["image"].shape == (2, 64, 64, 3)
    assert tensors["masks"].shape == (2, 5, 64, 8)
    masks = np.unpackbits(tensors["masks"].numpy(), axis=-1).astype(bool)
    for image in range(2):
        assert len({mask.tobytes() for mask in masks[image]}) == 2  # of two, some stand twice
        _, whole = shapes(batch.requests[image].index)
        height, width = tensors["content"][image].tolist()
        assert not masks[image][:, height:].any()
        assert not masks[image][:, :, width:].any()
        shares = {round(m.sum() / (height * width), 2) for m in masks[image]}
        expected = {round(np.mean(whole == value), 2) for value in (1, 2)}
        assert max(abs(a - b) for a, b in zip(sorted(shares), sorted(expected), strict=True)) < 0.03
        used = int(tensors["counts"][image, 0])
        assert (tensors["counts"][image] == used).all()
        assert (tensors["labels"][image, :, :used] == 1).all()
        assert (tensors["labels"][image, :, used:] == ABSENT).all()


def test_padding_is_zero_for_the_network(regions: Path, tmp_path: Path) -> None:
    task = task_of(regions, tmp_path, {"sam.scale": [0.5, 0.5]})
    batch = batch_of(task)
    images = normalise(batch.tensors["image"], task.info)
    assert images[:, :, -1].abs().max() < 0.02  # already nearly zero: BatchNorm's statistics
    images, batch = task.change(images, batch, np.random.default_rng(0))
    for image, (height, width) in zip(images, batch.tensors["content"].tolist(), strict=True):
        assert (image[:, height:] == 0).all()
        assert (image[:, :, width:] == 0).all()
        assert (image[:, :height, :width] != 0).all()


def test_every_weight_gets_a_gradient(regions: Path, tmp_path: Path) -> None:
    task = task_of(regions, tmp_path, {"sam.boxes": 1.0})
    batch = batch_of(task)
    images = normalise(batch.tensors["image"], task.info)
    found = task.loss(task.network(images), batch, images=images, average=None)
    found.total.backward()
    assert [name for name, p in task.network.named_parameters() if p.grad is None] == []
    points = task.network.sam.decoder.prompts.points  # type: ignore[union-attr]
    pulled = [float(point.grad.abs().sum()) > 0 for point in points]  # type: ignore[union-attr]
    assert pulled == [False, False, True, True]


def test_the_images_that_measure_are_never_drawn(tmp_path: Path) -> None:
    data = write_objects(tmp_path / "data", 12)
    sets = {
        "sam.sets": [{"kind": "coco", "part": "train", "weight": 2.5}],
        "sam.val": {"kind": "coco", "part": "kept_out"},
    }
    task = task_of(data, tmp_path, sets)
    plan = Plan(task.count, 4, task.sizes, seed=3)
    drawn = {task.where(r.index) for step in range(plan.steps(2)) for r in plan.step(step)}
    val = task.val_set.examples
    assert drawn.isdisjoint({val.where(i) for i in range(len(val))})
    assert (len(drawn), len(val)) == (10, 2)


def test_validation_is_the_iou_of_the_model_s_choice(regions: Path, tmp_path: Path) -> None:
    task = task_of(regions, tmp_path)
    model = task.model.eval()

    def perfect(embedding: torch.Tensor, points: torch.Tensor, labels: torch.Tensor) -> object:
        """Knows the boxes by heart; candidate 2 is right and said to be."""
        prompts = len(points)
        logits = torch.full((prompts, 4, 64, 64), -5.0)
        x0, y0, x1, y1 = (points[:, :2].reshape(prompts, 4) / 16).round().int().T
        for p in range(prompts):
            logits[p, 2, y0[p] : y1[p], x0[p] : x1[p]] = 5.0
        return logits, torch.tensor([[9.0, 0.1, 0.9, 0.2]]).expand(prompts, -1)

    model.decoder.forward = perfect  # type: ignore[assignment, union-attr]
    from evit_cli.train.distributed import Group
    from evit_cli.types import NoProgress

    task.part = task.part.model_copy(update={"val_clicks": ()})
    found = task.evaluate(model, Group(0, 1, torch.device("cpu")), NoProgress()).values
    expected = []
    for index in range(3):
        one = framed(task.val_set, index, 64)
        for mask in one.masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            expected.append(mask.sum() / box)  # the box filled
    assert found["box_iou"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_the_backbone_of_a_segmenter_is_taken(tmp_path: Path) -> None:
    source = write_model(tmp_path / "seg.safetensors", "seg-b0-cityscapes", 3)
    document = changed(SAM, {"model": {"variant": "sam-b0", "init": str(source)}})
    part = load_recipe(write_recipe(tmp_path / "r.yaml", document)).model
    started = start_model(part, get_variant("sam-b0"))
    theirs = load_model(None, weights=source).model.state_dict()
    ours = started.model.state_dict()
    inside = "encoder.backbone."
    taken = [name for name in ours if name.startswith(inside)]
    assert taken
    assert not set(taken) & set(started.fresh)
    for name in taken:
        assert torch.equal(ours[name], theirs[name.removeprefix("encoder.")])
    with pytest.raises(EvitError, match="another backbone than sam-tiny"):
        start_model(part, TINY)


def test_a_fresh_decoder_looks_where_the_prompt_is(tmp_path: Path) -> None:
    part = load_recipe(write_recipe(tmp_path / "r.yaml", SAM)).model
    torch.manual_seed(0)
    for _ in range(3):
        model = start_model(part, get_variant("sam-b0")).model
        places = model.decoder.prompts.places  # type: ignore[union-attr]
        attention = model.decoder.transformer.layers[0].to_pixels  # type: ignore[union-attr]
        with torch.no_grad():
            token = places(torch.tensor([[[0.25, 0.75]]]))
            pixels = places.of_grid().flatten(2).transpose(1, 2)
            scores = attention.query(token) @ attention.key(pixels).transpose(1, 2)
        y, x = divmod(int(scores.argmax()), 64)
        assert max(abs(x - 15.5), abs(y - 47.5)) < 2


def test_a_fresh_decoder_with_drawn_prompts_answers_with_the_box(tmp_path: Path) -> None:
    part = load_recipe(write_recipe(tmp_path / "r.yaml", SAM)).model
    torch.manual_seed(0)
    decoder = start_model(part, get_variant("sam-b0")).model.decoder  # type: ignore[union-attr]
    points = torch.tensor([[[256.0, 128.0], [768.0, 896.0]]])
    labels = torch.tensor([[UPPER_LEFT, LOWER_RIGHT]], dtype=torch.float32)
    with torch.no_grad():
        masks = decoder(torch.randn(1, 128, 64, 64), points, labels)[0][0] > 0
    box = torch.zeros(256, 256, dtype=torch.bool)
    box[32:224, 64:192] = True
    for mask in masks:
        assert (mask & box).sum() / (mask | box).sum() > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sam.sides": [100]}, "100, which is no multiple of 32"),
        ({"sam.sets": []}, "name no set of masks"),
        ({"sam.val": None}, "name no set of masks"),
        ({"data.name": "folders"}, "does not learn from data 'folders'"),
        ({"data.name": "images"}, "or from 'images' and a teacher"),
        ({"distill": {"teacher": "sam-l0"}}, "or from 'images' and a teacher"),
        ({"model.classes": ["a"]}, "no model.classes"),
        ({"train.mesa_ratio": 1.0, "train.ema": 0.9}, "no mesa"),
        ({"sam.multimask": "all"}, "sam.multimask"),
    ],
)
def test_recipes_that_cannot_be(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=message):
        load_recipe(write_recipe(tmp_path / "r.yaml", changed(SAM, changes)))


def test_another_task_s_model_is_refused(regions: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", SAM, model__variant="seg-b0-cityscapes")
    done = run_here(recipe, regions, tmp_path / "run")
    assert done.exit_code == 1
    assert "is not for sam" in done.output


def test_tiny_is_tiny() -> None:
    assert sum(p.numel() for p in tiny_model().parameters()) < 100_000
