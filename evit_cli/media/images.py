"""Still images: reading them upright and in eight bits, writing them whole or not at all."""

from __future__ import annotations

import contextlib
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
from evit_cli.media.disk import writing
from evit_cli.media.frame import Frame, ImageU8, Problems, SourceKind
from evit_cli.media.opencv_log import quiet_opencv
from evit_cli.media.upright import exif_turn, turned

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")

_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", 0xDA, b"\xff\xd9"
NEVER_TRANSPARENT = (_JPEG_START, b"BM")
"""The fourth byte of a BMP's pixel is mostly padding, and zero."""
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"


def ends_early(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end, which their decoders would fill with grey or curse."""
    if data.startswith(_PNG_START):
        return _PNG_END not in data
    if not data.startswith(_JPEG_START):
        return False
    position = 2
    # Past the header segments: a thumbnail in there has an end of its own.
    while position + 4 <= len(data) and data[position] == 0xFF:
        if data[position + 1] == _JPEG_SCAN:
            break
        padding = data[position + 1] == 0xFF
        size = int.from_bytes(data[position + 2 : position + 4], "big")
        position += 1 if padding else 2 + size
    return data.find(_JPEG_END, position) < 0


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
    if ends_early(data):
        raise EvitError(f"{path} ends in the middle of the image", hint="copy the file again")
    raw = np.frombuffer(data, np.uint8)
    try:
        with quiet_opencv():
            opaque = data.startswith(NEVER_TRANSPARENT)
            image = None if opaque else cv2.imdecode(raw, cv2.IMREAD_UNCHANGED)
            webp = data.startswith(b"RIFF")  # which OpenCV 4 does not turn upright
            if image is None or not (webp or (image.ndim == 3 and image.shape[2] == 4)):
                # This mode turns the other formats upright; nothing with alpha comes here.
                image = cv2.imdecode(raw, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH)
            else:
                image = turned(image, exif_turn(data))
    except cv2.error as error:
        raise EvitError(f"{path} cannot be decoded: {error.err or error}") from error
    if image is None:
        raise EvitError(f"{path} is not an image that can be decoded")
    image = _eight_bits(image, path)
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2RGB), dtype=np.uint8), None
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
        EvitError: the format is unknown, or the file cannot be written.
    """
    if image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), dtype=np.uint8)
        if alpha is not None and path.suffix.lower() in (".png", ".webp", ".tif", ".tiff"):
            image = np.dstack([image, alpha])
    try:
        with quiet_opencv():
            done, data = cv2.imencode(path.suffix, image, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    except cv2.error as error:
        raise EvitError(
            f"images cannot be written as '{path.suffix}'", hint="use .png, .jpg or .webp"
        ) from error
    if not done:
        raise EvitError(f"{path} cannot be encoded")
    partial = path.with_name(f".{path.name}.evit-partial")
    with writing(path):
        try:
            partial.write_bytes(data.tobytes())
            os.replace(partial, path)
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts frame2 before frame10; different paths have different keys."""
    parts = re.split(r"(\d+)", str(path).lower())  # every second part is a number
    key = [(1, int(part), "") if i % 2 else (0, 0, part) for i, part in enumerate(parts)]
    return [*key, (-1, 0, str(path))]


class ImageSource:
    """Still images, in the given order.

    Args:
        paths: the files.
        name: what to call them together.
        root: names of the frames are relative to this folder.

    Attributes:
        names: one for each path, relative to `root`, without ".."; no two are the same.
        root: as given.
    """

    kind = SourceKind.IMAGES
    rate: Fraction | None = None

    def __init__(self, paths: Sequence[Path], *, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.paths, self.names = _named(paths, root)
        self.frame_count: int | None = len(self.paths)
        self.path = self.paths[0] if len(self.paths) == 1 else None
        self.skipped = Problems()
        self.dropped = 0

    def frames(self) -> Iterator[Frame]:
        """Every image that decodes; of several, the others are noted in `skipped`."""
        for index, (path, name) in enumerate(zip(self.paths, self.names, strict=True)):
            try:
                image, alpha = read_image(path)
            except EvitError as error:
                if len(self.paths) == 1:
                    raise
                self.skipped.add(error.message)
                continue
            yield Frame(image, index, name, alpha=alpha)

    def close(self) -> None:
        """Nothing is held open."""


def _named(paths: Sequence[Path], root: Path) -> tuple[list[Path], list[str]]:
    """The paths without repetitions, and their names under `root` or what they share above it."""
    places: dict[str, Path] = {}
    for path in paths:
        places.setdefault(os.path.abspath(path), path)
    base = os.path.abspath(root)
    if any(not Path(place).is_relative_to(base) for place in places):
        base = os.path.commonpath([os.path.dirname(place) for place in places])
    return list(places.values()), [os.path.relpath(place, base) for place in places]
