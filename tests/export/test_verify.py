"""Verdicts on stand-ins whose difference is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from evit_cli.errors import EvitError
from evit_cli.export.verify import (
    BARS,
    MIOU_BAR,
    TIE,
    TOP1_BARS,
    Verdict,
    Verification,
    verify,
    with_labels,
)
from evit_cli.types import EXPORTED, ImageSize, Precision, Task
from tests.helpers.exports import random_images
from tests.helpers.verdict_sessions import SIDE, FixedSession

Array = npt.NDArray[Any]
IMAGES = list(random_images(60, 90, count=3))


def judged(change: Callable[[Array], Array], **kind: Any) -> Verification:
    return verify(FixedSession(change, **kind), FixedSession(**kind), IMAGES, images_sha256="5e")


def swapped(share: float) -> Callable[[Array], Array]:
    """Another class wins at the first `share` of the places."""

    def change(logits: Array) -> Array:
        flat = logits.reshape(*logits.shape[:2], -1).copy()
        count = round(share * flat.shape[2])
        flat[:, :, :count] = np.roll(flat[:, :, :count], 1, axis=1)
        return flat.reshape(logits.shape)

    return change


def noisy(logits: Array) -> Array:
    return logits + np.random.default_rng(0).normal(0, 0.01, logits.shape).astype(np.float32)


@pytest.mark.parametrize("task", [Task.SEGMENT, Task.CLASSIFY])
def test_equal_outputs_pass(task: Task) -> None:
    found = judged(lambda logits: logits.copy(), task=task)
    assert found.verdict is Verdict.PASS
    assert (found.agreement, found.decided) == (1, 1)
    assert found.cosine == pytest.approx(1)
    assert (found.max_abs, found.sqnr_db) == (0, 200)
    assert (found.images, found.images_sha256, found.runtime) == (3, "5e", "onnx")
    assert ("pixels" if task is Task.SEGMENT else "images") in found.reason


def test_slight_noise_passes_and_is_measured() -> None:
    found = judged(noisy)
    assert found.verdict is Verdict.PASS
    source = FixedSession().run({"image": np.zeros((1, *SIDE, 3), np.uint8)})["logits"]
    noise = noisy(source) - source
    ratio = float((source.astype(float) ** 2).sum() / (noise.astype(float) ** 2).sum())
    assert found.sqnr_db == pytest.approx(10 * math.log10(ratio), abs=0.01)
    assert found.max_abs == pytest.approx(np.abs(noise).max() / source.std(), rel=1e-3)
    assert 0.999 < found.cosine < 1


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", [Task.SEGMENT, Task.CLASSIFY])
def test_what_is_no_number_fails(value: float, task: Task) -> None:
    def change(logits: Array) -> Array:
        spoilt = logits.copy()
        spoilt.flat[-1] = value
        return spoilt

    found = judged(change, task=task)
    assert found.verdict is Verdict.FAIL
    assert found.reason == "the artifact gives NaN or infinity"
    assert (found.agreement, found.decided, found.cosine, found.sqnr_db) == (0, 0, 0, 0)
    text = json.dumps(found.document(), allow_nan=False)
    assert json.loads(text)["verdict"] == "FAIL"
    assert json.loads(text)["max_abs"] is None


@pytest.mark.parametrize("precision", EXPORTED)
def test_swapped_classes_are_judged_by_precision(precision: Precision) -> None:
    bar = BARS[precision]
    places = (SIDE.height // 8) * (SIDE.width // 8)
    for kept, verdict in ((bar.good, Verdict.PASS), (bar.least, Verdict.WARN), (0, Verdict.FAIL)):
        wrong = math.floor(places * (1 - kept)) if kept else places
        found = judged(swapped(wrong / places), precision=precision)
        share = 1 - wrong / places
        assert found.decided == pytest.approx(share)
        expected = Verdict.PASS if share >= bar.good else verdict
        assert found.verdict is expected
        assert f"{found.decided:.3%}" in found.reason


@pytest.mark.parametrize("precision", EXPORTED)
def test_a_classifier_that_changes_its_mind_fails(precision: Precision) -> None:
    assert TOP1_BARS[precision].least > 0
    found = judged(lambda logits: logits[:, ::-1], task=Task.CLASSIFY, precision=precision)
    assert found.verdict is Verdict.FAIL
    assert found.agreement == found.decided == 0


@pytest.mark.parametrize(
    ("margin", "verdict"),
    # Of two classes with logits 0 and m among four, the better one leads by (e^m - 1) / (e^m + 3).
    [(0.1, Verdict.PASS), (0.3, Verdict.FAIL)],
)
@pytest.mark.parametrize("task", [Task.SEGMENT, Task.CLASSIFY])
def test_near_ties_may_turn(margin: float, verdict: Verdict, task: Task) -> None:
    lead = math.expm1(margin) / (math.exp(margin) + 3)
    assert (lead < TIE) == (verdict is Verdict.PASS)
    found = judged(lambda logits: np.roll(logits, 1, axis=1), task=task, margin=margin)
    assert found.agreement < 0.3
    assert found.decided == (1 if lead < TIE else 0)
    assert found.verdict is verdict


def test_another_shape_is_an_error() -> None:
    with pytest.raises(EvitError, match=r"output is \(1, 4, 8, 11\), the source's \(1, 4, 8, 12\)"):
        judged(lambda logits: logits[..., :-1])


def test_no_image_is_an_error() -> None:
    with pytest.raises(EvitError, match="no image"):
        verify(FixedSession(), FixedSession(), [])


def test_both_get_the_same_input_as_evit_segment_would_place_it() -> None:
    artifact, source = FixedSession(), FixedSession()
    verify(artifact, source, IMAGES)
    assert len(artifact.seen) == len(source.seen) == 3
    for left, right in zip(artifact.seen, source.seen, strict=True):
        assert left.shape == (1, *SIDE, 3)
        assert np.array_equal(left, right)


def test_free_sizes_are_compared_in_turn_at_those_given() -> None:
    artifact = FixedSession(free=True)
    sizes = (ImageSize(64, 64), ImageSize(96, 160))
    assert verify(artifact, FixedSession(), IMAGES, sizes_hw=sizes).verdict is Verdict.PASS
    assert [image.shape[1:3] for image in artifact.seen] == [(64, 64), (96, 160), (64, 64)]
    verify(artifact, FixedSession(), IMAGES[:1])
    assert artifact.seen[-1].shape == (1, 512, 1024, 3)


def test_progress_is_closed_whatever_happens() -> None:
    events: list[str] = []

    class Log:
        def start(self, total: int | None, unit: str) -> None:
            events.append(f"start {unit}")

        def advance(self, done: int, **fields: object) -> None:
            events.append("step")

        def close(self) -> None:
            events.append("close")

    verify(FixedSession(), FixedSession(), IMAGES, progress=Log())
    assert events == ["start image", "step", "step", "step", "close"]
    events.clear()
    with pytest.raises(EvitError):
        verify(FixedSession(lambda x: x[:, :2]), FixedSession(), IMAGES, progress=Log())
    assert events == ["start image", "close"]


@pytest.mark.parametrize(
    ("loss", "verdict"),
    [
        (-0.1, Verdict.PASS),
        (0.0, Verdict.PASS),
        (MIOU_BAR.good * 0.9, Verdict.PASS),
        (MIOU_BAR.good * 1.1, Verdict.WARN),
        (MIOU_BAR.least * 0.9, Verdict.WARN),
        (MIOU_BAR.least * 1.1, Verdict.FAIL),
    ],
)
def test_a_loss_of_mean_iou_is_judged_too(loss: float, verdict: Verdict) -> None:
    found = with_labels(judged(noisy), 0.7 - loss, 0.7)
    assert found.verdict is verdict
    assert (found.mean_iou, found.source_mean_iou) == (0.7 - loss, 0.7)
    assert ("mean IoU falls from 0.7000 to" in found.reason) == (verdict is not Verdict.PASS)


def test_labels_do_not_excuse_other_pixels() -> None:
    before = judged(swapped(1))
    after = with_labels(before, 0.8, 0.7)
    assert after.verdict is Verdict.FAIL
    assert after.reason == before.reason
