"""Super-resolution of pictures of any size and depth: numpy in, numpy out, over any `Session`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.enlarge import OUTPUT
from evit_cli.inference.free_memory import free_memory_bytes
from evit_cli.inference.pixels import NewPixels, model_input
from evit_cli.inference.preprocess import ImageU8
from evit_cli.inference.tiles import SMALLEST_SHARE, FloatBlock, Grid, Span, even_tile, join_tiles
from evit_cli.media.deep_images import DeepImage
from evit_cli.runtime.open import open_session
from evit_cli.runtime.session import Session
from evit_cli.types import ImageSize, Task

DEFAULT_OVERLAP = 32
SMALLEST_TILE = 32
AUTO_TILE = 352
"""Side of the tiles of large images: `sr-xs-res-x2` then takes 0.2 GB, `sr-b-x2` 0.8 GB."""
WHOLE_PIXELS = 1 << 20
"""Images up to this size stay whole if there is memory."""
BYTES_PER_PIXEL = 6500
"""What the largest model, `sr-b-x2`, takes in torch per pixel of its input at 256x256, measured;
`sr-xs-res-x2` takes 1750."""
_SHARE = 4
"""A tile may take one part in so many of the free memory."""


@dataclass(frozen=True)
class Upscaled:
    """An eight-bit picture made larger, and what it took.

    Attributes:
        image_rgb_u8: (H * scale, W * scale, 3).
        scale: how many times it is larger.
        tiles: how many times the model ran.
        tile_hw: the largest input that it was given.
        model_ms: time of the model alone, milliseconds.
    """

    image_rgb_u8: ImageU8
    scale: int
    tiles: int
    tile_hw: ImageSize
    model_ms: float


@dataclass(frozen=True)
class UpscaledDeep:
    """A picture with all it has, made larger; otherwise as `Upscaled`."""

    image: DeepImage
    scale: int
    tiles: int
    tile_hw: ImageSize
    model_ms: float


_UNKNOWN = 4 << 30
"""Free memory where the system does not say."""


class _OutOfMemory(Exception):
    """A tile was too large."""


def session_scale(session: Session) -> int:
    """How many times a super-resolution session enlarges; found by running its smallest input.

    Raises:
        EvitError: the runtime failed.
    """
    _, height, width, _ = session.inputs[0].shape
    limits = getattr(session, "range_hw", None)
    side = 4 * session.info.preprocess.stride
    least = limits[0] if limits is not None else (side, side)
    size_hw = (height or least[0], width or least[1])
    known = session.outputs[0].shape[2] if len(session.outputs[0].shape) == 4 else None
    if known is not None and height is not None:
        return known // height
    out = session.run({"image": np.zeros((1, *size_hw, 3), np.uint8)})[OUTPUT]
    return int(out.shape[2]) // size_hw[0]


class Upscaler:
    """Makes pictures larger.

    Args:
        session: a super-resolution model.
        scale: how many times; a power of the model's own, which None means.
        tile: side of the tiles in pixels of the small picture, 0 for none, None for what fits
            into the free memory. An artifact with one input size decides itself.
        overlap: pixels that neighbouring tiles share; at most a third of a tile is taken.

    Attributes:
        notes: what the user should know of, each thing once.

    Raises:
        EvitError: the session's model does something else.
        UsageError: the model cannot give that scale, or cannot run such tiles.
    """

    def __init__(
        self,
        session: Session,
        *,
        scale: int | None = None,
        tile: int | None = None,
        overlap: int = DEFAULT_OVERLAP,
    ) -> None:
        info = session.info
        if info.task is not Task.SUPERRES:
            raise EvitError(
                f"{info.name} is a {info.task.value} model, not for super-resolution",
                hint="`evit models ls --task superres` lists the ones that are",
            )
        self.session, self.overlap = session, overlap
        self.notes: list[str] = []
        self._stride = info.preprocess.stride
        self.range_hw: tuple[ImageSize, ImageSize] | None = getattr(session, "range_hw", None)
        _, height, width, _ = session.inputs[0].shape
        self.fixed_hw = None if height is None or width is None else ImageSize(height, width)
        self._tile = self._checked_tile(tile)
        self.model_scale = session_scale(session)
        self.scale = scale or self.model_scale
        self.passes = max(round(math.log(self.scale, self.model_scale)), 1)
        if self.model_scale**self.passes != self.scale:
            raise UsageError(
                f"{info.name} enlarges {self.model_scale} times, which gives no {self.scale} times",
                hint=f"--scale {self.model_scale} or {self.model_scale**2}, or another --model",
            )
        # Asked once: tiles that change from frame to frame would be seen in a video.
        free = free_memory_bytes()
        self._budget = (_UNKNOWN if free is None else free) // _SHARE // BYTES_PER_PIXEL
        self._smaller: int | None = None
        """The side that tiles were halved to."""

    @classmethod
    def load(
        cls,
        model: str | None,
        *,
        weights: Path | None = None,
        scale: int | None = None,
        tile: int | None = None,
    ) -> Upscaler:
        """An upscaler for a catalog name, a file or an hf:// address."""
        return cls(open_session(model, weights=weights), scale=scale, tile=tile)

    def _checked_tile(self, tile: int | None) -> int | None:
        if not tile:
            return tile
        side = tile // self._stride * self._stride
        name = self.session.info.name
        if self.fixed_hw is not None and self.fixed_hw != (side, side):
            raise UsageError(
                f"{name} runs on tiles of {self.fixed_hw} only on {self.session.backend.value}",
                hint="leave --tile away",
            )
        if side < SMALLEST_TILE:
            raise UsageError(
                f"tiles of {tile} are too small", hint=f"--tile {SMALLEST_TILE} or more"
            )
        return side

    def __call__(self, image_rgb_u8: ImageU8) -> Upscaled:
        """Enlarge one eight-bit picture.

        Args:
            image_rgb_u8: (H, W, 3) uint8 RGB.

        Returns:
            The picture, and what it took.

        Raises:
            ValueError: the array is not such an image.
            EvitError: the runtime failed.
        """
        if image_rgb_u8.ndim != 3 or image_rgb_u8.shape[2] != 3 or image_rgb_u8.size == 0:
            raise ValueError(f"an image must be (H, W, 3), got shape {image_rgb_u8.shape}")
        done = self.upscale(DeepImage(image_rgb_u8[:, :, ::-1]))
        rgb = np.ascontiguousarray(done.image.stored[:, :, ::-1])
        return Upscaled(rgb, done.scale, done.tiles, done.tile_hw, done.model_ms)

    def tiles(self, image_hw: ImageSize) -> int:
        """How many times the model will run for a picture of that size."""
        sizes = (
            ImageSize(*(s * self.model_scale**n for s in image_hw)) for n in range(self.passes)
        )
        return sum(len(self._grid(size_hw)) for size_hw in sizes)

    def upscale(
        self, image: DeepImage, *, on_tile: Callable[[float], None] | None = None
    ) -> UpscaledDeep:
        """Enlarge a picture of any depth; what it came with stays with it.

        Sixteen bits: the model sees the upper eight, and what they leave out is enlarged
        bicubically and added, as the model's own result is added to its input enlarged so. Grey:
        the mean of the model's three channels. Transparency is enlarged bicubically.

        Args:
            image: the picture.
            on_tile: called after each tile with the model's milliseconds.

        Raises:
            EvitError: the runtime failed, also with the smallest tiles.
        """
        tiles, model_ms, largest = 0, 0.0, ImageSize(0, 0)
        for _ in range(self.passes):
            times: list[float] = []
            image, tile_hw = self._one_pass(image, times, on_tile)
            tiles, model_ms = tiles + len(times), model_ms + sum(times)
            largest = max(largest, tile_hw, key=math.prod)
        return UpscaledDeep(image, self.scale, tiles, largest, model_ms)

    def _one_pass(
        self, image: DeepImage, times: list[float], on_tile: Callable[[float], None] | None
    ) -> tuple[DeepImage, ImageSize]:
        """One run of the model over the whole picture, with smaller tiles if it must be."""
        pixels = NewPixels(image, self.model_scale)
        while True:
            grid = self._grid(ImageSize(*image.size_hw))

            def run(row: Span, column: Span, tile_hw: ImageSize = grid.tile_hw) -> FloatBlock:
                block, model_ms = self._run(image.stored, row, column, tile_hw)
                times.append(model_ms)
                if on_tile is not None:
                    on_tile(model_ms)
                return block

            try:
                join_tiles(grid, self.model_scale, run, pixels.write)
                return pixels.finished(), grid.tile_hw
            except _OutOfMemory as error:
                self._halve(grid.tile_hw, error.__cause__)

    def _run(
        self, stored: npt.NDArray[Any], row: Span, column: Span, tile_hw: ImageSize
    ) -> tuple[FloatBlock, float]:
        """One tile: its result, (scale h, scale w, 3) RGB of 0..1, and the model's time."""
        part = stored[row.start : row.stop, column.start : column.stop]
        height, width = part.shape[:2]
        rgb_u8, missing = model_input(part)
        below, right = tile_hw.height - height, tile_hw.width - width
        padded = cv2.copyMakeBorder(rgb_u8, 0, below, 0, right, cv2.BORDER_REFLECT_101)
        started = time.perf_counter()
        try:
            out = self.session.run({"image": padded[None]})[OUTPUT][0]
        except MemoryError as error:
            raise _OutOfMemory from error
        except EvitError as error:
            if "memory" in error.message.lower():
                raise _OutOfMemory from error
            raise
        model_ms = (time.perf_counter() - started) * 1e3
        scale = self.model_scale
        cut = out[:, : height * scale, : width * scale]
        block = np.array(np.moveaxis(cut, 0, 2), np.float32, order="C")
        if not np.isfinite(block).all():
            raise EvitError(
                f"{self.session.info.name} gave NaN or infinity on {self.session.backend.value}",
                hint="use --precision fp32, and report the model and the device",
            )
        if missing is not None:
            size_wh = (width * scale, height * scale)
            block += cv2.resize(missing, size_wh, interpolation=cv2.INTER_CUBIC)
        return block, model_ms

    def _grid(self, image_hw: ImageSize) -> Grid:
        """The tiles for a picture of that size."""
        if self.fixed_hw is not None:
            return Grid.over(image_hw, self.fixed_hw, self.overlap)
        limits = self._limits(image_hw)
        sides = []
        for length, limit in zip(image_hw, limits, strict=True):
            sides.append(
                even_tile(length, limit, min(self.overlap, limit // SMALLEST_SHARE), self._stride)
            )
        if self.range_hw is not None:
            sides = [max(side, low) for side, low in zip(sides, self.range_hw[0], strict=True)]
        return Grid.over(image_hw, ImageSize(*sides), self.overlap)

    def _limits(self, image_hw: ImageSize) -> tuple[int, int]:
        """How high and wide a tile may be."""
        if self._tile:
            height = width = self._tile
        elif self._tile == 0 or math.prod(image_hw) <= min(self._budget, WHOLE_PIXELS):
            height, width = (-(-side // self._stride) * self._stride for side in image_hw)
        else:
            side = min(AUTO_TILE, math.isqrt(self._budget)) // self._stride * self._stride
            height = width = max(side, SMALLEST_TILE)
        if self._smaller is not None:
            height, width = min(height, self._smaller), min(width, self._smaller)
        if self.range_hw is not None:
            (low_y, low_x), (high_y, high_x) = self.range_hw
            return min(max(height, low_y), high_y), min(max(width, low_x), high_x)
        return height, width

    def _halve(self, tile_hw: ImageSize, cause: BaseException | None) -> None:
        """Go on with smaller tiles, and say so once.

        Raises:
            EvitError: they cannot be smaller.
        """
        least = SMALLEST_TILE if self.range_hw is None else max(self.range_hw[0])
        side = max(tile_hw) // 2 // self._stride * self._stride
        if self.fixed_hw is not None or side < least:
            raise EvitError(
                f"out of memory with tiles of {tile_hw}", hint="close other programs"
            ) from cause
        if self._smaller is None:
            self.notes.append(f"out of memory with tiles of {tile_hw}: smaller ones were used")
        self._smaller = side
