"""The predictor: what the decoder is asked, and what comes back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from evit_cli.errors import EvitError
from evit_cli.inference.sam_frame import frame_hw
from evit_cli.inference.sam_predictor import Prompts, SamPredictor
from evit_cli.runtime.sam import open_sam
from tests.helpers.sam_sessions import LOGIT, SCORES, colour_session

RED, BLUE, GREY = (220, 20, 20), (20, 20, 220), (128, 128, 128)


def picture(height: int = 256, width: int = 192) -> np.ndarray:
    """Grey, with a red and a blue rectangle."""
    image = np.full((height, width, 3), GREY, np.uint8)
    image[height // 8 : height // 2, width // 8 : width // 2] = RED
    image[height // 2 :, width // 2 :] = BLUE
    return image


@pytest.fixture
def predictor() -> SamPredictor:
    made = SamPredictor(colour_session())
    made.set_image(picture())
    return made


def asked(predictor: SamPredictor) -> dict[str, Any]:
    return predictor.session.decoder.seen[-1]  # type: ignore[attr-defined]


def test_a_point(predictor: SamPredictor) -> None:
    found = predictor.predict(np.array([[60, 60]]), np.array([1]))
    assert found.masks.shape == (3, 256, 192) and found.masks.dtype == np.bool_
    assert found.iou.tolist() == pytest.approx([SCORES[1], SCORES[2], 0])
    assert found.low_res.shape == (3, 256, 256) and found.low_res.dtype == np.float32
    truth = np.all(picture() == RED, axis=2)
    assert (found.masks[1] == truth).mean() > 0.99 and not found.masks[2].any()
    # The padding point stands for the box that is not there.
    assert asked(predictor)["points_xy"].tolist() == [[[240, 240], [0, 0]]]
    assert asked(predictor)["labels"].tolist() == [[1, -1]]
    assert asked(predictor)["has_mask"].tolist() == [0]


def test_one_answer_is_the_first_token(predictor: SamPredictor) -> None:
    found = predictor.predict(np.array([[60, 60]]), np.array([1]), multimask=False)
    assert found.masks.shape == (1, 256, 192)
    assert found.iou.tolist() == pytest.approx([SCORES[0]])
    assert (found.low_res[0].max(), found.low_res[0].min()) == (LOGIT, -LOGIT)


def test_a_box_has_no_padding_point(predictor: SamPredictor) -> None:
    predictor.predict(box_xyxy=np.array([10, 20, 100, 140]))
    assert asked(predictor)["points_xy"].tolist() == [[[40, 80], [400, 560]]]
    assert asked(predictor)["labels"].tolist() == [[2, 3]]


def test_points_come_before_the_box(predictor: SamPredictor) -> None:
    predictor.predict(
        np.array([[60, 60], [5, 5]]), np.array([1, 0]), box_xyxy=np.array([10, 20, 100, 140])
    )
    assert asked(predictor)["labels"].tolist() == [[1, 0, 2, 3]]


def test_a_mask_goes_in_as_it_came_out(predictor: SamPredictor) -> None:
    first = predictor.predict(np.array([[60, 60]]), np.array([1]))
    predictor.predict(np.array([[60, 60]]), np.array([1]), mask_input=first.low_res[1])
    assert (asked(predictor)["mask_input"][0, 0] == first.low_res[1]).all()
    assert asked(predictor)["has_mask"].tolist() == [1]


@pytest.mark.parametrize("count", [1, 3, 70])
def test_a_batch_is_its_prompts_one_by_one(predictor: SamPredictor, count: int) -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (192, 256), (count, 2, 2))
    labels = np.tile([1, 0], (count, 1))
    batch = predictor.predict_batch(Prompts(points, labels))
    assert batch.masks.shape == (count, 3, 256, 192) and batch.iou.shape == (count, 3)
    for n in {0, count // 2, count - 1}:
        one = predictor.predict(points[n], labels[n])
        assert (one.masks == batch.masks[n]).all() and (one.iou == batch.iou[n]).all()
        assert (one.low_res == batch.low_res[n]).all()


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ({}, "needs a point or a box"),
        ({"points_xy": np.zeros((1, 2))}, "belong together"),
        ({"labels": np.ones(1)}, "needs a point or a box"),
        ({"points_xy": np.zeros((2, 3)), "labels": np.ones(2)}, r"\(prompts, points, 2\)"),
        ({"points_xy": np.zeros((0, 2)), "labels": np.ones(0)}, r"\(prompts, points, 2\)"),
        ({"points_xy": np.zeros((2, 2)), "labels": np.ones(3)}, "labels of shape"),
        ({"points_xy": np.zeros((1, 2)), "labels": np.array([2])}, "a label is"),
        ({"points_xy": np.array([[500, 10]]), "labels": np.ones(1)}, "192 wide and 256 high"),
        ({"points_xy": np.array([[5, -1]]), "labels": np.ones(1)}, "the point 5,-1 is outside"),
        ({"points_xy": np.array([[5, np.nan]]), "labels": np.ones(1)}, "not finite"),
        ({"box_xyxy": np.zeros(3)}, r"boxes must be \(prompts, 4\)"),
        ({"box_xyxy": np.array([50, 50, 10, 90])}, "reversed"),
        ({"box_xyxy": np.array([200, 10, 300, 90])}, "outside of the image"),
        ({"box_xyxy": np.array([0, 0, 9, 9]), "mask_input": np.zeros((9, 9))}, "256, 256"),
    ],
)
def test_prompts_that_are_none(predictor: SamPredictor, prompt: Any, words: str) -> None:
    points, labels = prompt.pop("points_xy", None), prompt.pop("labels", None)
    with pytest.raises(ValueError, match=words):
        predictor.predict(points, labels, **prompt)


def test_different_numbers_of_prompts() -> None:
    with pytest.raises(ValueError, match=r"different numbers of prompts: \[2, 3\]"):
        Prompts(np.zeros((2, 1, 2)), np.ones((2, 1)), np.zeros((3, 4)))


def test_without_an_image() -> None:
    with pytest.raises(ValueError, match="set_image"):
        SamPredictor(colour_session()).predict(np.zeros((1, 2)), np.ones(1))


def test_an_embedding_is_taken_again(predictor: SamPredictor) -> None:
    other = SamPredictor(colour_session())
    other.set_embedding(predictor.embedding)
    ours = predictor.predict(np.array([[60, 60]]), np.array([1]))
    theirs = other.predict(np.array([[60, 60]]), np.array([1]))
    assert (ours.masks == theirs.masks).all()
    assert other.session.encoder.seen == []  # type: ignore[attr-defined]
    foreign = SamPredictor(colour_session("another"))
    with pytest.raises(ValueError, match="not by colour another"):
        foreign.set_embedding(predictor.embedding)


def test_numbers_that_are_not_finite(predictor: SamPredictor) -> None:
    predictor.embedding.values[:] = np.nan
    predictor.session.decoder.answer = lambda inputs: {  # type: ignore[attr-defined]
        "masks": np.full((1, 4, 256, 256), np.nan, np.float32),
        "iou": np.ones((1, 4), np.float32),
    }
    with pytest.raises(EvitError, match="gave NaN"):
        predictor.predict(np.array([[60, 60]]), np.array([1]))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """The small model, untrained: the file, and the module itself."""
    from safetensors.torch import save_file

    from evit_cli.models.build import build_model
    from evit_cli.models.variants import get_variant

    torch.manual_seed(0)
    model = build_model(get_variant("sam-b0")).eval()
    path = tmp_path_factory.mktemp("weights") / "sam-b0.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, str(path))
    return path, model


def test_a_real_model_gets_the_published_preprocessing(weights: tuple[Path, Any]) -> None:
    """Against the rules written out in PyTorch: antialiased resize, normalise, pad with zeros."""
    path, model = weights
    predictor = SamPredictor(open_sam(None, weights=path))
    image = np.random.default_rng(1).integers(0, 256, (150, 201, 3), dtype=np.uint8)
    image[30:90, 40:120] //= 3
    predictor.set_image(image)
    side = predictor.session.input_side
    new_hw = frame_hw((150, 201), side)
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()[None]
    resized = F.interpolate(pixels, new_hw, mode="bilinear", antialias=True).round()
    square = F.pad((resized - mean) / std, (0, side - new_hw[1], 0, side - new_hw[0]))
    points = torch.tensor([[[50.0, 60], [0, 0]]]) * torch.tensor([1024 / 201, 764 / 150])
    labels = torch.tensor([[1.0, -1]])
    with torch.no_grad():
        embedding = model.encoder(square)
        masks, iou = model.decoder(
            embedding, points, labels, torch.zeros(1, 1, 256, 256), torch.zeros(1)
        )
    scale = embedding.std().item()
    assert np.abs(predictor.embedding.values - embedding.numpy()).max() < 0.05 * scale
    found = predictor.predict(np.array([[50, 60]]), np.array([1]))
    np.testing.assert_allclose(found.iou, iou[0, 1:].numpy(), atol=0.01)
    assert np.abs(found.low_res - masks[0, 1:].numpy()).max() < 0.05 * masks.std().item()
    assert found.masks.shape == (3, 150, 201)
