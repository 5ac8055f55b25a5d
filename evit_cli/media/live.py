"""Live sources: cameras, and the rule that the newest frame wins."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, Problems, Source, SourceKind
from evit_cli.media.opencv_log import quiet_opencv
from evit_cli.media.video import DEFAULT_RATE

_READ_ATTEMPTS = 20
_POLL_S = 0.2
_JOIN_S = 2.0
"""A read from a network that went silent may take longer; its thread is a daemon."""


class CameraSource:
    """A camera by its index (OpenCV; V4L2 on Linux).

    Args:
        index: 0 for the first camera.

    Raises:
        EvitError: no such camera, or it gives no picture.
    """

    kind = SourceKind.LIVE
    path: Path | None = None
    frame_count: int | None = None

    def __init__(self, index: int) -> None:
        self.name = f"camera{index}"
        self.skipped = Problems()
        self.dropped = 0
        self._stopped = False
        with quiet_opencv():
            self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise EvitError(
                f"camera {index} cannot be opened",
                hint="`v4l2-ctl --list-devices` shows the cameras; is another program using it?",
            )
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate: Fraction | None = (
            Fraction(fps).limit_denominator(1001) if 1 <= fps <= 1000 else DEFAULT_RATE
        )

    def frames(self) -> Iterator[Frame]:
        """Frames until the camera is closed or stops answering.

        Raises:
            EvitError: it gives no picture at all.
        """
        started = time.monotonic()
        index = failures = 0
        try:
            while not self._stopped:
                done, image = self._capture.read()
                if not done:
                    failures += 1
                    if failures < _READ_ATTEMPTS:
                        continue
                    if index == 0:
                        raise EvitError(f"{self.name} gives no picture")
                    self.skipped.end(f"{self.name} stopped after {index} frames")
                    return
                failures = 0
                now = Fraction(time.monotonic() - started).limit_denominator(90_000)
                rgb = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                yield Frame(rgb, index, self.name, time_s=now)
                index += 1
        finally:
            self._capture.release()

    def close(self) -> None:
        """Stop after the current frame."""
        self._stopped = True


class Stalled(EvitError):
    """A live source that is open and gives nothing any more."""


class NewestFrame:
    """Wraps a live source so that a slow consumer always gets the latest frame.

    A thread keeps reading; frames that were overtaken are counted in `dropped`. Times are those of
    arrival, so that the written movie runs at the speed of life.

    Args:
        source: the live source; it is read from another thread.
        stall_s: the watchdog: without a frame for so long, `frames` raises `Stalled`. A thread that
            still hangs in the driver or network is left behind then.
    """

    kind = SourceKind.LIVE

    def __init__(self, source: Source, *, stall_s: float = math.inf) -> None:
        self._source = source
        self._stall_s = stall_s
        self.heard_s = 0.0
        """When the last frame came, or reading began, on `time.monotonic`'s clock."""
        self.name = source.name
        self.path = source.path
        self.rate = source.rate
        self.frame_count: int | None = None
        self.dropped = 0
        self._slot: Frame | None = None
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()
        self.started_s: Fraction | None = None
        """When the first frame arrived, on `time.monotonic`'s clock."""

    @property
    def skipped(self) -> Problems:
        """What the wrapped source could not decode."""
        return self._source.skipped

    def _read(self) -> None:
        try:
            for frame in self._source.frames():
                now = Fraction(time.monotonic()).limit_denominator(90_000)
                with self._changed:
                    if self._ended:
                        return
                    self.dropped += self._slot is not None
                    self._slot = replace(frame, time_s=now)
                    self.heard_s = time.monotonic()
                    self._changed.notify()
        except Exception as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _wait(self) -> Frame | None:
        """The newest frame; None when the source has ended.

        Raises:
            Stalled: nothing came for too long.
        """
        with self._changed:
            while self._slot is None and not self._ended:
                self._changed.wait(_POLL_S)
                if self._slot is None and time.monotonic() - self.heard_s > self._stall_s:
                    raise Stalled(f"{self.name} gave no frame for {self._stall_s:g} s")
            frame, self._slot = self._slot, None
        return frame

    def frames(self) -> Iterator[Frame]:
        """The newest frame each time one is asked for, until the source ends.

        Raises:
            EvitError: what the source raised, after the frames before it.
            Stalled: it gave no frame for `stall_s`.
        """
        reader = threading.Thread(target=self._read, name="evit-live", daemon=True)
        self.heard_s = time.monotonic()
        reader.start()
        index = 0
        try:
            while (frame := self._wait()) is not None:
                arrived = frame.time_s or Fraction(0)
                if self.started_s is None:
                    self.started_s = arrived
                yield replace(frame, index=index, time_s=arrived - self.started_s)
                index += 1
        finally:
            self.close()
            reader.join(_JOIN_S)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop the reading thread and the source."""
        self._source.close()
        with self._changed:
            self._ended = True
            self._slot = None
            self._changed.notify()
