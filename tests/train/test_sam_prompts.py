"""Prompts drawn from masks: points, boxes and clicks, and where images lie in the square."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evit_cli.models.sam.prompts import ABSENT, PADDING
from evit_cli.train.sam.placement import fitted, random_placement
from evit_cli.train.sam.prompts import (
    PromptBatch,
    PromptKind,
    PromptRule,
    box_of,
    draw_kind,
    first_prompt,
    next_clicks,
    noisy_box,
)

SIDE = 32
masks = arrays(np.bool_, (SIDE, SIDE), elements=st.booleans(), fill=st.just(False)).filter(np.any)
blobs = st.tuples(*[st.integers(0, SIDE - 1)] * 4).map(lambda c: rectangle(*c))
seeds = st.integers(0, 2**31)


def rectangle(y0: int, x0: int, y1: int, x1: int) -> npt.NDArray[np.bool_]:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[min(y0, y1) : max(y0, y1) + 1, min(x0, x1) : max(x0, x1) + 1] = True
    return mask


def pixels(places_xy: npt.NDArray[np.float32], side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels whose centres places of the frame are."""
    exact = (np.asarray(places_xy, np.float64) + 0.5) * side / 1024 - 0.5
    whole = np.rint(exact).astype(int)
    np.testing.assert_allclose(exact, whole, atol=1e-4)
    return whole[..., 1], whole[..., 0]


@settings(max_examples=60, deadline=None)
@given(mask=st.one_of(masks, blobs), count=st.integers(1, 10), share=st.floats(0, 1), seed=seeds)
def test_points_lie_where_their_labels_say(
    mask: npt.NDArray[np.bool_], count: int, share: float, seed: int
) -> None:
    rule = PromptRule(negatives=share)
    places, labels = first_prompt(mask, PromptKind(False, count), rule, np.random.default_rng(seed))
    assert places.shape == (count, 2)
    np.testing.assert_array_equal(mask[pixels(places)], labels == 1)
    assert set(labels) <= {0.0, 1.0}
    assert labels[0] == 1
    if not share:
        assert (labels == 1).all()


@settings(max_examples=60, deadline=None)
@given(mask=blobs, seed=seeds)
def test_negative_points_are_near(mask: npt.NDArray[np.bool_], seed: int) -> None:
    rule = PromptRule(negatives=1.0)
    places, labels = first_prompt(mask, PromptKind(False, 10), rule, np.random.default_rng(seed))
    x0, y0, x1, y1 = box_of(mask)
    rows, columns = pixels(places[labels == 0])
    for found, low, high in ((rows, y0, y1), (columns, x0, x1)):
        reach = (high - low) / 2 + 1
        assert ((found > low - reach) & (found < high + reach)).all()
    assert (labels[1:] == (0 if mask.sum() < mask.size and len(rows) else 1)).all()


def test_points_are_drawn_evenly() -> None:
    mask = rectangle(3, 3, 6, 8)
    rng = np.random.default_rng(0)
    kind = PromptKind(False, 10)
    drawn = np.concatenate([first_prompt(mask, kind, PromptRule(), rng)[0] for _ in range(480)])
    counts = np.zeros(mask.shape)
    np.add.at(counts, pixels(drawn), 1)
    inside = counts[mask]
    assert counts.sum() == inside.sum() == 4800
    assert ((inside - 200) ** 2 / 200).sum() < 50  # chi squared of 23 degrees, p < 0.001


@settings(max_examples=60, deadline=None)
@given(mask=st.one_of(masks, blobs))
def test_a_box_without_noise_is_tight(mask: npt.NDArray[np.bool_]) -> None:
    rule = PromptRule(box_noise=0.0)
    places, labels = first_prompt(mask, PromptKind(True), rule, np.random.default_rng(0))
    np.testing.assert_array_equal(labels, [2, 3])
    (x0, y0), (x1, y1) = (places * SIDE / 1024).astype(int)
    assert mask[y0:y1, x0:x1].sum() == mask.sum()
    for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]):
        assert edge.any()


@settings(max_examples=60, deadline=None)
@given(mask=blobs, share=st.floats(0, 1), most=st.floats(0, 40), seed=seeds)
def test_corners_move_a_little_and_stay_in_order(
    mask: npt.NDArray[np.bool_], share: float, most: float, seed: int
) -> None:
    box = box_of(mask)
    moved = noisy_box(box, share, most=most, rng=np.random.default_rng(seed))
    assert (moved[:2] <= moved[2:]).all()
    # Two corners that change places each stay within what they were moved by.
    assert moved[:2].min() >= box.min() - most - 1e-3
    assert (np.abs(np.sort(moved[0::2]) - box[0::2]) <= most + 1e-3).all()


def test_noise_is_a_share_of_the_sides() -> None:
    rng = np.random.default_rng(0)
    box = np.array([100, 100, 200, 500], np.float32)
    moved = np.stack([noisy_box(box, 0.1, most=1e9, rng=rng) for _ in range(2000)]) - box
    np.testing.assert_allclose(moved.std(0), [10, 40, 10, 40], rtol=0.08)


def test_kinds_of_prompts_have_their_shares() -> None:
    rng = np.random.default_rng(0)
    kinds = [draw_kind(PromptRule(boxes=0.5), rng) for _ in range(4000)]
    points = [kind.points for kind in kinds if not kind.box]
    assert len(points) == pytest.approx(2000, rel=0.06)
    assert (min(points), max(points)) == (1, 10)
    assert np.bincount(points)[1:].min() > 150


def batch_of(mask: npt.NDArray[np.bool_]) -> torch.Tensor:
    return torch.from_numpy(mask)[None]


@pytest.mark.parametrize("how", ["random", "centre"])
@settings(max_examples=60, deadline=None)
@given(found=st.one_of(masks, blobs), truth=st.one_of(masks, blobs), seed=seeds)
def test_the_next_click_is_where_it_is_wrong(
    how: str, found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], seed: int
) -> None:
    torch.manual_seed(seed)
    places, labels = next_clicks(batch_of(found), batch_of(truth), how=how)  # type: ignore[arg-type]
    where = pixels(places.numpy())
    if (found != truth).any():
        assert (found != truth)[where].all()
        assert bool(labels[0]) == bool(truth[where][0])
    else:
        assert labels[0] == 1
        assert truth[where].all()


def test_random_clicks_reach_every_wrong_pixel_alike() -> None:
    truth, found = rectangle(2, 2, 5, 5), rectangle(4, 4, 7, 7)
    many = 12000
    torch.manual_seed(0)
    pair = (batch_of(found).expand(many, -1, -1), batch_of(truth).expand(many, -1, -1))
    places, labels = next_clicks(*pair, how="random")
    counts = np.zeros(truth.shape)
    np.add.at(counts, pixels(places.numpy()), 1)
    wrong = truth ^ found
    assert counts[wrong].sum() == many
    assert counts[wrong].min() > 0.8 * many / wrong.sum()
    assert float(labels.mean()) == pytest.approx(0.5, abs=0.03)


def naive_depths(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Distance of every pixel to the nearest one outside, which is all around the picture."""
    bordered = np.pad(region, 1)
    outside = np.argwhere(~bordered)
    depths = np.zeros(bordered.shape)
    for y, x in np.argwhere(bordered):
        depths[y, x] = np.sqrt(((outside - (y, x)) ** 2).sum(1).min())
    return depths[1:-1, 1:-1]


@settings(max_examples=25, deadline=None)
@given(found=blobs, truth=blobs)
def test_centre_clicks_are_as_deep_as_can_be(
    found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]
) -> None:
    places, labels = next_clicks(batch_of(found), batch_of(truth), how="centre")
    if (found == truth).all():
        return
    missed, superfluous = naive_depths(truth & ~found), naive_depths(found & ~truth)
    deepest = max(missed.max(), superfluous.max())
    chosen = missed if labels[0] else superfluous
    assert chosen[pixels(places.numpy())] == pytest.approx(deepest, abs=1e-3)


def test_prompts_of_different_lengths_share_a_batch() -> None:
    prompts = PromptBatch(
        torch.arange(16.0).reshape(2, 4, 2),
        torch.tensor([[2.0, 3.0, ABSENT, ABSENT], [1.0, ABSENT, ABSENT, ABSENT]]),
        torch.tensor([2, 1]),
        torch.tensor([True, False]),
    )
    _, labels = prompts.padded()
    np.testing.assert_array_equal(labels, [[2, 3], [1, PADDING]])
    more = prompts.add(torch.full((2, 2), 7.0), torch.tensor([0.0, 1.0]))
    points, labels = more.padded()
    np.testing.assert_array_equal(labels, [[2, 3, 0], [1, 1, PADDING]])
    np.testing.assert_array_equal(points[0, 2], [7, 7])
    np.testing.assert_array_equal(points[1, 1], [7, 7])
    np.testing.assert_array_equal(points[1, 2], [0, 0])
    for _ in range(5):  # beyond the columns that were there
        more = more.add(torch.zeros(2, 2), torch.zeros(2))
    assert more.padded()[1].shape == (2, 8)


@settings(max_examples=80, deadline=None)
@given(
    hw=st.tuples(st.integers(8, 90), st.integers(8, 90)),
    zoom=st.floats(0.5, 2.0),
    flip=st.sampled_from([0.0, 1.0]),
    seed=seeds,
)
def test_masks_lie_on_their_image(hw: tuple[int, int], zoom: float, flip: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    placement = random_placement(hw, 64, rng, scale=(zoom, zoom), flip=flip)
    mask = np.zeros(hw, np.bool_)
    mask[: hw[0] // 2, : hw[1] // 3] = True
    placed, image = placement.mask(mask), placement.image(np.dstack([mask * np.uint8(255)] * 3))
    height, width = placement.content_hw
    assert not placed[height:].any()
    assert not placed[:, width:].any()
    inside = (slice(height), slice(width))
    np.testing.assert_array_equal(image[inside][..., 0] > 127, placed[inside])
    assert (image[height:] == (124, 116, 104)).all()
    scale = 64 * zoom / max(hw)
    expected = [min(64, int(side * scale + 0.5) or 1) for side in hw]
    assert [height, width] == pytest.approx(expected, abs=1)


def test_the_whole_image_fits_as_in_inference() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)
    placement = fitted((48, 96), 64)
    assert placement.content_hw == (32, 64)
    small = cv2.resize(image, (64, 32), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(placement.image(image)[:32], small)
    mirrored = random_placement((48, 96), 64, np.random.default_rng(0), flip=1.0)
    np.testing.assert_array_equal(mirrored.image(image)[:32], small[:, ::-1])
