"""csi://0?width=1920&height=1080&fps=30&flip=180: a camera on the board's own connector."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from urllib.parse import parse_qsl, urlsplit

from evit_cli.errors import EvitError, suggest

FLIPS = ("none", "90", "180", "270", "horizontal", "vertical")
"""How to turn the picture: clockwise degrees, or a mirror."""
_KEYS = ("width", "height", "fps", "flip")
_LARGEST_SIDE, _FASTEST = 16_384, 1000


@dataclass(frozen=True)
class CsiCamera:
    """What the address says.

    Attributes:
        sensor: which connector, 0 for the first.
        width: in pixels as the sensor delivers it, before turning.
        height: the same.
        fps: frames per second; the sensor's driver has a list of what it can do.
        flip: one of `FLIPS`.
    """

    sensor: int = 0
    width: int = 1280
    height: int = 720
    fps: Fraction = Fraction(30)
    flip: str = "none"


def parse_csi(text: str) -> CsiCamera:
    """Read an address.

    Raises:
        EvitError: it is none, or asks for what no camera has.
    """
    hint = "for example csi://0?width=1920&height=1080&fps=30&flip=180"
    parts = urlsplit(text)
    number = (parts.netloc or "0") + parts.path.rstrip("/")
    if parts.scheme != "csi" or not (number.isdecimal() and number.isascii() and len(number) < 3):
        raise EvitError(f"{text} names no CSI camera", hint=hint)
    try:
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True))
    except ValueError:
        given = {} if not parts.query else {parts.query: ""}
    for key in given:
        if key not in _KEYS:
            raise EvitError(f"a CSI camera has no '{key}'", hint=suggest(key, _KEYS))
    usual = CsiCamera()
    flip = given.get("flip", "none").lower()
    if flip not in FLIPS:
        raise EvitError(f"a picture cannot be turned by '{flip}'", hint=suggest(flip, FLIPS))
    width, height = _side(given, "width", usual.width), _side(given, "height", usual.height)
    return CsiCamera(int(number), width, height, _fps(given, usual.fps), flip)


def _side(given: dict[str, str], key: str, usual: int) -> int:
    text = given.get(key, str(usual))
    plain = text.isdecimal() and text.isascii() and len(text) < 6
    if not (plain and 16 <= int(text) <= _LARGEST_SIDE and int(text) % 2 == 0):
        raise EvitError(
            f"a CSI camera's {key} cannot be '{text}'",
            hint=f"an even number from 16 to {_LARGEST_SIDE}; `v4l2-ctl --list-formats-ext` lists "
            "what the sensor has",
        )
    return int(text)


def _fps(given: dict[str, str], usual: Fraction) -> Fraction:
    text = given.get("fps", str(usual))
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= _FASTEST:
        raise EvitError(
            f"a CSI camera's fps cannot be '{text}'", hint="for example 30 or 30000/1001"
        )
    return fps.limit_denominator(1001)
