"""Phase 1 of the SAM training: an encoder learns a teacher's embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from evit_cli.config.recipe import load_recipe
from evit_cli.data.loader import Batch, stack
from evit_cli.data.sampling import Request
from evit_cli.models.sam.decoder import SamDecoder
from evit_cli.models.specs import SamDecoderSpec
from evit_cli.train.distributed import Group
from evit_cli.train.sam import distill
from evit_cli.train.sam.distill import EncoderTask
from evit_cli.train.sam.teacher import EncoderTeacher, take_decoder, teacher_of
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task
from evit_cli.weights.checkpoint import save_weights
from evit_cli.weights.load import load_model
from tests.helpers.mask_sets import SAM, TINY, add_tiny, shapes, tiny_model, write_regions
from tests.helpers.trainings import (
    EVERY_STEP,
    assert_same_run,
    changed,
    checkpoint,
    evaluations,
    run_here,
    write_recipe,
)

ENCODER = changed(
    SAM,
    {
        "name": "sam/tiny-encoder",
        "data": {"name": "images", "workers": 0, "val_share": 0.3},
        "sam": {"sides": [64]},
        "distill": {"view": "cached"},
        "train.steps": 3,
    },
)
CPU = Group(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    add_tiny(monkeypatch)
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_regions(tmp_path_factory.mktemp("images"), 6) / "images"


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with SAM's own architecture, small, with random weights."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SamConfig(
        vision_config=transformers.SamVisionConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, mlp_dim=32, image_size=128,
            patch_size=16, output_channels=16, window_size=4, global_attn_indexes=[1],
            num_pos_feats=8,
        ),
        prompt_encoder_config=transformers.SamPromptEncoderConfig(
            hidden_size=16, image_size=128, mask_input_channels=16
        ),
        mask_decoder_config=transformers.SamMaskDecoderConfig(
            hidden_size=16, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=16
        ),
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.SamModel(config)
        for parameter in model.parameters():  # they start at almost zero
            torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("vit")
    model.save_pretrained(folder)
    return folder


def write_tiny(path: Path, seed: int) -> Path:
    """A SAM model of evit's."""
    info = ModelInfo("teacher", Task.SAM, Preprocess(ImageSize(512, 512)))
    save_weights(path, tiny_model(seed).state_dict(), info, TINY)
    return path


def task_of(tmp_path: Path, data: Path, changes: dict[str, object]) -> EncoderTask:
    recipe = write_recipe(tmp_path / "r.yaml", changed(ENCODER, {**changes, "data.dir": str(data)}))
    return EncoderTask(load_recipe(recipe), group=CPU, cache=tmp_path / "cache")


def test_our_decoder_answers_as_sam_s_own_with_its_weights() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    vision = transformers.SamVisionConfig(hidden_size=16, num_hidden_layers=1, mlp_dim=16)
    theirs = transformers.SamModel(transformers.SamConfig(vision_config=vision)).eval()
    for parameter in theirs.parameters():  # random ones start at zero here and there
        torch.nn.init.normal_(parameter, std=0.05)
    teacher = teacher_of(theirs, torch.device("cpu"))
    model = torch.nn.Module()
    model.decoder = SamDecoder(SamDecoderSpec()).eval()
    assert take_decoder(model, teacher)  # type: ignore[arg-type]
    embedding = torch.randn(1, 256, 64, 64)
    points = torch.tensor([[[100.0, 200.0], [700.0, 30.0]], [[512.0, 512.0], [3.0, 1000.0]]])
    labels = torch.tensor([[1, 0], [1, 1]])
    with torch.no_grad():
        padded = torch.cat((points, torch.zeros(2, 1, 2)), 1)
        marks = torch.cat((labels.float(), -torch.ones(2, 1)), 1)
        masks, iou = model.decoder(embedding, padded, marks)
        for multimask, ours in ((True, masks[:, 1:]), (False, masks[:, :1])):
            expected = theirs(
                image_embeddings=embedding,
                input_points=points[None],
                input_labels=labels[None],
                multimask_output=multimask,
            )
            spread = float(expected.pred_masks.std())
            torch.testing.assert_close(ours, expected.pred_masks[0], rtol=0, atol=1e-3 * spread)
        torch.testing.assert_close(iou[:, :1], expected.iou_scores[0], rtol=0, atol=1e-4)


def test_an_encoder_learns_from_sam_s_own(images: Path, vit: Path, tmp_path: Path) -> None:
    changes = {"train.steps": 30, "train.eval_epochs": 1, "optimizer.lr": 1e-2}
    recipe = write_recipe(tmp_path / "r.yaml", changed(ENCODER, changes))
    out = tmp_path / "run"
    done = run_here(recipe, images, out, "--teacher", vit, "--json", command="distill")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    scores = [line["eval"] for line in evaluations(out)]
    assert set(scores[0]) == {"explained", "cosine"}
    assert max(score["explained"] for score in scores) == result["explained"] < 1
    assert result["explained"] > scores[0]["explained"] + 0.1
    assert scores[-1]["cosine"] > scores[0]["cosine"]
    loaded = load_model(None, weights=out / "best.safetensors")
    assert loaded.variant.name == "sam-tiny"
    network = checkpoint(out)["network"]
    assert network["adapter.weight"].shape == (16, 32, 1, 1)  # not in the weights
    assert not any("adapter" in name for name in loaded.model.state_dict())
    cached = out / "teacher" / "embeddings"
    assert {path.name for path in cached.iterdir()} == {"key.json", "00000.safetensors"}


def test_embeddings_are_the_teacher_s_and_are_kept(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = write_tiny(tmp_path / "t.safetensors", 5)
    whole_size = {"sam.sides": [], "distill.teacher": str(teacher)}
    task = task_of(tmp_path, images, whole_size)
    assert task.cached is not None
    sample = task.sample(Request(1, (0,), ImageSize(512, 512)))
    batch = Batch([], stack([sample]))
    x = torch.from_numpy(np.asarray(sample["image"]))[None].float() / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    x = x.permute(0, 3, 1, 2)
    height, width = batch.tensors["content"][0].tolist()
    x[:, :, height:] = 0
    x[:, :, :, width:] = 0
    with torch.no_grad():
        expected = tiny_model(5).eval().encoder(x)
    found = batch.tensors["embedding"].float()
    torch.testing.assert_close(found, expected, atol=2e-2, rtol=2e-3)  # float16

    asked: list[int] = []
    whole = EncoderTeacher.__call__

    def counted(self: EncoderTeacher, images: torch.Tensor, grid: int) -> torch.Tensor:
        asked.append(len(images))
        return whole(self, images, grid)

    monkeypatch.setattr(EncoderTeacher, "__call__", counted)
    task_of(tmp_path, images, whole_size)
    assert asked == []
    (tmp_path / "cache" / "embeddings" / "00000.safetensors").unlink()
    task_of(tmp_path, images, whole_size)
    assert len(asked) == 6
    other = write_tiny(tmp_path / "other.safetensors", 6)
    task_of(tmp_path, images, {**whole_size, "distill.teacher": str(other)})
    assert len(asked) == 12
    task_of(tmp_path, images, {"distill.teacher": str(other)})  # at another size
    assert len(asked) == 18


@pytest.mark.parametrize("view", ["cached", "online"])
def test_a_student_that_is_its_teacher_has_nothing_to_learn(
    view: str, images: Path, tmp_path: Path
) -> None:
    teacher = write_tiny(tmp_path / "t.safetensors", 5)
    changes: dict[str, object] = {
        "distill.teacher": str(teacher),
        "model.init": str(teacher),
        "distill.view": view,
    }
    changes["sam.sides"] = []
    task = task_of(tmp_path, images, changes)
    task.network.eval()
    requests = [Request(i, (i,), ImageSize(512, 512)) for i in range(2)]
    batch = Batch(requests, stack([task.sample(r) for r in requests]))
    from evit_cli.train.task import normalise
    from evit_cli.types import NoProgress

    x = normalise(batch.tensors["image"], task.info)
    x, batch = task.change(x, batch, np.random.default_rng(0))
    with torch.no_grad():
        found = task.loss(task.network(x), batch, images=x, average=None)
    assert float(found.total) < 1e-4
    score = task.evaluate(task.model.eval(), CPU, NoProgress()).values
    assert score["explained"] == pytest.approx(1, abs=1e-3)
    assert score["cosine"] == pytest.approx(1, abs=1e-3)


def test_only_the_online_teacher_sees_mirrored_images(images: Path, tmp_path: Path) -> None:
    teacher = write_tiny(tmp_path / "t.safetensors", 5)
    image, _ = shapes(0)
    seen = {}
    for view in ("cached", "online"):
        changes: dict[str, object] = {
            "distill.teacher": str(teacher),
            "distill.view": view,
            "sam.flip": 1.0,
        }
        changes["sam.sides"] = []
        task = task_of(tmp_path, images, changes)
        index = [Path(task.where(i)).name for i in range(len(task.photos))].index("00.png")
        seen[view] = task.sample(Request(index, (0,), ImageSize(512, 512)))
    content = seen["cached"]["content"]
    assert (content == seen["online"]["content"]).all()
    mirrored = np.asarray(seen["online"]["image"])[:384, :512]
    np.testing.assert_array_equal(mirrored[:, ::-1], np.asarray(seen["cached"]["image"])[:384])
    np.testing.assert_array_equal(seen["online"]["teacher_image"], seen["online"]["image"])
    assert image.shape[0] * 4 == 384


def test_the_decoder_comes_from_a_teacher_with_the_same(images: Path, tmp_path: Path) -> None:
    teacher = write_tiny(tmp_path / "t.safetensors", 5)
    task = task_of(tmp_path, images, {"distill.teacher": str(teacher)})
    assert task.took_decoder
    ours, theirs = task.model.state_dict(), tiny_model(5).state_dict()
    for name in theirs:
        if name.startswith("decoder."):
            assert torch.equal(ours[name], theirs[name])
    assert not any("decoder" in name for name in task.network.state_dict())


def test_a_decoder_of_another_size_is_left(images: Path, vit: Path, tmp_path: Path) -> None:
    assert not task_of(tmp_path, images, {"distill.teacher": str(vit)}).took_decoder


def test_resumed_is_uninterrupted(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = write_tiny(tmp_path / "t.safetensors", 5)
    changes = {
        **EVERY_STEP,
        "distill.teacher": str(teacher),
        "sam.color": {"brightness": 0.3},
        "train.ema": 0.9,
    }
    recipe = write_recipe(tmp_path / "r.yaml", changed(ENCODER, changes))
    whole = run_here(recipe, images, tmp_path / "whole", command="distill")
    assert whole.exit_code == 0, whole.output
    from evit_cli.train.loop import Trainer

    step = Trainer._train_step

    def stopped(self: Trainer, *args: object) -> bool:
        if self.step == 1:
            raise KeyboardInterrupt
        return step(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "_train_step", stopped)
    assert run_here(recipe, images, tmp_path / "parts", command="distill").exit_code == 130
    monkeypatch.setattr(Trainer, "_train_step", step)
    again = run_here(recipe, images, tmp_path / "parts", "--resume", "auto", command="distill")
    assert again.exit_code == 0, again.output
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ("seg-b0-street", "is no SAM model"),
        ("nowhere", "nowhere"),
    ],
)
def test_teachers_that_cannot_be(teacher: str, message: str, images: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "r.yaml", ENCODER)
    done = run_here(
        recipe, images, tmp_path / "run", "--teacher", teacher, "--offline", command="distill"
    )
    assert done.exit_code in (1, 2)
    assert message in done.output


def test_photographs_that_measure_are_not_learnt(images: Path) -> None:
    from evit_cli.train.unlabelled import Unlabelled

    extra = Unlabelled((Path("frame.png"),))
    photos = distill.open_photographs(images, extra, val_share=0.3)
    files = [photos.images.where(i) for i in range(len(photos))]
    train, val = files[: photos.count], files[photos.count :]
    assert "frame.png" in train
    assert val
    assert set(train).isdisjoint(val)
    assert len(files) == 7
