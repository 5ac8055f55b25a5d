"""EXIF blocks and TIFF directories, which are the same thing: reading, building, changing."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

ORIENTATION, EXIF_POINTER, GPS_POINTER, ICC_PROFILE = 274, 34665, 34853, 34675
_INTEROP_POINTER, _PIXEL_WIDTH, _PIXEL_HEIGHT = 40965, 40962, 40963
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of a value by its type."""
_UNITS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}
"""Bytes that change places between the two byte orders; a rational is two numbers."""
_SHORT, _LONG = 3, 4
_MOST_ENTRIES = 1000
_TELLING = (270, 271, 272, 282, 283, 296, 305, 306, 315, 316, 33432, 36867, 40091, 40092, 40093)
"""Tags of a TIFF's first directory that say something of the picture, not of the file: its
description, camera, resolution, software, time, artist and rights."""


class Entry(NamedTuple):
    """One tag with its values, `values` of `kind`, as bytes in the block's order."""

    tag: int
    kind: int
    values: int
    value: bytes


@dataclass(frozen=True)
class Directories:
    """What an EXIF block holds, without its thumbnail.

    Attributes:
        order: "<" or ">", of all values.
        main: tags of the picture, without the pointers to the other two.
        exif: tags of the exposure.
        gps: tags of the place.
    """

    order: str = "<"
    main: list[Entry] = field(default_factory=list)
    exif: list[Entry] = field(default_factory=list)
    gps: list[Entry] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.main or self.exif or self.gps)


def byte_order(block: bytes) -> str:
    """The order of a TIFF or EXIF block, empty if it is neither (or a BigTIFF)."""
    return {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(block[:4]), "")


class _Place(NamedTuple):
    """An entry and where in the block its twelve bytes are."""

    entry: Entry
    at: int


def _entries(block: bytes, order: str, offset: int) -> tuple[list[_Place], int]:
    """The entries at `offset` and where the next directory's offset stands; 0 if it is broken."""
    if not 8 <= offset <= len(block) - 2:
        return [], 0
    (count,) = struct.unpack_from(order + "H", block, offset)
    found: list[_Place] = []
    for at in range(offset + 2, offset + 2 + 12 * min(count, _MOST_ENTRIES), 12):
        if at + 12 > len(block):
            return found, 0
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        size = _SIZES.get(kind, 0) * values
        if not size:
            continue
        start = at + 8 if size <= 4 else struct.unpack_from(order + "I", block, at + 8)[0]
        if start + size <= len(block):
            value = bytes(block[start : start + size])
            found.append(_Place(Entry(tag, kind, values, value), at))
    following = offset + 2 + 12 * count
    return found, following if following + 4 <= len(block) else 0


def _number(entry: Entry, order: str) -> int:
    """The first value of a whole number."""
    if entry.kind not in (_SHORT, _LONG):
        return 0
    return int(struct.unpack_from(order + ("H" if entry.kind == _SHORT else "I"), entry.value)[0])


def _find(places: Iterable[_Place], tag: int, order: str) -> int:
    """The number of a tag, 0 without it."""
    return next((_number(p.entry, order) for p in places if p.entry.tag == tag), 0)


def _first(block: bytes) -> tuple[str, list[_Place], int]:
    order = byte_order(block)
    if not order or len(block) < 8:
        return "", [], 0
    places, following = _entries(block, order, struct.unpack_from(order + "I", block, 4)[0])
    return order, places, following


def orientation_of(block: bytes) -> int:
    """EXIF's orientation, 1 to 8; 1 if nothing sensible is said."""
    order, places, _ = _first(block)
    value = _find(places, ORIENTATION, order)
    return value if 1 <= value <= 8 else 1


def read_directories(block: bytes, *, telling: bool = False) -> Directories:
    """What an EXIF block, or a TIFF file, says.

    Args:
        block: all of it.
        telling: leave out tags that say how a TIFF's pixels are stored.
    """
    order, places, _ = _first(block)
    if not order:
        return Directories()
    pointers = (EXIF_POINTER, GPS_POINTER)
    below = (_entries(block, order, _find(places, tag, order))[0] for tag in pointers)
    exif, gps = ([p.entry for p in found if p.entry.tag != _INTEROP_POINTER] for found in below)
    main = [p.entry for p in places if p.entry.tag not in pointers]
    if telling:
        main = [entry for entry in main if entry.tag in _TELLING]
    return Directories(order, main, exif, gps)


def icc_in_tiff(data: bytes) -> bytes:
    """The colour profile of a TIFF file, empty without one."""
    places = _first(data)[1]
    return next((p.entry.value for p in places if p.entry.tag == ICC_PROFILE), b"")


def pack_entries(entries: Iterable[Entry], order: str, at: int) -> bytes:
    """A directory that will stand at the even offset `at`, with its values behind it."""
    entries = sorted(entries)
    head = struct.pack(order + "H", len(entries))
    values = b""
    first_value = at + 2 + 12 * len(entries) + 4
    for entry in entries:
        head += struct.pack(order + "HHI", *entry[:3])
        if len(entry.value) <= 4:
            head += entry.value.ljust(4, b"\0")
        else:
            head += struct.pack(order + "I", first_value + len(values))
            values += entry.value + b"\0" * (len(entry.value) % 2)
    return head + bytes(4) + values


def pack_with_pointers(
    parts: Directories, at: int, extra: Iterable[Entry] = ()
) -> tuple[bytes, int]:
    """All directories as bytes that will stand at the even offset `at`, and where `main` is."""
    packed, main = b"", [*parts.main, *extra]
    for tag, entries in ((EXIF_POINTER, parts.exif), (GPS_POINTER, parts.gps)):
        if entries:
            place = at + len(packed)
            main.append(Entry(tag, _LONG, 1, struct.pack(parts.order + "I", place)))
            packed += pack_entries(entries, parts.order, place)
    place = at + len(packed)
    return packed + pack_entries(main, parts.order, place), place


def pack_block(parts: Directories) -> bytes:
    """An EXIF block that holds the directories; empty if they are."""
    if not parts:
        return b""
    packed, main = pack_with_pointers(parts, 8)
    mark = b"II*\0" if parts.order == "<" else b"MM\0*"
    return mark + struct.pack(parts.order + "I", main) + packed


def _swapped(entry: Entry) -> Entry:
    unit = _UNITS.get(entry.kind, 1)
    groups = (entry.value[i : i + unit][::-1] for i in range(0, len(entry.value), unit))
    return entry._replace(value=b"".join(groups))


def in_order(parts: Directories, order: str) -> Directories:
    """The same directories with their values in the other byte order, if that is asked for."""
    if parts.order == order:
        return parts
    lists = (parts.main, parts.exif, parts.gps)
    return Directories(order, *([_swapped(entry) for entry in entries] for entries in lists))


def made_upright(block: bytes, size_hw: tuple[int, int]) -> bytes:
    """An EXIF block for a picture that was turned upright and has a new size.

    Nothing changes its place, because makers' notes point into the block: the orientation becomes
    1, the pixel size that of the picture, and the thumbnail, which shows the old one, is left out.
    """
    order, places, following = _first(block)
    if not order:
        return b""
    changed = bytearray(block)
    exif, _ = _entries(block, order, _find(places, EXIF_POINTER, order))
    wanted = {ORIENTATION: 1, _PIXEL_HEIGHT: size_hw[0], _PIXEL_WIDTH: size_hw[1]}
    for entry, at in (*places, *exif):
        if entry.tag in wanted and entry.kind in (_SHORT, _LONG) and entry.values == 1:
            kind = "H" if entry.kind == _SHORT else "I"
            most = 0xFFFF if kind == "H" else 0xFFFFFFFF
            struct.pack_into(order + kind, changed, at + 8, min(wanted[entry.tag], most))
    if following:
        struct.pack_into("4x", changed, following)
    return bytes(changed)
