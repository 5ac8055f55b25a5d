"""Simulated clicks against a brute-force search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evit_cli.inference.sam_clicks import Clicker, depth, next_click


def naive_depth(region: np.ndarray) -> np.ndarray:
    """Distance to the nearest pixel outside, one pixel of frame counting as outside."""
    outside = np.argwhere(~np.pad(region, 1)) - 1
    distance = np.zeros(region.shape)
    for y, x in np.argwhere(region):
        distance[y, x] = np.sqrt(((outside - (y, x)) ** 2).sum(axis=1).min())
    return distance


sides = st.tuples(st.integers(1, 12), st.integers(1, 12))
masks = sides.flatmap(lambda shape: arrays(np.bool_, shape))
pairs = sides.flatmap(lambda shape: st.tuples(arrays(np.bool_, shape), arrays(np.bool_, shape)))


@settings(max_examples=60, deadline=None)
@given(masks)
def test_depth_equals_brute_force(region: np.ndarray) -> None:
    np.testing.assert_allclose(depth(region), naive_depth(region), atol=1e-4)


@settings(max_examples=80, deadline=None)
@given(pairs)
def test_a_click_is_the_deepest_point_of_an_error(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, found = pair
    click = next_click(truth, found)
    missing, surplus = naive_depth(truth & ~found), naive_depth(found & ~truth)
    if (truth == found).all():
        assert click is None
        return
    assert click is not None
    chosen = missing if click.positive else surplus
    assert truth[click.y, click.x] == click.positive != found[click.y, click.x]
    assert chosen[click.y, click.x] == pytest.approx(max(missing.max(), surplus.max()), abs=1e-4)


def test_the_first_click_is_inside_also_where_the_centre_is_not() -> None:
    ring = np.ones((9, 9), np.bool_)
    ring[2:7, 2:7] = False
    click = next_click(ring, np.zeros_like(ring))
    assert click is not None
    assert click.positive
    assert ring[click.y, click.x]


def test_the_image_border_is_a_border() -> None:
    """An object that fills the image is clicked in its middle, not in a corner."""
    full = np.ones((7, 11), np.bool_)
    click = next_click(full, ~full)
    assert click is not None
    assert click.y == 3
    assert 3 <= click.x <= 7


def test_clicks_do_not_repeat_and_end() -> None:
    """A model that never learns is clicked once on every wrong pixel."""
    truth = np.zeros((4, 4), np.bool_)
    truth[1:3, 1:3] = True
    clicker = Clicker(truth)
    nothing = np.zeros_like(truth)
    for _ in range(4):
        assert clicker.add(nothing)
    assert not clicker.add(nothing)
    assert {(c.x, c.y) for c in clicker.clicks} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert clicker.points_xy.shape == (4, 2)
    assert (clicker.labels == 1).all()


def test_nothing_wrong_has_no_click() -> None:
    clicker = Clicker(np.eye(3, dtype=np.bool_))
    assert not clicker.add(np.eye(3, dtype=np.bool_))
    assert clicker.points_xy.shape == (0, 2)
    assert clicker.labels.shape == (0,)


def test_other_shapes_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 2\).*\(2, 3\)"):
        next_click(np.zeros((2, 2), np.bool_), np.zeros((2, 3), np.bool_))
