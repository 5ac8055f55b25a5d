"""Cutting an image into overlapping tiles, and joining their results without a seam.

Neighbouring tiles share `overlap` samples. The outer half of these is context that only the model
sees; over the inner half one tile fades into the other. Nothing but the fading bands is kept in
float32: a finished block goes out at once, whatever the size of the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evit_cli.errors import UsageError
from evit_cli.types import ImageSize

FloatBlock = npt.NDArray[np.float32]
SMALLEST_SHARE = 3
"""A tile is at least so many overlaps long: its two fading bands then never meet."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in samples of the small image.

    Attributes:
        start: the first sample that the model sees.
        stop: the one after its last.
        first: the first whose result is used.
        last: the one after the last whose result is used.
        fade_in: so many samples from `first` on are shared with the tile before.
        fade_out: so many samples before `last` are shared with the next tile.
    """

    start: int
    stop: int
    first: int
    last: int
    fade_in: int = 0
    fade_out: int = 0


def even_tile(length: int, limit: int, overlap: int, stride: int) -> int:
    """The shortest tile, in steps of `stride`, that needs no more tiles than one of `limit`.

    >>> even_tile(100, 64, 16, 4)
    60
    """
    if length <= limit:
        return -(-length // stride) * stride
    count = -(-(length - overlap) // (limit - overlap))
    needed = -(-(length + (count - 1) * overlap) // count)
    return min(limit, -(-needed // stride) * stride)


def spans(length: int, tile: int, overlap: int) -> list[Span]:
    """Tiles of the same length that cover an axis; one that is as long as the axis if that fits.

    Args:
        length: samples of the axis, at least 1.
        tile: samples of a tile.
        overlap: neighbours share at least so many; at most a third of `tile`.

    Raises:
        ValueError: the overlap is too large.
    """
    if overlap < 0 or overlap * SMALLEST_SHARE > tile:
        raise ValueError(f"tiles of {tile} cannot overlap by {overlap}")
    if length <= tile:
        return [Span(0, length, 0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    starts = [round(k * (length - tile) / (count - 1)) for k in range(count)]
    fade = overlap // 2
    # The fade lies in the middle of what two neighbours share.
    joints = [(left + tile + right - fade) // 2 for left, right in pairwise(starts)]
    firsts, lasts = [0, *joints], [*(joint + fade for joint in joints), length]
    return [
        Span(
            start,
            start + tile,
            first,
            last,
            fade_in=fade if first else 0,
            fade_out=fade if last < length else 0,
        )
        for start, first, last in zip(starts, firsts, lasts, strict=True)
    ]


@dataclass(frozen=True)
class Grid:
    """The tiles of one image: each row of tiles with each column.

    Attributes:
        rows: along the height.
        columns: along the width.
        tile_hw: what the model is given; larger than an image that is smaller.
    """

    rows: list[Span]
    columns: list[Span]
    tile_hw: ImageSize

    @classmethod
    def over(cls, image_hw: ImageSize, tile_hw: ImageSize, overlap: int) -> Grid:
        """Tiles of `tile_hw` over an image; the overlap shrinks with the tile if it must."""
        overlaps = (min(overlap, side // SMALLEST_SHARE) for side in tile_hw)
        rows, columns = (
            spans(length, tile, shared)
            for length, tile, shared in zip(image_hw, tile_hw, overlaps, strict=True)
        )
        return cls(rows, columns, tile_hw)

    def __len__(self) -> int:
        return len(self.rows) * len(self.columns)


def fade(samples: int) -> FloatBlock:
    """Weights of the later of two tiles over a band they share: a cosine from 0 to 1."""
    turn = (np.arange(samples, dtype=np.float32) + 0.5) / max(samples, 1)
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * turn), np.float32)


def _mix(before: FloatBlock, after: FloatBlock, weights: FloatBlock) -> FloatBlock:
    return before + (after - before) * weights


def join_tiles(
    grid: Grid,
    scale: int,
    run: Callable[[Span, Span], FloatBlock],
    write: Callable[[int, int, FloatBlock], None],
) -> None:
    """Run every tile and hand out the joined result, block by block.

    Args:
        grid: the tiles.
        scale: how many times the results are larger.
        run: gives a tile's result, (scale h, scale w, C), for its rows and columns from `start` to
            `stop`; it is changed.
        write: gets the top, the left and the pixels of each finished block. Each pixel of the
            result is in exactly one.
    """
    width = grid.columns[-1].stop * scale
    above: FloatBlock = np.empty((0, 0, 0), np.float32)
    for row in grid.rows:
        into, out_of = row.fade_in * scale, row.fade_out * scale
        below: FloatBlock = np.empty((0, 0, 0), np.float32)
        before = below
        for column in grid.columns:
            block = _used(run(row, column), row, column, scale)
            if column.fade_in:
                shared = column.fade_in * scale
                block[:, :shared] = _mix(before, block[:, :shared], fade(shared)[:, None])
            keep = block.shape[1] - column.fade_out * scale
            before = block[:, keep:].copy()
            block = block[:, :keep]
            left = column.first * scale
            if into:
                band = above[:, left : left + keep]
                block[:into] = _mix(band, block[:into], fade(into)[:, None, None])
            if out_of:
                if not below.size:
                    below = np.empty((out_of, width, block.shape[2]), np.float32)
                below[:, left : left + keep] = block[-out_of:]
                block = block[:-out_of]
            write(row.first * scale, left, block)
        above = below


def _used(block: FloatBlock, row: Span, column: Span, scale: int) -> FloatBlock:
    """The part of a tile's result that is used."""
    top, bottom = (scale * (at - row.start) for at in (row.first, row.last))
    left, right = (scale * (at - column.start) for at in (column.first, column.last))
    return block[top:bottom, left:right]


def parse_tile(text: str) -> int | None:
    """The value of `--tile`: a side, 0 for "off", None for "auto".

    Raises:
        UsageError: it is none of these.
    """
    words = {"auto": None, "off": 0}
    if text.lower() in words:
        return words[text.lower()]
    if text.isdecimal() and 0 < int(text) <= 65535:
        return int(text)
    raise UsageError(f"'{text}' is no tile size", hint="--tile auto, off, or pixels such as 256")
