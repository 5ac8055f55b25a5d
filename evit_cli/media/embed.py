"""Puts colour profile and EXIF into an image file that OpenCV has just written."""

from __future__ import annotations

import os
import shutil
import struct
import zlib
from pathlib import Path

from evit_cli.media.exif import (
    ICC_PROFILE,
    ORIENTATION,
    Directories,
    Entry,
    in_order,
    pack_with_pointers,
    read_directories,
)
from evit_cli.media.metadata import (
    JPEG_EXIF,
    JPEG_ICC,
    JPEG_START,
    PNG_START,
    Metadata,
    riff_chunks,
)

_LARGEST_SEGMENT = 0xFFFF - 2
_UNDEFINED = 7
_VP8X_ICC, _VP8X_ALPHA, _VP8X_EXIF = 0x20, 0x10, 0x08
_TIFF_LIMIT = 1 << 32
HOLDERS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff")
"""Suffixes of the formats that have room for both."""


def embed(path: Path, metadata: Metadata, size_hw: tuple[int, int]) -> list[str]:
    """Add to a JPEG, PNG, WebP or TIFF that has neither; other files stay as they are.

    Args:
        path: the file; while this runs it is not complete.
        metadata: what to add.
        size_hw: the picture's height and width in pixels.

    Returns:
        What the format has no room for: "the colour profile", "EXIF".

    Raises:
        OSError: the disk is full.
    """
    if not (metadata.icc or metadata.exif):
        return []
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(JPEG_START):
        return _into_jpeg(path, metadata)
    if start.startswith(PNG_START):
        return _into_png(path, metadata)
    if start[:4] == b"RIFF":
        return _into_webp(path, metadata, size_hw)
    if start[:4] in (b"II*\0", b"MM\0*"):
        return _into_tiff(path, metadata)
    named = (("the colour profile", metadata.icc), ("EXIF", metadata.exif))
    return [name for name, value in named if value]


def _insert(path: Path, at: int, added: bytes) -> None:
    """Put bytes into a file, which may be larger than what fits into memory."""
    whole = path.with_name(path.name + "-whole")
    try:
        with path.open("rb") as old, whole.open("wb") as new:
            new.write(old.read(at) + added)
            shutil.copyfileobj(old, new, 1 << 20)
        os.replace(whole, path)
    finally:
        whole.unlink(missing_ok=True)


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def _into_jpeg(path: Path, metadata: Metadata) -> list[str]:
    lost, added = [], b""
    if metadata.exif:
        body = JPEG_EXIF + metadata.exif
        if len(body) <= _LARGEST_SEGMENT:
            added += _segment(0xE1, body)
        else:
            lost.append("EXIF")
    room = _LARGEST_SEGMENT - len(JPEG_ICC) - 2
    parts = [metadata.icc[i : i + room] for i in range(0, len(metadata.icc), room)]
    if len(parts) > 255:
        lost.append("the colour profile")
    else:
        for number, part in enumerate(parts, 1):
            added += _segment(0xE2, JPEG_ICC + bytes((number, len(parts))) + part)
    _insert(path, len(JPEG_START), added)
    return lost


def _chunk(name: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", checksum)


def _into_png(path: Path, metadata: Metadata) -> list[str]:
    added = b""
    if metadata.icc:
        added += _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    if metadata.exif:
        added += _chunk(b"eXIf", metadata.exif)
    _insert(path, len(PNG_START) + 12 + 13, added)  # behind the header
    return []


def _riff_chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def _into_webp(path: Path, metadata: Metadata, size_hw: tuple[int, int]) -> list[str]:
    """Rewrite the file, which no image of this format makes large."""
    chunks = [
        (n, body) for n, body in riff_chunks(path.read_bytes()) if n not in (b"ICCP", b"EXIF")
    ]
    flags = next((body[0] for name, body in chunks if name == b"VP8X" and body), 0)
    lossless = next((body for name, body in chunks if name == b"VP8L"), b"")
    if len(lossless) >= 5 and lossless[4] & 0x10:
        flags |= _VP8X_ALPHA
    flags |= (_VP8X_ICC if metadata.icc else 0) | (_VP8X_EXIF if metadata.exif else 0)
    sides = b"".join((side - 1).to_bytes(3, "little") for side in reversed(size_hw))
    parts = [(b"VP8X", bytes((flags, 0, 0, 0)) + sides)]
    parts += [(b"ICCP", metadata.icc)] if metadata.icc else []
    parts += [chunk for chunk in chunks if chunk[0] != b"VP8X"]
    parts += [(b"EXIF", metadata.exif)] if metadata.exif else []
    body = b"WEBP" + b"".join(_riff_chunk(*part) for part in parts)
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return []


def _into_tiff(path: Path, metadata: Metadata) -> list[str]:
    """Append a directory that holds the old one's entries and more."""
    with path.open("r+b") as file:
        order = "<" if file.read(4)[:2] == b"II" else ">"
        (at,) = struct.unpack(order + "I", file.read(4))
        file.seek(at)
        count_bytes = file.read(2)
        (count,) = struct.unpack(order + "H", count_bytes)
        raw = file.read(12 * count)
        end = file.seek(0, os.SEEK_END)
        new = in_order(read_directories(metadata.exif), order)
        kept = _raw_entries(raw, order)
        taken = {entry.tag for entry in kept} | {ORIENTATION, ICC_PROFILE}
        main = [*kept, *(entry for entry in new.main if entry.tag not in taken)]
        profile = [Entry(ICC_PROFILE, _UNDEFINED, len(metadata.icc), metadata.icc)]
        start = end + end % 2
        packed, place = pack_with_pointers(
            Directories(order, main, new.exif, new.gps), start, profile if metadata.icc else ()
        )
        if start + len(packed) >= _TIFF_LIMIT:
            return ["the colour profile and EXIF"]
        file.write(b"\0" * (end % 2) + packed)
        file.seek(4)
        file.write(struct.pack(order + "I", place))
    return []


def _raw_entries(raw: bytes, order: str) -> list[Entry]:
    """Entries whose four bytes, a value or an offset that stays right, are kept as they are."""
    found = []
    for at in range(0, len(raw), 12):
        tag, kind, count = struct.unpack_from(order + "HHI", raw, at)
        found.append(Entry(tag, kind, count, raw[at + 8 : at + 12]))
    return found
