from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from evit_cli.errors import EvitError
from evit_cli.inference.classifier import ImageClassifier
from evit_cli.inference.segmenter import Segmenter, class_shares
from evit_cli.models.classes import class_set
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task
from tests.helpers.sessions import GreySession


def steps_image(height: int = 64, width: int = 128) -> np.ndarray:
    """Four vertical bands of rising brightness."""
    bands = np.repeat(np.array([20, 90, 160, 230], np.uint8), width // 4)
    return np.broadcast_to(bands[None, :, None], (height, width, 3)).copy()


def test_bands_get_their_classes_at_the_image_size() -> None:
    result = Segmenter(GreySession())(steps_image())
    assert result.class_map.shape == (64, 128)
    centres = result.class_map[32, [16, 48, 80, 112]]
    assert centres.tolist() == [0, 1, 2, 3]
    assert result.shares == pytest.approx([0.25] * 4, abs=0.03)
    assert result.shares.sum() == pytest.approx(1)
    assert result.model_ms >= 0


@pytest.mark.parametrize("size_hw", [None, ImageSize(40, 40), ImageSize(200, 333)])
@pytest.mark.parametrize("shape", [(50, 70), (64, 128), (33, 500), (301, 20), (1, 1)])
def test_any_shape_comes_back_at_its_own_size(
    shape: tuple[int, int], size_hw: ImageSize | None
) -> None:
    image = np.full((*shape, 3), 200, np.uint8)
    result = Segmenter(GreySession(), size_hw=size_hw)(image)
    assert result.class_map.shape == shape
    assert (result.class_map == 3).all()


def test_borders_stay_where_they_are_when_the_input_is_resized_and_padded() -> None:
    image = np.zeros((90, 150, 3), np.uint8)
    image[:, 100:] = 255
    result = Segmenter(GreySession(2), size_hw=ImageSize(300, 500))(image)
    assert result.input_hw == (320, 512)
    column = (result.class_map == 1).mean(axis=0)
    assert (column[:97] == 0).all()
    assert (column[103:] == 1).all()


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_an_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        Segmenter(GreySession())(image)


class BrokenSession(GreySession):
    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        logits = super().run(inputs)["logits"]
        logits[0, 0, 0, 0] = np.nan
        return {"logits": logits}


def test_nan_is_an_error_not_a_class() -> None:
    with pytest.raises(EvitError, match="NaN"):
        Segmenter(BrokenSession())(steps_image())


@pytest.mark.parametrize(("dtype", "count"), [(np.uint8, 19), (np.uint16, 300)])
def test_shares_count_pixels(dtype: Any, count: int) -> None:
    labels = np.random.default_rng(0).integers(0, count, (40, 50)).astype(dtype)
    expected = [(labels == i).mean() for i in range(count)]
    assert class_shares(labels, count) == pytest.approx(expected)


class FixedClassifier(GreySession):
    def __init__(self, logits: np.ndarray) -> None:
        super().__init__()
        preprocess = Preprocess(ImageSize(32, 32))
        self.info = ModelInfo("c", Task.CLASSIFY, preprocess, classes=class_set("imagenet"))
        self._logits = logits

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        assert inputs["image"].shape == (1, 32, 32, 3)
        return {"logits": self._logits[None]}


def test_classifier_names_the_best_first() -> None:
    logits = np.full(1000, -10.0, np.float32)
    logits[[7, 281]] = [2.0, 5.0]
    result = ImageClassifier(FixedClassifier(logits))(steps_image(), topk=2)
    assert [p.index for p in result.top] == [281, 7]
    assert result.top[0].name == "tabby"
    assert result.top[0].probability == pytest.approx(1 / (1 + np.exp(-3)), rel=1e-3)
    with pytest.raises(ValueError, match="topk"):
        ImageClassifier(FixedClassifier(logits))(steps_image(), topk=0)


def test_models_for_other_tasks_are_refused() -> None:
    with pytest.raises(EvitError, match="segmentation"):
        Segmenter(FixedClassifier(np.zeros(1000, np.float32)))
    with pytest.raises(EvitError, match="classifier"):
        ImageClassifier(GreySession())
