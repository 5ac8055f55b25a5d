"""Tiles cover every pixel once, and joining them leaves no seam."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.errors import UsageError
from evit_cli.inference.tiles import (
    FloatBlock,
    Grid,
    Span,
    even_tile,
    fade,
    join_tiles,
    parse_tile,
    spans,
)
from evit_cli.types import ImageSize


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Length, tile and overlap of an axis."""
    tile = draw(st.integers(4, 80))
    return draw(st.integers(1, 400)), tile, draw(st.integers(0, tile // 3))


@given(axes())
def test_weights_of_the_tiles_sum_to_one(axis: tuple[int, int, int]) -> None:
    length, tile, overlap = axis
    total = np.zeros(length)
    for span in spans(length, tile, overlap):
        assert 0 <= span.start <= span.first < span.last <= span.stop <= length
        assert span.stop - span.start == min(tile, length)
        weight = np.ones(span.last - span.first)
        if span.fade_in:
            weight[: span.fade_in] = fade(span.fade_in)
        if span.fade_out:
            weight[-span.fade_out :] *= 1 - fade(span.fade_out)
        assert (weight[span.fade_in : len(weight) - span.fade_out] == 1).all()
        total[span.first : span.last] += weight
    assert total == pytest.approx(np.ones(length), abs=1e-6)


@given(axes(), st.sampled_from([1, 2, 4]))
def test_even_tiles_are_no_more_and_no_longer(axis: tuple[int, int, int], stride: int) -> None:
    length, limit, overlap = axis
    limit = max(limit // stride * stride, stride)
    overlap = min(overlap, limit // 3)
    tile = even_tile(length, limit, overlap, stride)
    assert tile % stride == 0
    assert tile <= limit or tile < length + stride
    few = len(spans(length, max(limit, 1), overlap))
    assert len(spans(length, tile, min(overlap, tile // 3))) <= few + (tile // 3 < overlap)


def test_an_overlap_that_is_too_large_is_refused() -> None:
    with pytest.raises(ValueError, match="30 cannot overlap by 11"):
        spans(100, 30, 11)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(axes(), axes(), st.sampled_from([1, 2, 3]))
def test_tiles_of_one_picture_join_to_that_picture(
    rows: tuple[int, int, int], columns: tuple[int, int, int], scale: int
) -> None:
    height, width = rows[0] % 80 + 1, columns[0] % 80 + 1
    rng = np.random.default_rng(0)
    whole = rng.random((height * scale, width * scale, 2), dtype=np.float32)
    tile_hw = ImageSize(rows[1], columns[1])
    grid = Grid.over(ImageSize(height, width), tile_hw, min(rows[2], columns[2]))
    found = np.full_like(whole, -1)
    ran = 0

    def run(row: Span, column: Span) -> FloatBlock:
        nonlocal ran
        ran += 1
        a, b = row.start * scale, row.stop * scale
        c, d = column.start * scale, column.stop * scale
        return whole[a:b, c:d].copy()

    def write(top: int, left: int, block: FloatBlock) -> None:
        place = found[top : top + block.shape[0], left : left + block.shape[1]]
        assert (place == -1).all()
        place[:] = block

    join_tiles(grid, scale, run, write)
    assert ran == len(grid)
    assert found == pytest.approx(whole, abs=1e-6)


def test_tiles_that_disagree_fade_into_each_other() -> None:
    grid = Grid.over(ImageSize(64, 64), ImageSize(40, 40), 13)
    out = np.zeros((128, 128))
    values = iter([0.0, 1.0, 1.0, 0.0])

    def run(row: Span, column: Span) -> FloatBlock:
        return np.full((80, 80, 1), next(values), np.float32)

    def write(top: int, left: int, block: FloatBlock) -> None:
        out[top : top + block.shape[0], left : left + block.shape[1]] = block[:, :, 0]

    join_tiles(grid, 2, run, write)
    steps = max(np.abs(np.diff(out, axis=axis)).max() for axis in (0, 1))
    assert 0 < steps < 0.15
    assert {out[0, 0], out[0, -1], out[-1, 0], out[-1, -1]} == {0, 1}


@pytest.mark.parametrize(("text", "side"), [("auto", None), ("OFF", 0), ("256", 256)])
def test_tile_option(text: str, side: int | None) -> None:
    assert parse_tile(text) == side


@pytest.mark.parametrize("text", ["", "0", "-8", "256x256", "99999", "on"])
def test_tile_option_refuses(text: str) -> None:
    with pytest.raises(UsageError):
        parse_tile(text)
