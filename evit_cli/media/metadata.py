"""Colour profile and EXIF of an encoded image: taken out of one file, put into another.

OpenCV drops both before version 4.12, and those of TIFF in every version.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from evit_cli.media.exif import byte_order, icc_in_tiff, pack_block, read_directories

PNG_START = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8"
JPEG_EXIF, JPEG_ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_STANDALONE = (0x01, *range(0xD0, 0xD8))
_START_OF_SCAN = 0xDA
_LARGEST_PROFILE = 64 << 20
"""A zipped profile may claim to be of any size."""


@dataclass(frozen=True)
class Metadata:
    """What belongs to a picture beside its pixels.

    Attributes:
        icc: the colour profile, empty if there is none.
        exif: the EXIF block without any prefix ("II*" or "MM*" first), empty if there is none.
    """

    icc: bytes = b""
    exif: bytes = b""

    def for_channels(self, channels: int) -> Metadata:
        """Without a profile that is not for grey (1 channel) or RGB (3 or 4), such as CMYK's."""
        fits = self.icc[16:20] == (b"GRAY" if channels == 1 else b"RGB ")
        return self if fits or not self.icc else Metadata(exif=self.exif)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # padding
            position += 1
        elif marker in _STANDALONE:
            position += 2
        elif marker == _START_OF_SCAN:
            return
        else:
            (size,) = struct.unpack_from(">H", data, position + 2)
            yield marker, data[position + 4 : position + 2 + size]
            position += 2 + max(size, 2)


def _from_jpeg(data: bytes) -> Metadata:
    exif, parts, count = b"", {}, 0
    for marker, body in _jpeg_segments(data):
        if marker == 0xE1 and body.startswith(JPEG_EXIF) and not exif:
            exif = body[len(JPEG_EXIF) :]
        elif marker == 0xE2 and body.startswith(JPEG_ICC) and len(body) > len(JPEG_ICC) + 2:
            number, count = body[len(JPEG_ICC)], body[len(JPEG_ICC) + 1]
            parts[number] = body[len(JPEG_ICC) + 2 :]
    whole = sorted(parts) == list(range(1, count + 1))
    return Metadata(b"".join(parts[n] for n in sorted(parts)) if whole else b"", exif)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of every chunk of a PNG."""
    position = len(PNG_START)
    while position + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        yield data[position + 4 : position + 8], data[position + 8 : position + 8 + size]
        position += 12 + size


def _from_png(data: bytes) -> Metadata:
    icc = exif = b""
    for name, body in png_chunks(data):
        if name == b"eXIf":
            exif = body
        elif name == b"iCCP":
            zipped = body[body.find(b"\0") + 2 :]
            unzip = zlib.decompressobj()
            try:
                icc = unzip.decompress(zipped, _LARGEST_PROFILE)
            except zlib.error:
                continue
            icc = icc if unzip.eof else b""
    return Metadata(icc, exif)


def riff_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and body of every chunk of a WebP."""
    position = 12
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        yield name, data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _from_webp(data: bytes) -> Metadata:
    chunks = dict(riff_chunks(data))
    return Metadata(chunks.get(b"ICCP", b""), chunks.get(b"EXIF", b"").removeprefix(JPEG_EXIF))


def read_metadata(data: bytes) -> Metadata:
    """Profile and EXIF of an encoded JPEG, PNG, WebP or TIFF.

    Whatever cannot be understood is left out; other formats have neither.
    """
    if data.startswith(JPEG_START):
        found = _from_jpeg(data)
    elif data.startswith(PNG_START):
        found = _from_png(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        found = _from_webp(data)
    elif byte_order(data):
        found = Metadata(icc_in_tiff(data), pack_block(read_directories(data, telling=True)))
    else:
        return Metadata()
    return found if byte_order(found.exif) or not found.exif else Metadata(icc=found.icc)
