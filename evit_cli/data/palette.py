"""Label PNGs with a colour palette, as Pascal VOC has them and many label tools write them.

OpenCV gives the palette's colours in place of the indices; they are looked up again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPE_AT = 25
_INDEXED = 3


def has_palette(data: bytes) -> bool:
    """Whether an encoded image is a PNG whose pixels are palette indices."""
    return (
        data.startswith(_SIGNATURE)
        and len(data) > _COLOR_TYPE_AT
        and data[_COLOR_TYPE_AT] == _INDEXED
    )


def palette_indices(
    data: bytes, image_bgr_u8: npt.NDArray[Any], path: Path
) -> npt.NDArray[np.uint8]:
    """The indices behind a decoded image's colours.

    Args:
        data: the PNG.
        image_bgr_u8: (H, W, 3 or 4) as OpenCV decodes it; transparency is left aside.
        path: of the file, for messages.

    Returns:
        (H, W) palette indices.

    Raises:
        EvitError: the palette is missing, or holds a colour twice (the colour that fills it up to
            its end may repeat).
    """
    colors = _colors(data, path)
    codes = (colors.astype(np.int64) @ (1 << 16, 1 << 8, 1)).tolist()
    used = len(codes)
    while used > 1 and codes[used - 2] == codes[-1]:
        used -= 1
    first: dict[int, int] = {}
    for index, code in enumerate(codes[:used]):
        if code in first and code != codes[-1]:
            raise EvitError(
                f"{path} has one colour for the classes {first[code]} and {index}",
                hint="save class indices as a grey PNG without a palette",
            )
        first.setdefault(code, index)
    known = np.array(sorted(first))
    indices = np.array([first[code] for code in known.tolist()], np.uint8)
    pixels = image_bgr_u8[..., :3].astype(np.int64) @ (1, 1 << 8, 1 << 16)
    places = np.searchsorted(known, pixels).clip(max=len(known) - 1)
    return np.asarray(indices[places], dtype=np.uint8)


def _colors(data: bytes, path: Path) -> npt.NDArray[np.uint8]:
    """(n, 3) RGB of the PLTE chunk."""
    position = len(_SIGNATURE)
    while position + 8 <= len(data):
        size = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        content = data[position + 8 : position + 8 + size]
        if kind == b"PLTE" and size and size % 3 == 0 and len(content) == size:
            return np.frombuffer(content, np.uint8).reshape(-1, 3)
        position += 12 + size
    raise EvitError(f"{path} has lost its palette", hint="copy the file again")
