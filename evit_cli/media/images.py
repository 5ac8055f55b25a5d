"""Still images: reading them upright and in eight bits, writing them whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, ImageU8, Problems, SourceKind

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_JPEG_END = b"\xff\xd9"
_JPEG_TAIL = 1 << 16


def _eight_bits(image: npt.NDArray[Any], path: Path) -> ImageU8:
    if image.dtype == np.uint8:
        return image
    if image.dtype == np.uint16:
        return (image // 257).astype(np.uint8)
    if image.dtype.kind == "f":
        return np.asarray(np.clip(np.nan_to_num(image) * 255 + 0.5, 0, 255), dtype=np.uint8)
    raise EvitError(f"{path} has {image.dtype} pixels, which evit cannot show as an image")


def decode_image(data: bytes, path: Path) -> tuple[ImageU8, ImageU8 | None]:
    """Decode an encoded image: RGB (H, W, 3) and alpha (H, W) or None, both uint8.

    EXIF orientation is applied, grey becomes RGB, 16 bits become 8, and transparent parts are laid
    over white.

    Raises:
        EvitError: the bytes are not an image that OpenCV can decode, or end too early.
    """
    is_jpeg = data[:2] == b"\xff\xd8"
    if is_jpeg and _JPEG_END not in data[-_JPEG_TAIL:]:
        raise EvitError(f"{path} ends in the middle of the image", hint="copy the file again")
    raw = np.frombuffer(data, np.uint8)
    try:
        image = None if is_jpeg else cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
        if image is None or image.ndim == 2 or image.shape[2] != 4:
            # Only this mode turns the image upright; none of these formats has alpha here.
            image = cv2.imdecode(raw, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise EvitError(f"{path} cannot be decoded: {error.err or error}") from error
    if image is None:
        raise EvitError(f"{path} is not an image that can be decoded")
    image = _eight_bits(image, path)
    if image.shape[2] == 3:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8), None
    alpha = np.ascontiguousarray(image[:, :, 3])
    cover = alpha[:, :, None].astype(np.uint16)
    rgb = image[:, :, 2::-1].astype(np.uint16)
    return ((rgb * cover + 255 * (255 - cover) + 127) // 255).astype(np.uint8), alpha


def read_image(path: Path) -> tuple[ImageU8, ImageU8 | None]:
    """`decode_image` of a file.

    Raises:
        EvitError: the file is missing, empty or not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvitError(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise EvitError(f"{path} is empty")
    return decode_image(data, path)


def write_image(path: Path, image: ImageU8, *, alpha: ImageU8 | None = None) -> None:
    """Write RGB (H, W, 3) or one-channel (H, W) pixels; the file appears when it is complete.

    Args:
        path: the suffix chooses the format.
        image: uint8, or uint16 for class maps above 256 classes.
        alpha: (H, W) transparency; formats that have none drop it.

    Raises:
        EvitError: the format is unknown.
        OSError: the file cannot be written.
    """
    if image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)
        if alpha is not None and path.suffix.lower() in (".png", ".webp", ".tif", ".tiff"):
            image = np.dstack([image, alpha])
    try:
        done, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    except cv2.error as error:
        raise EvitError(
            f"images cannot be written as '{path.suffix}'", hint="use .png, .jpg or .webp"
        ) from error
    if not done:
        raise EvitError(f"{path} cannot be encoded")
    partial = path.with_name(f".{path.name}.evit-partial")
    try:
        partial.write_bytes(data.tobytes())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts frame2 before frame10."""
    parts = re.split(r"(\d+)", str(path).lower())
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


class ImageSource:
    """Still images, in the given order.

    Args:
        paths: the files.
        name: what to call them together.
        root: names of the frames are relative to this folder.
    """

    kind = SourceKind.IMAGES
    rate: Fraction | None = None

    def __init__(self, paths: Sequence[Path], *, name: str, root: Path) -> None:
        self.paths = list(paths)
        self.name = name
        self.root = root
        self.frame_count: int | None = len(self.paths)
        self.path = self.paths[0] if len(self.paths) == 1 else None
        self.skipped = Problems()
        self.dropped = 0

    def frames(self) -> Iterator[Frame]:
        """Every image that decodes; of several, the others are noted in `skipped`."""
        for index, path in enumerate(self.paths):
            try:
                image, alpha = read_image(path)
            except EvitError as error:
                if len(self.paths) == 1:
                    raise
                self.skipped.add(error.message)
                continue
            name = path.relative_to(self.root) if path.is_relative_to(self.root) else path.name
            yield Frame(image, index, str(name), alpha=alpha)

    def close(self) -> None:
        """Nothing is held open."""
