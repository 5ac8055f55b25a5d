"""Everything mode as a whole, over a session that needs no model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evit_cli.data.rle import encode_rle
from evit_cli.errors import EvitError
from evit_cli.inference.mask_generator import GeneratorOptions, MaskGenerator, StageCounts
from tests.inference.everything import plain
from tests.inference.everything.fakes import FakeSamSession, picture

BASE = GeneratorOptions(points_per_side=8, points_per_batch=10, min_stability=0.8)
CASES = {
    "whole image": (BASE, (96, 128)),
    "sides of the frame": (replace(BASE, points_per_side=4), (1024, 768)),
    "no filter": (
        replace(BASE, min_predicted_iou=0, min_stability=0, points_per_side=5), (128, 64)
    ),
    "strict": (replace(BASE, min_predicted_iou=0.97, max_box_iou=0.3), (96, 128)),
    "wide offset": (replace(BASE, stability_offset=2.5, min_stability=0.5), (96, 128)),
    "one layer of crops": (
        replace(BASE, crop_layers=1, crop_points_divisor=2, max_crop_box_iou=0.5), (96, 128)
    ),
    "crops that do not overlap": (
        replace(BASE, crop_layers=1, crop_overlap_share=0, points_per_side=6), (128, 96)
    ),
    "clean-up": (replace(BASE, min_region_px=25), (64, 96)),
    "crops and clean-up": (
        replace(
            BASE, crop_layers=1, points_per_side=4, min_region_px=12, max_crop_box_iou=0.3
        ),
        (96, 64),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_finds_what_plain_loops_find(name: str) -> None:
    options, hw = CASES[name]
    image = picture(*hw)
    expected = plain.everything(FakeSamSession(), image, options)
    result = MaskGenerator(FakeSamSession(), options).generate(image)
    assert len(result.masks) == len(expected) == result.counts.kept > 1
    for found, one in zip(result.masks, expected, strict=True):
        assert (found.mask == one.mask).all()
        assert found.rle == encode_rle(one.mask)
        assert list(found.box_xyxy) == one.box
        assert found.area == one.mask.sum()
        assert found.predicted_iou == one.iou
        assert found.stability == pytest.approx(one.stability, rel=1e-6, nan_ok=True)
        assert found.point_xy == pytest.approx(one.point, rel=1e-12)
        assert list(found.crop_box_xyxy) == one.crop


@pytest.mark.slow
def test_it_finds_with_a_model_what_plain_loops_find() -> None:
    pytest.importorskip("torch")
    from evit_cli.runtime.sam import SamSession
    from evit_cli.runtime.torch_sam import torch_halves
    from evit_cli.weights.untrained import untrained_model

    whole: Any
    whole, info = untrained_model("sam-b0")
    session: Any = SamSession(*torch_halves(whole, info, device="cpu"))
    # Masks of random weights are noise. One point at a time, so that sums have one order.
    options = GeneratorOptions(
        points_per_side=2, points_per_batch=1, min_predicted_iou=0, min_stability=0, max_box_iou=1
    )
    image = picture(128, 64)
    expected = plain.everything(session, image, options)
    result = MaskGenerator(session, options).generate(image)
    assert len(result.masks) == len(expected) > 6
    for found, one in zip(result.masks, expected, strict=True):
        assert (found.mask == one.mask).all()
        assert (found.predicted_iou, list(found.box_xyxy)) == (one.iou, one.box)


def test_the_cases_reach_every_stage() -> None:
    """Else the comparison with plain loops would say nothing about it."""
    options, hw = CASES["crops and clean-up"]
    counts = MaskGenerator(FakeSamSession(), options).generate(picture(*hw)).counts
    stages = list(vars(counts).values())
    assert counts.points == 5 * 16
    assert counts.predicted == 3 * counts.points
    assert all(more > fewer for more, fewer in itertools.pairwise(stages[1:-1]))
    assert counts.across_crops >= counts.kept > 0


def test_the_clean_up_changes_masks() -> None:
    options, hw = CASES["clean-up"]
    image = picture(*hw)
    before = MaskGenerator(FakeSamSession(), replace(options, min_region_px=0)).generate(image)
    after = MaskGenerator(FakeSamSession(), options).generate(image)
    assert {one.rle["counts"] for one in after.masks} - {one.rle["counts"] for one in before.masks}


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_batches_change_nothing_but_their_size(batch: int) -> None:
    image = picture(96, 128)
    session = FakeSamSession()
    found = MaskGenerator(session, replace(BASE, points_per_batch=batch)).generate(image)
    assert found == MaskGenerator(FakeSamSession(), BASE).generate(image)
    assert sum(session.batches) == 64
    assert max(session.batches) == min(batch, 64)


def test_each_crop_is_encoded_once() -> None:
    session = FakeSamSession()
    MaskGenerator(session, replace(BASE, crop_layers=2, points_per_side=2)).generate(
        picture(64, 64)
    )
    assert session.encoded == 1 + 4 + 16


class _Steps:
    def __init__(self) -> None:
        self.total: int | None = None
        self.done = 0
        self.closed = False

    def start(self, total: int | None, unit: str) -> None:
        self.total = total
        assert unit == "point"

    def advance(self, done: int, **fields: object) -> None:
        self.done += done

    def close(self) -> None:
        self.closed = True


def test_progress_counts_points() -> None:
    steps = _Steps()
    options = replace(BASE, crop_layers=1, crop_points_divisor=2)
    MaskGenerator(FakeSamSession(), options).generate(picture(96, 128), progress=steps)
    assert (steps.total, steps.done, steps.closed) == (64 + 4 * 16, 64 + 4 * 16, True)


class _Altered(FakeSamSession):
    """Answers with something changed."""

    def __init__(self, **values: float) -> None:
        super().__init__()
        self.values = values

    def decode(self, *inputs: Any) -> tuple[np.ndarray, np.ndarray]:
        masks, iou = super().decode(*inputs)
        if "iou" in self.values:
            iou[:] = self.values["iou"]
        if "logit" in self.values:
            masks[:, 1:] = self.values["logit"]
        if "one" in self.values:
            masks[0, 1, 3, 3] = self.values["one"]
            iou[0, 1] = 1
        return masks, iou


@pytest.mark.parametrize(
    ("session", "stage"),
    [
        (_Altered(iou=0.5), "rated"),
        (_Altered(logit=0.5), "stable"),
        (_Altered(logit=-5.0), "stable"),
        (FakeSamSession(), ""),
    ],
)
def test_the_stage_that_left_nothing_is_named(session: FakeSamSession, stage: str) -> None:
    result = MaskGenerator(session, BASE).generate(picture(96, 128))
    assert result.counts.emptied_by() == stage
    assert bool(result.masks) == (not stage)


def test_no_point_counts_as_nothing_done() -> None:
    assert StageCounts().emptied_by() == "points"


def test_a_mask_that_fills_the_image() -> None:
    result = MaskGenerator(_Altered(logit=5.0), BASE).generate(picture(96, 128))
    (found,) = result.masks
    assert found.mask.all()
    assert found.box_xyxy == (0, 0, 127, 95)


def test_without_filters_a_mask_may_be_empty() -> None:
    options = replace(BASE, min_stability=0, min_predicted_iou=0, min_region_px=10)
    found = MaskGenerator(_Altered(logit=-5.0), options).generate(picture(96, 128)).masks
    assert not any(one.mask.any() or one.area for one in found)
    assert {one.box_xyxy for one in found} == {(0, 0, 0, 0)}


@pytest.mark.parametrize("values", [{"iou": np.nan}, {"one": np.nan}, {"one": np.inf}])
def test_a_model_that_overflows_is_an_error(values: dict[str, float]) -> None:
    steps = _Steps()
    with pytest.raises(EvitError, match="fake-sam gave NaN or infinity on torch"):
        MaskGenerator(_Altered(**values), BASE).generate(picture(96, 128), progress=steps)
    assert steps.closed


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="an image must be"):
        MaskGenerator(FakeSamSession(), BASE).generate(np.zeros(shape, np.uint8))


@contextmanager
def _largest_allocation() -> Iterator[list[int]]:
    import tracemalloc

    peak: list[int] = []
    tracemalloc.start()
    try:
        yield peak
    finally:
        peak.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def test_masks_are_not_kept_at_full_size() -> None:
    """100 and more masks of 4 megapixels would take 400 MB as bool, and 1.6 GB as logits."""
    options = replace(BASE, min_predicted_iou=0, min_stability=0, max_box_iou=1, points_per_side=6)
    with _largest_allocation() as peak:
        result = MaskGenerator(FakeSamSession(), options).generate(picture(2048, 2048))
    assert result.counts.whole > 100
    assert peak[0] < 150e6
