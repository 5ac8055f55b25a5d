"""Still images with all they have: grey, 16 bits, transparency, colour profile and EXIF.

`evit_cli.media.images` gives models eight-bit RGB; this gives files back what they came with.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.media.disk import writing
from evit_cli.media.embed import embed
from evit_cli.media.exif import byte_order, made_upright, orientation_of
from evit_cli.media.frame import Frame, ImageU8
from evit_cli.media.images import NEVER_TRANSPARENT, ImageSource, ends_early
from evit_cli.media.metadata import JPEG_START, PNG_START, Metadata, read_metadata
from evit_cli.media.opencv_log import quiet_opencv
from evit_cli.media.outputs import LOSSY, OutputNames, StillsOutput, picture_suffix
from evit_cli.media.upright import EXIF_TURNS, turned

_TRANSPARENT = (".png", ".webp", ".tif", ".tiff")
_SIXTEEN_BITS = (".png", ".tif", ".tiff")
_WEBP_LONGEST = 16383
_JPEG_LONGEST = 65500
_PROBE = bytes(1 << 20)


@dataclass(frozen=True)
class DeepImage:
    """A picture as OpenCV keeps it, upright, without a copy for a model's sake.

    Attributes:
        stored: (H, W) grey, (H, W, 3) BGR or (H, W, 4) BGR with transparency; uint8 or uint16.
        metadata: what belongs to it.
    """

    stored: npt.NDArray[Any]
    metadata: Metadata = field(default_factory=Metadata)

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.stored.shape[:2]
        return int(height), int(width)

    @property
    def channels(self) -> int:
        """1, 3 or 4."""
        return 1 if self.stored.ndim == 2 else int(self.stored.shape[2])

    @property
    def alpha(self) -> npt.NDArray[Any] | None:
        """(H, W) transparency, a view."""
        return self.stored[:, :, 3] if self.channels == 4 else None

    def rgb_u8(self) -> ImageU8:
        """(H, W, 3) in eight bits, transparency left away; a view where that is possible."""
        if self.channels == 1:
            seen = np.broadcast_to(self.stored[:, :, None], (*self.size_hw, 3))
        else:
            seen = self.stored[:, :, 2::-1]
        return seen if seen.dtype == np.uint8 else eight_bits(seen)


def eight_bits(image: npt.NDArray[Any]) -> ImageU8:
    """Sixteen bits in eight, rounded."""
    return ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _whole_numbers(image: npt.NDArray[Any], path: Path) -> npt.NDArray[Any]:
    if image.dtype in (np.uint8, np.uint16):
        return image
    if image.dtype.kind == "f":
        values = np.clip(np.nan_to_num(image), 0, 1)
        return np.asarray(values * 65535 + 0.5, np.uint16)
    raise EvitError(f"{path} has {image.dtype} pixels, which evit cannot show as an image")


def decode_deep(data: bytes, path: Path) -> DeepImage:
    """Decode an image file, turned upright.

    Raises:
        EvitError: the bytes are not an image that OpenCV can decode, or end too early.
    """
    if ends_early(data):
        raise EvitError(f"{path} ends in the middle of the image", hint="copy the file again")
    try:
        with quiet_opencv():
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise EvitError(f"{path} cannot be decoded: {error.err or error}") from error
    if image is None:
        raise EvitError(f"{path} is not an image that can be decoded")
    metadata = read_metadata(data)
    if not byte_order(data):  # OpenCV turns TIFF itself, and in this mode nothing else
        image = turned(image, EXIF_TURNS[orientation_of(metadata.exif)])
    image = _whole_numbers(image, path)
    if image.ndim == 3 and image.shape[2] == 4 and data.startswith(NEVER_TRANSPARENT):
        image = np.ascontiguousarray(image[:, :, :3])
    if image.ndim == 3 and image.shape[2] not in (3, 4):
        raise EvitError(f"{path} has {image.shape[2]} channels, which evit cannot show")
    return DeepImage(image, metadata.for_channels(1 if image.ndim == 2 else 3))


def read_deep(path: Path) -> DeepImage:
    """`decode_deep` of a file.

    Raises:
        EvitError: the file is missing, empty or not an image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvitError(f"{path} cannot be read: {error.strerror}") from error
    if not data:
        raise EvitError(f"{path} is empty")
    return decode_deep(data, path)


def _for_format(image: DeepImage, suffix: str) -> tuple[DeepImage, list[str]]:
    """The image without what a format has no room for, and what that is."""
    stored, lost = image.stored, []
    if stored.dtype == np.uint16 and suffix not in _SIXTEEN_BITS:
        stored = eight_bits(stored)
        lost.append("16 bits")
    if image.channels == 4 and suffix not in _TRANSPARENT:
        most = np.iinfo(stored.dtype).max
        cover = stored[:, :, 3:].astype(np.float32) / most
        laid = stored[:, :, :3] * cover + most * (1 - cover)
        stored = np.asarray(laid + 0.5, stored.dtype)
        lost.append("transparency")
    return replace(image, stored=stored), lost


def check_sides(path: Path, size_hw: tuple[int, int]) -> None:
    """Find out before the work that the format of `path` cannot hold a picture of that size.

    Raises:
        EvitError: its sides are too long.
    """
    longest = {".webp": _WEBP_LONGEST, ".jpg": _JPEG_LONGEST, ".jpeg": _JPEG_LONGEST}
    limit = longest.get(path.suffix.lower())
    if limit is not None and max(size_hw) > limit:
        raise EvitError(
            f"{path.name} cannot hold {max(size_hw)} pixels a side, only {limit}",
            hint="write a .png or .tif with --out",
        )


def _is_complete(path: Path) -> bool:
    """Whether a file that OpenCV says it has written has its end: it checks no buffer's last."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(12)
        file.seek(max(size - 12, 0))
        end = file.read()
    if start.startswith(JPEG_START):
        return end.endswith(b"\xff\xd9")
    if start.startswith(PNG_START):
        return end[4:8] == b"IEND"
    if start[:4] == b"RIFF":
        return int(struct.unpack_from("<I", start, 4)[0]) + 8 <= size
    order = byte_order(start)
    return size > 0 and (not order or struct.unpack_from(order + "I", start, 4)[0] < size)


def write_deep(path: Path, image: DeepImage) -> list[str]:
    """Write a picture with its metadata; the file appears when it is complete.

    It is written straight to the disk: no encoded copy is held in memory.

    Args:
        path: the suffix chooses the format.
        image: the picture, upright.

    Returns:
        What the format has no room for, for example "16 bits" or "EXIF".

    Raises:
        EvitError: the format is unknown or too small, or the file cannot be written.
    """
    check_sides(path, image.size_hw)
    image, lost = _for_format(image, path.suffix.lower())
    stored = np.ascontiguousarray(image.stored)
    partial = path.with_name(f".{path.stem}.evit-partial{path.suffix}")
    with writing(path):
        try:
            with quiet_opencv():
                done = cv2.imwrite(str(partial), stored, [cv2.IMWRITE_PNG_COMPRESSION, 3])
            if not done or not _is_complete(partial):
                _why_not(partial, stored.nbytes)
                raise EvitError(f"{path} cannot be encoded")
            exif = made_upright(image.metadata.exif, image.size_hw)
            metadata = replace(image.metadata, exif=exif).for_channels(image.channels)
            lost += embed(partial, metadata, image.size_hw)
            os.replace(partial, path)
        except cv2.error as error:
            raise EvitError(
                f"images cannot be written as '{path.suffix}'", hint="use .png, .jpg or .webp"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
    return lost


def _why_not(partial: Path, size: int) -> None:
    """Let the operating system say why a file could not be written, if it will.

    OpenCV says nothing and takes its file away, so that there is room again: as much is written
    once more as the picture can take.

    Raises:
        OSError: it does.
    """
    with partial.open("wb") as file:
        for _ in range(size // len(_PROBE) + 1):
            file.write(_PROBE)
        file.flush()
        os.fsync(file.fileno())


class DeepImageSource(ImageSource):
    """The images of a source with all they have.

    Args:
        source: where they are.
    """

    def __init__(self, source: ImageSource) -> None:
        super().__init__(source.paths, name=source.name, root=Path(source.root))

    def frames(self) -> Iterator[Frame]:
        """Every image that decodes, in `Frame.deep`; of several, the others are in `skipped`."""
        for index, (path, name) in enumerate(zip(self.paths, self.names, strict=True)):
            try:
                deep = read_deep(path)
            except EvitError as error:
                if len(self.paths) == 1:
                    raise
                self.skipped.add(error.message)
                continue
            yield Frame(deep.rgb_u8(), index, name, deep=deep)


class DeepStillsOutput(StillsOutput):
    """One image file per frame, with all that came with it.

    Args:
        names: the names.
        kind: what to add to each name.
        force: overwrite.

    Attributes:
        notes: what could not be kept, each thing once.
    """

    def __init__(self, names: OutputNames, kind: str, *, force: bool = False) -> None:
        super().__init__(names, kind, force=force)
        self.notes: list[str] = []

    def path_for(self, frame: Frame) -> Path:
        """Where the picture made from `frame` goes."""
        return self._names.still(frame.name, self._kind, picture_suffix(frame.name))

    def write_deep(self, frame: Frame, image: DeepImage) -> None:
        """Write the picture made from `frame`."""
        path = self.path_for(frame)
        self._names.new_folders.make(path.parent)
        for what in write_deep(path, image):
            kind = "JPEG" if path.suffix.lower() in LOSSY[:2] else path.suffix[1:].upper()
            note = f"{kind} files have no room for {what}"
            if note not in self.notes:
                self.notes.append(note)
        self.written.append(path)
