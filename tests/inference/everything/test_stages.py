"""The steps of everything mode, each against plain loops."""

from __future__ import annotations

import math
from dataclasses import asdict
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evit_cli.data.rle import counts_of_mask, mask_of_counts
from evit_cli.errors import UsageError
from evit_cli.inference.everything.boxes import cut_off, suppress
from evit_cli.inference.everything.candidates import Candidate, box_of, cleaned
from evit_cli.inference.everything.grid import Crop, crops, point_grid
from evit_cli.inference.everything.options import GeneratorOptions
from evit_cli.inference.everything.regions import drop_islands, fill_holes
from evit_cli.inference.everything.windows import Enlarger, stability
from evit_cli.inference.sam_frame import frame_hw, full_size
from tests.inference.everything import plain


def test_the_defaults_are_the_published_ones() -> None:
    assert asdict(GeneratorOptions()) == {
        "points_per_side": 32,
        "points_per_batch": 64,
        "min_predicted_iou": 0.88,
        "min_stability": 0.95,
        "stability_offset": 1.0,
        "max_box_iou": 0.7,
        "crop_layers": 0,
        "max_crop_box_iou": 0.7,
        "crop_overlap_share": 512 / 1500,
        "crop_points_divisor": 1,
        "min_region_px": 0,
    }


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"points_per_side": 0}, "points_per_side is 0, but must be 1 or more"),
        ({"points_per_batch": -1}, "points_per_batch is -1"),
        ({"min_predicted_iou": 1.5}, "min_predicted_iou is 1.5, but must be from 0 to 1"),
        ({"min_stability": math.nan}, "min_stability is nan"),
        ({"stability_offset": -0.5}, "stability_offset is -0.5"),
        ({"stability_offset": math.inf}, "stability_offset is inf"),
        ({"max_box_iou": -0.1}, "max_box_iou is -0.1"),
        ({"crop_layers": -1}, "crop_layers is -1"),
        ({"min_region_px": -1}, "min_region_px is -1"),
        ({"points_per_side": 3, "crop_layers": 2, "crop_points_divisor": 2}, "would have no point"),
    ],
)
def test_bad_options_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        GeneratorOptions(**values)


@pytest.mark.parametrize(("divisor", "expected"), [(1, [32, 32, 32]), (2, [32, 16, 8])])
def test_layers_have_fewer_points(divisor: int, expected: list[int]) -> None:
    options = GeneratorOptions(crop_points_divisor=divisor)
    assert [options.points_on_layer(layer) for layer in range(3)] == expected


@pytest.mark.parametrize("n", [1, 2, 5, 32])
def test_points_are_the_centres_of_cells(n: int) -> None:
    points = point_grid(n, (60, 80))
    assert points == pytest.approx(np.array(plain.grid(n)) * (80, 60), rel=1e-12)


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
@pytest.mark.parametrize("share", [0, 512 / 1500, 0.9])
@pytest.mark.parametrize("hw", [(1024, 1024), (480, 641), (333, 77), (7, 5), (1, 2)])
def test_crops(layers: int, share: float, hw: tuple[int, int]) -> None:
    found = [(crop.layer, list(crop.box_xyxy)) for crop in crops(hw, layers, share)]
    assert found == plain.crop_boxes(*hw, layers, share)
    covered = np.zeros(hw, np.bool_)
    for _, (x0, y0, x1, y1) in found[1:]:
        assert x0 < x1 and y0 < y1
        covered[y0:y1, x0:x1] = True
    assert covered.all() or not layers


def test_crops_of_an_image_as_published() -> None:
    """1500x1500 has crops of 1006 pixels that overlap by 512."""
    boxes = [crop.box_xyxy for crop in crops((1500, 1500), 1, 512 / 1500)]
    assert boxes[1:] == [
        (0, 0, 1006, 1006), (0, 494, 1006, 1500), (494, 0, 1500, 1006), (494, 494, 1500, 1500)
    ]  # fmt: skip


SCORES = st.sampled_from([0.25, 0.5, 0.75, 0.875, 1.0])


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    count = draw(st.integers(0, 25))
    corners = arrays(np.float32, (count, 2), elements=st.integers(0, 12))
    sides = arrays(np.float32, (count, 2), elements=st.integers(0, 8))
    first = draw(corners)
    scores = draw(arrays(np.float32, count, elements=SCORES))
    return np.concatenate((first, first + draw(sides)), axis=1), scores


@given(scored_boxes(), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.6, 0.7, 0.9, 1.0]))
def test_suppression_is_that_of_plain_loops(
    drawn: tuple[np.ndarray, np.ndarray], max_iou: float
) -> None:
    boxes, scores = drawn
    kept = suppress(boxes, scores, max_iou)
    assert kept == plain.nms(boxes, scores, max_iou)
    assert (np.diff(scores[kept]) <= 0).all()
    assert suppress(boxes[kept], scores[kept], max_iou) == list(range(len(kept)))


def test_suppression_of_many_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    count, rng = 1500, np.random.default_rng(3)
    corners = rng.uniform(0, 800, (count, 2))
    boxes = np.concatenate((corners, corners + rng.uniform(5, 200, (count, 2))), 1)
    boxes, scores = boxes.astype(np.float32), rng.integers(0, 400, count).astype(np.float32) / 400
    order = torch.argsort(torch.tensor(scores), descending=True, stable=True)
    sides = torch.tensor(boxes)[order]
    area = (sides[:, 2:] - sides[:, :2]).prod(1)
    near = torch.maximum(sides[:, None, :2], sides[:, :2])
    far = torch.minimum(sides[:, None, 2:], sides[:, 2:])
    shared = (far - near).clamp(min=0).prod(2)
    over = (shared / (area[:, None] + area - shared)).double() > 0.7
    alive = torch.ones(count, dtype=torch.bool)
    for i in range(count):
        if alive[i]:
            alive[i + 1 :] &= ~over[i, i + 1 :]
    assert suppress(boxes, scores, 0.7) == order[alive].tolist()


def test_equal_scores_keep_their_order_and_flat_boxes_stay() -> None:
    boxes = np.array([[0, 0, 9, 9], [0, 0, 9, 9], [5, 5, 5, 5], [5, 5, 5, 5]], np.float32)
    assert suppress(boxes, np.ones(4, np.float32), 0.7) == [0, 2, 3]


@given(st.tuples(*[st.integers(0, 200)] * 4), st.tuples(*[st.integers(0, 200)] * 4))
def test_edges(box: tuple[int, ...], crop: tuple[int, ...]) -> None:
    assert cut_off(box, crop, (150, 200)) == plain.is_cut_off(box, crop, 150, 200)


@pytest.mark.parametrize(("x1", "gone"), [(79, False), (80, True), (100, True), (119, True)])
def test_an_edge_is_touched_from_twenty_pixels_on(x1: int, gone: bool) -> None:
    assert cut_off((30, 30, x1, 60), (0, 0, 100, 100), (100, 300)) == gone


@given(st.data())
def test_small_regions(data: st.DataObject) -> None:
    mask = data.draw(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=12)))
    min_px = data.draw(st.integers(1, 12))
    found = drop_islands(fill_holes(mask, min_px), min_px)
    expected, changed = plain.clean(mask, min_px)
    assert (found is not mask) == changed
    assert sorted(_sizes(found)) == sorted(_sizes(expected))
    sizes = _sizes(fill_holes(mask, min_px))
    if max(sizes, default=0) >= min_px or sizes.count(max(sizes, default=0)) < 2:
        # Of equal islands, all too small, any may stay.
        assert (found == expected).all()


def _sizes(mask: np.ndarray) -> list[int]:
    return [len(region) for region in plain.flood(mask)]


def test_what_is_clean_is_handed_back() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[4:9, 4:9] = True
    assert fill_holes(mask, 9) is mask
    assert drop_islands(mask, 9) is mask


@given(st.data())
@settings(deadline=None)
def test_cleaning_a_mask_from_its_run_lengths(data: st.DataObject) -> None:
    """The part around the mask is enough, wherever it lies in the image."""
    mask = data.draw(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=8)))
    around = data.draw(st.tuples(*[st.integers(0, 4)] * 4))
    mask = np.pad(mask, (around[:2], around[2:]))
    min_px = data.draw(st.integers(1, 25))
    box = box_of(mask) or (0, 0, 0, 0)
    one = Candidate(
        counts_of_mask(mask), box, int(mask.sum()), 0.9, 0.9, (0, 0), Crop(0, (0, 0, 1, 1))
    )
    (found,) = cleaned([one], mask.shape, min_px=min_px, max_iou=1)
    result = mask_of_counts(found.counts, mask.shape)
    assert (result == drop_islands(fill_holes(mask, min_px), min_px)).all()
    assert found.area == result.sum()
    assert found.box_xyxy == (box_of(result) or box)


def test_cleaned_duplicates_give_way_to_masks_that_were_clean() -> None:
    whole = np.zeros((40, 40), np.bool_)
    whole[5:30, 5:30] = True
    holed = whole.copy()
    holed[10, 10] = False
    crop = Crop(0, (0, 0, 40, 40))
    pair = [
        Candidate(counts_of_mask(mask), (5, 5, 29, 29), int(mask.sum()), iou, 1, (9, 9), crop)
        for mask, iou in ((holed, 0.99), (whole, 0.9))
    ]
    assert cleaned(pair, (40, 40), min_px=4, max_iou=0.7) == [pair[1]]


SAME_BITS = [(1024, 683), (1024, 1024), (256, 128), (96, 128), (2048, 1536), (30, 512)]
ROUNDED = [(480, 640), (1080, 1920), (333, 500), (720, 1280), (517, 77), (1200, 1201)]


def blobs(seed: int) -> np.ndarray:
    """(256, 256) logits with some smooth hills in a valley."""
    rng = np.random.default_rng(seed)
    logits = np.full((256, 256), -9, np.float32)
    for _ in range(rng.integers(1, 4)):
        centre = rng.integers(0, 256, 2).tolist()
        cv2.ellipse(logits, centre, rng.integers(1, 60, 2).tolist(), 30, 0, 360, 9, -1)
    noise = rng.standard_normal((256, 256)).astype(np.float32)
    return cv2.GaussianBlur(logits, (0, 0), 1.5) + noise


@pytest.mark.parametrize("hw", SAME_BITS + ROUNDED)
@pytest.mark.parametrize("seed", range(4))
def test_windows_hold_all_that_is_above_the_floor(hw: tuple[int, int], seed: int) -> None:
    low_res = blobs(seed)
    whole = full_size(low_res[None], hw)[0]
    window = Enlarger(hw).window(low_res, -1.0)
    placed = np.full(hw, -np.inf, np.float32)
    height, width = window.logits.shape
    part = (slice(window.top, window.top + height), slice(window.left, window.left + width))
    placed[part] = window.logits
    if hw in SAME_BITS:
        for cut in (-1.0, 0.0, 1.0):
            assert ((placed > cut) == (whole > cut)).all()
        above = whole > -1
        assert (placed[above] == whole[above]).all()
    else:
        for cut in (-1.0, 0.0, 1.0):
            clear = np.abs(whole - cut) > 1e-3
            assert ((placed > cut) == (whole > cut))[clear].all()
        assert np.abs(placed - whole)[whole > -0.99].max(initial=0) < 1e-3


@pytest.mark.parametrize("hw", [(768, 1024), (480, 640), (1000, 1500), (61, 83)])
def test_windows_are_what_torch_interpolates(hw: tuple[int, int]) -> None:
    torch = pytest.importorskip("torch")
    low_res, (height, width) = blobs(9), frame_hw(hw)
    resize = partial(torch.nn.functional.interpolate, mode="bilinear", align_corners=False)
    whole = resize(torch.tensor(low_res)[None, None], (1024, 1024))[..., :height, :width]
    whole = resize(whole, hw)[0, 0].numpy()
    window = Enlarger(hw).window(low_res, -1.0)
    placed = np.full(hw, -np.inf, np.float32)
    (height, width), (top, left) = window.logits.shape, (window.top, window.left)
    placed[top : top + height, left : left + width] = window.logits
    for cut in (-1.0, 0.0, 1.0):
        clear = np.abs(whole - cut) > 1e-3
        assert ((placed > cut) == (whole > cut))[clear].all()
    assert np.abs(placed - whole)[whole > -0.99].max() < 1e-3
    assert (whole > 1).sum() > 50


def test_windows_are_small_where_masks_are() -> None:
    low_res = np.full((256, 256), -5, np.float32)
    low_res[100:110, 50:60] = 5
    assert Enlarger((1024, 1024)).window(low_res, -1.0).logits.shape == (48, 48)
    height, width = Enlarger((3024, 4032)).window(low_res, -1.0).logits.shape
    assert max(height, width) <= 4 * 63


@pytest.mark.parametrize("value", [-5.0, -np.inf])
def test_a_mask_of_nothing_is_a_pixel_of_nothing(value: float) -> None:
    window = Enlarger((480, 640)).window(np.full((256, 256), value, np.float32), -1.0)
    assert window.logits.tolist() == [[-np.inf]]


def test_what_lies_in_the_padding_is_not_seen() -> None:
    low_res = np.full((256, 256), -5, np.float32)
    low_res[200:] = 5  # the image ends at row 192
    assert Enlarger((480, 640)).window(low_res, -1.0).logits.tolist() == [[-np.inf]]


@given(arrays(np.float32, (6, 7), elements=st.floats(-3, 3, width=32)), st.floats(0, 2, width=32))
def test_stability(logits: np.ndarray, offset: float) -> None:
    inner = [value > offset for value in logits.flat]
    outer = [value > -offset for value in logits.flat]
    shared = sum(a and b for a, b in zip(inner, outer, strict=True))
    joined = sum(a or b for a, b in zip(inner, outer, strict=True))
    expected = shared / joined if joined else math.nan
    assert stability(logits, 0.0, offset) == pytest.approx(expected, rel=1e-6, nan_ok=True)
