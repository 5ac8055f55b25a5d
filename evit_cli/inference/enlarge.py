"""A super-resolution model over a whole image of any size."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.inference.tiles import FloatBlock, Grid, Span, join_tiles
from evit_cli.runtime.session import Session
from evit_cli.types import ImageSize

OUTPUT = "upscaled"
"""Name of what a super-resolution session gives: RGB (B, 3, H * scale, W * scale), 0..1."""

OVERLAP = 16
"""Samples that tiles of an artifact of one size share: half of them fade, a quarter is context."""

ImageU8 = npt.NDArray[np.uint8]


def enlarge(
    session: Session, image_rgb_u8: ImageU8, *, tile_hw: ImageSize | None = None
) -> npt.NDArray[np.float32]:
    """Run an image in one piece, or, where the session takes one size only, in tiles of that.

    The sides are padded to multiples of the model's stride, or to a tile, with the image's mirror,
    below and to the right; the result is cropped to exactly `scale` times the image.

    Args:
        session: of a super-resolution model.
        image_rgb_u8: (H, W, 3), at least one pixel.
        tile_hw: run in tiles of this size in any case, as an artifact that takes no other would.

    Returns:
        (H * scale, W * scale, 3) RGB, 0..1 and a bit beyond.

    Raises:
        EvitError: the runtime failed, for example out of memory.
    """
    tile_hw = tile_hw or fixed_size(session)
    if tile_hw is None:
        height, width = image_rgb_u8.shape[:2]
        stride = session.info.preprocess.stride
        whole = ImageSize(height + -height % stride, width + -width % stride)
        return _piece(session, image_rgb_u8, whole)
    return _tiled(session, image_rgb_u8, tile_hw)


def fixed_size(session: Session) -> ImageSize | None:
    """The one input size of a session, None where it takes several."""
    height, width = session.inputs[0].shape[1:3]
    return None if height is None or width is None else ImageSize(height, width)


def _piece(session: Session, image: ImageU8, size_hw: ImageSize) -> FloatBlock:
    """The image mirrored up to a size, run and cropped."""
    height, width = image.shape[:2]
    below, right = size_hw.height - height, size_hw.width - width
    padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REFLECT_101)
    out = session.run({"image": padded[None]})[OUTPUT][0]
    scale = out.shape[1] // size_hw.height
    cropped = out[:, : height * scale, : width * scale]
    return np.asarray(np.moveaxis(cropped, 0, 2), np.float32)


def _tiled(session: Session, image: ImageU8, tile_hw: ImageSize) -> FloatBlock:
    height, width = image.shape[:2]
    grid = Grid.over(ImageSize(height, width), tile_hw, OVERLAP)
    first = grid.rows[0], grid.columns[0]

    def run(row: Span, column: Span) -> FloatBlock:
        part = image[row.start : row.stop, column.start : column.stop]
        return np.array(_piece(session, np.ascontiguousarray(part), tile_hw))

    scale = run(*first).shape[0] // (first[0].stop - first[0].start)
    result = np.empty((height * scale, width * scale, 3), np.float32)

    def write(top: int, left: int, block: FloatBlock) -> None:
        result[top : top + block.shape[0], left : left + block.shape[1]] = block

    join_tiles(grid, scale, run, write)
    return result


def scale_of(session: Session) -> int:
    """How many times a super-resolution session enlarges, found with an image of a few pixels."""
    side = session.info.preprocess.stride * 4
    return int(enlarge(session, np.zeros((side, side, 3), np.uint8)).shape[0]) // side


def to_eight_bits(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """RGB in 0..1 -> 0..255, rounded."""
    return np.asarray(np.clip(rgb, 0, 1) * 255 + 0.5, np.uint8)
