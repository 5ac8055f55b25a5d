"""IoU of masks against counting pixel by pixel, and the bands of areas."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evit_cli.metrics.mask_iou import BANDS, BandedIou, band_of, mask_iou


def naive_iou(a: np.ndarray, b: np.ndarray) -> float:
    ours = {(y, x) for y, x in np.argwhere(a)}
    theirs = {(y, x) for y, x in np.argwhere(b)}
    return len(ours & theirs) / len(ours | theirs) if ours | theirs else 1.0


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    return draw(arrays(np.bool_, shape)), draw(arrays(np.bool_, shape))


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_equals_counting(two: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = two
    expected = [naive_iou(*one) for one in zip(a, b, strict=True)]
    assert mask_iou(a, b) == pytest.approx(expected)
    assert mask_iou(b, a) == pytest.approx(expected)


def test_one_pair_gives_one_number() -> None:
    a = np.zeros((4, 4), np.bool_)
    a[:2] = True
    assert float(mask_iou(a, a)) == 1.0
    assert float(mask_iou(a, ~a)) == 0.0
    assert float(mask_iou(a, np.ones_like(a))) == 0.5


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        mask_iou(np.zeros((2, 3), np.bool_), np.zeros((3, 2), np.bool_))


@pytest.mark.parametrize(
    ("area", "band"),
    [(1, "small"), (1023.9, "small"), (1024, "medium"), (9215.9, "medium"), (9216, "large"),
     (1e9, "large")],
)  # fmt: skip
def test_bands(area: float, band: str) -> None:
    assert BANDS[band_of(area)] == band


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 20_000)), min_size=1))
def test_means_are_those_of_the_objects(found: list[tuple[float, float]]) -> None:
    score = BandedIou()
    for iou, area in found:
        score.update(iou, area)
    assert score.mean == pytest.approx(sum(iou for iou, _ in found) / len(found))
    limits = {"small": (0, 1024), "medium": (1024, 9216), "large": (9216, math.inf)}
    for band, (low, high) in limits.items():
        some = [iou for iou, area in found if low <= area < high]
        if some:
            assert score.band_means[band] == pytest.approx(sum(some) / len(some))
        else:
            assert math.isnan(score.band_means[band])


def test_nothing_is_not_a_number() -> None:
    assert math.isnan(BandedIou().mean)
