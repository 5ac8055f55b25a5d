"""Frames become JPEGs in a thread of their own: each at most once, and only if somebody waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2

from evit_cli.errors import EvitError
from evit_cli.media.frame import ImageU8

BOUNDARY = "evit-frame"
QUALITY = 80

Draw = Callable[[], ImageU8]


@dataclass(frozen=True)
class Jpeg:
    """An encoded frame.

    Attributes:
        number: of the frame, from 1.
        data: the file.
        part: the file as a part of a multipart stream, up to the next part's boundary. That comes
            first, because browsers show a part only when they see its end.
    """

    number: int
    data: bytes
    part: bytes


def encode(number: int, image_rgb_u8: ImageU8) -> Jpeg:
    """Encode one (H, W, 3) picture.

    Raises:
        EvitError: it is too large for a JPEG.
    """
    try:
        done, coded = cv2.imencode(
            ".jpg",
            cv2.cvtColor(image_rgb_u8, cv2.COLOR_RGB2BGR),
            [cv2.IMWRITE_JPEG_QUALITY, QUALITY],
        )
    except cv2.error as error:
        raise EvitError(f"OpenCV cannot encode a frame: {error.err}") from error
    if not done:
        raise EvitError("a frame cannot be encoded as JPEG")
    data = coded.tobytes()
    lines = ("Content-Type: image/jpeg", f"Content-Length: {len(data)}", f"X-Frame: {number}")
    before = "\r\n".join([*lines, "", ""]).encode()
    return Jpeg(number, data, b"".join([before, data, f"\r\n--{BOUNDARY}\r\n".encode()]))


class Encoder:
    """Holds the newest frame, and draws and encodes it when it is wanted.

    Args:
        publish: gets each JPEG, in the encoder's thread.

    Attributes:
        count: how many frames were encoded.
        problem: why a frame could not be drawn or encoded; empty if all is well.
    """

    def __init__(self, publish: Callable[[Jpeg], None]) -> None:
        self._publish = publish
        self._changed = threading.Condition()
        self._draw: Draw | None = None
        self._number = self._wanted = 0
        self._last: Jpeg | None = None
        self._stopped = False
        self.count = 0
        self.problem = ""
        self._thread = threading.Thread(target=self._run, name="evit-jpeg", daemon=True)
        self._thread.start()

    def offer(self, draw: Draw) -> None:
        """Take note of a newer frame; costs next to nothing."""
        with self._changed:
            self._draw = draw
            self._number += 1
            if self._wanted:
                self._changed.notify_all()

    def want(self, more: int) -> None:
        """So many more (or fewer) are waiting for frames."""
        with self._changed:
            self._wanted += more
            self._changed.notify_all()

    def current(self) -> Jpeg | None:
        """The newest frame, if it is encoded already."""
        with self._changed:
            last = self._last
            return last if last is not None and last.number == self._number else None

    def finish(self, patience_s: float) -> None:
        """Encode the newest frame if it is wanted, then end."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(patience_s)
        with self._changed:
            self._draw = self._last = None

    def _run(self) -> None:
        while (taken := self._next()) is not None:
            number, draw = taken
            try:
                jpeg = encode(number, draw())
            except Exception as error:  # whatever it is, the run itself must go on
                self.problem = self.problem or f"a frame could not be streamed: {error}"
                continue
            with self._changed:
                self._last = jpeg
                self.count += 1
            self._publish(jpeg)
            del jpeg, draw, taken  # not to hold them until the next is wanted

    def _next(self) -> tuple[int, Draw] | None:
        """Wait for a frame that is new and wanted; None at the end."""
        with self._changed:
            while not (self._wanted and self._draw is not None):
                if self._stopped:
                    return None
                self._changed.wait()
            draw, self._draw = self._draw, None
            return self._number, draw
