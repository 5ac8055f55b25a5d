"""Run lengths of masks: what is written is what COCO's library writes, and reads back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evit_cli.data.rle import (
    counts_of_mask,
    decode_counts,
    encode_counts,
    encode_rle,
    mask_of_counts,
    read_rle,
)
from tests.helpers import rle as plain

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=30))


@given(MASKS)
def test_masks_round_trip(mask: np.ndarray) -> None:
    rle = encode_rle(mask)
    assert rle["size"] == list(mask.shape)
    assert (read_rle(rle) == mask).all()


@given(MASKS)
def test_counts_are_those_of_a_plain_reading(mask: np.ndarray) -> None:
    expected = []
    value, length = False, 0
    for x in range(mask.shape[1]):
        for y in range(mask.shape[0]):
            if mask[y, x] != value:
                expected.append(length)
                value, length = mask[y, x], 0
            length += 1
    assert counts_of_mask(mask).tolist() == [*expected, length]


@given(st.lists(st.integers(0, 2**40), max_size=60))
def test_strings_are_those_of_a_plain_writer(counts: list[int]) -> None:
    text = encode_counts(counts)
    assert text == plain.encode_counts(counts)
    assert decode_counts(text) == counts


@pytest.mark.parametrize("step", [1, 15, 16, 17, 31, 32, 511, 512, 513])
@pytest.mark.parametrize("sign", [1, -1])
def test_differences_at_the_ends_of_a_group(step: int, sign: int) -> None:
    counts = [0, 1000, 7, 1000 + sign * step, 7 - sign * 6, 1000]
    assert decode_counts(encode_counts(counts)) == counts


@given(MASKS, st.data())
def test_a_window_is_the_mask_with_nothing_around_it(mask: np.ndarray, data: st.DataObject) -> None:
    left, top, right, below = data.draw(st.tuples(*[st.integers(0, 3)] * 4))
    whole = np.pad(mask, ((top, below), (left, right)))
    counts = counts_of_mask(mask, whole.shape, offset_xy=(left, top))
    assert (counts == counts_of_mask(whole)).all()
    assert (mask_of_counts(counts, whole.shape) == whole).all()


@pytest.mark.parametrize("offset_xy", [(3, 0), (0, 2), (-1, 0)])
def test_a_window_outside_is_refused(offset_xy: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"4x3 at .* is not inside 5x5"):
        counts_of_mask(np.ones((4, 3), np.bool_), (5, 5), offset_xy=offset_xy)


@pytest.mark.parametrize("mask", [np.zeros((3, 4), np.bool_), np.ones((3, 4), np.bool_)])
def test_all_or_nothing(mask: np.ndarray) -> None:
    assert counts_of_mask(mask).tolist() == ([0, 12] if mask.any() else [12])


def test_a_string_written_by_the_coco_library() -> None:
    """pycocotools.mask.encode of an 8x10 mask with rows 5..7, columns 1..3 set."""
    mask = np.zeros((8, 10), np.bool_)
    mask[5:8, 1:4] = True
    assert encode_rle(mask) == {"size": [8, 10], "counts": "=35000[1"}


@given(MASKS)
def test_the_coco_library_agrees(mask: np.ndarray) -> None:
    coco = pytest.importorskip("pycocotools.mask")
    expected = coco.encode(np.asfortranarray(mask, np.uint8))
    assert encode_rle(mask)["counts"] == expected["counts"].decode()
