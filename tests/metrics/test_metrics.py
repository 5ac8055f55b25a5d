"""Our metrics against torchmetrics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.metrics.classification import TopK
from evit_cli.metrics.segmentation import Confusion

torchmetrics = pytest.importorskip("torchmetrics")


@settings(max_examples=30, deadline=None)
@given(classes=st.integers(2, 20), images=st.integers(1, 4), seed=st.integers(0, 1000))
def test_mean_iou_equals_torchmetrics(classes: int, images: int, seed: int) -> None:
    from torchmetrics.classification import MulticlassJaccardIndex

    rng = np.random.default_rng(seed)
    ours = Confusion(classes)
    theirs = MulticlassJaccardIndex(classes, average="none", ignore_index=-1)
    for _ in range(images):
        truth = rng.integers(-1, classes, (13, 17)).astype(np.int16)
        found = np.where(rng.random(truth.shape) < 0.6, np.maximum(truth, 0), 0)
        ours.update(truth, found)
        theirs.update(torch.from_numpy(found).long(), torch.from_numpy(truth).long())
    expected = theirs.compute().numpy()
    occurs = np.isfinite(ours.iou)
    assert ours.iou[occurs] == pytest.approx(expected[occurs], abs=1e-6)
    assert ours.mean_iou == pytest.approx(expected[occurs].mean(), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(classes=st.integers(5, 30), samples=st.integers(1, 60), seed=st.integers(0, 1000))
def test_top_k_equals_torchmetrics(classes: int, samples: int, seed: int) -> None:
    from torchmetrics.classification import MulticlassAccuracy

    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(samples, classes))
    truth = rng.integers(0, classes, samples)
    ours = TopK((1, 5))
    for row, target in zip(logits, truth, strict=True):
        ours.update(int(target), np.argsort(-row)[:5].tolist())
    for k in (1, 5):
        theirs = MulticlassAccuracy(classes, top_k=k, average="micro")
        expected = theirs(torch.from_numpy(logits), torch.from_numpy(truth))
        assert ours.accuracy(k) == pytest.approx(float(expected), abs=1e-6)


def test_nothing_seen_is_not_zero() -> None:
    assert np.isnan(Confusion(3).mean_iou)
    assert np.isnan(Confusion(3).pixel_accuracy)
    assert np.isnan(TopK().accuracy(1))


def test_wrong_shapes_and_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2,\).*\(3,\)"):
        Confusion(2).update(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(ValueError, match=r"0\.\.1"):
        Confusion(2).update(np.zeros(2, int), np.full(2, 7))
