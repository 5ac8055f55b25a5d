"""Which way up a picture was taken, and turning it."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_ORIENTATION_TAG = 274


class Turn(NamedTuple):
    """Swap rows with columns, then mirror: all eight ways a picture can lie."""

    transpose: bool = False
    left_right: bool = False
    up_down: bool = False


UPRIGHT = Turn()
EXIF_TURNS = {
    1: UPRIGHT,
    2: Turn(left_right=True),
    3: Turn(left_right=True, up_down=True),
    4: Turn(up_down=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, left_right=True),
    7: Turn(transpose=True, left_right=True, up_down=True),
    8: Turn(transpose=True, up_down=True),
}
"""What EXIF's orientation numbers ask for."""


def turned(image: npt.NDArray[Any], turn: Turn) -> npt.NDArray[Any]:
    """`image` (H, W[, C]) with `turn` done to it; the same array if there is nothing to do."""
    if turn == UPRIGHT:
        return image
    if turn.transpose:
        image = image.swapaxes(0, 1)
    if turn.left_right:
        image = image[:, ::-1]
    if turn.up_down:
        image = image[::-1]
    return np.ascontiguousarray(image)


def display_turn(frame: Any) -> Turn:
    """What a video frame's display matrix asks for, to the nearest right angle."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    # (x, y) of the stored picture is shown at (a x + c y, b x + d y), row by row a b u c d v x y w.
    a, b, _, c, d = struct.unpack_from("=5i", bytes(data))
    if abs(a) >= abs(b):
        return Turn(False, a < 0, d < 0)
    return Turn(True, c < 0, b < 0)


def _orientation_in(exif: bytes) -> int:
    """The orientation in a block of EXIF (a TIFF directory), 1 if there is none."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = ">" if exif[:2] == b"MM" else "<"
    try:
        (first,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION_TAG:
                return int(value)
    except struct.error:
        pass
    return 1


def exif_turn(data: bytes) -> Turn:
    """What the EXIF block of an encoded PNG or WebP asks for."""
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        position, size_first, order, wanted, extra = 8, True, ">I", b"eXIf", 4
    elif data[:4] == b"RIFF":
        position, size_first, order, wanted, extra = 12, False, "<I", b"EXIF", 0
    else:
        return UPRIGHT
    while position + 8 <= len(data):
        name_at, size_at = (position + 4, position) if size_first else (position, position + 4)
        (size,) = struct.unpack_from(order, data, size_at)
        if data[name_at : name_at + 4] == wanted:
            exif = data[position + 8 : position + 8 + size]
            return EXIF_TURNS.get(_orientation_in(exif), UPRIGHT)
        position += 8 + size + (extra or size % 2)  # PNG: a checksum; RIFF: even sizes
    return UPRIGHT
