from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import evit_cli.media.live as live_room
from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, Problems, Source, SourceKind
from evit_cli.media.live import CameraSource, NewestFrame

PICTURE = np.zeros((4, 6, 3), np.uint8)


class Counter:
    """A live source that gives a frame whenever the test lets it."""

    kind = SourceKind.LIVE
    name = "counter"
    frame_count: int | None = None
    rate: Fraction | None = Fraction(30)
    path: Path | None = None
    dropped = 0

    def __init__(self, *, fails: Exception | None = None) -> None:
        self.skipped = Problems()
        self.closed = False
        self._fails = fails
        self._steps: list[int] = []
        self._changed = threading.Condition()
        self._given = 0

    def give(self, count: int) -> None:
        """Let `count` frames out, and wait until they are taken; -1 ends the source."""
        with self._changed:
            self._steps += [count]
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._steps, timeout=5)

    def frames(self) -> Iterator[Frame]:
        while not self.closed:
            with self._changed:
                self._changed.wait_for(lambda: self._steps or self.closed, timeout=5)
                count = self._steps[0] if self._steps else -1
            for _ in range(count):
                yield Frame(PICTURE, self._given, self.name, time_s=Fraction(self._given, 30))
                self._given += 1
            with self._changed:
                self._steps.clear()
                self._changed.notify_all()
            if count < 0:
                if self._fails is not None:
                    raise self._fails
                return

    def close(self) -> None:
        self.closed = True
        with self._changed:
            self._changed.notify_all()


def later(work: Any) -> None:
    threading.Thread(target=work, daemon=True).start()


def test_the_newest_frame_wins() -> None:
    counter = Counter()
    newest = NewestFrame(counter)
    frames = newest.frames()
    later(lambda: counter.give(1))
    assert next(frames).index == 0
    counter.give(5)
    assert newest.dropped == 4  # four were overtaken while nobody asked
    second = next(frames)
    assert second.index == 1
    later(lambda: counter.give(-1))
    assert list(frames) == []
    assert newest.dropped == 4


def test_times_are_those_of_arrival_and_begin_with_zero() -> None:
    counter = Counter()
    frames = NewestFrame(counter).frames()
    later(lambda: counter.give(1))
    time.sleep(0.05)
    first = next(frames)
    time.sleep(0.1)
    counter.give(1)
    second = next(frames)
    assert first.time_s == 0
    assert 0.05 < float(second.time_s or 0) < 2
    frames.close()  # type: ignore[attr-defined]
    assert counter.closed


def test_an_error_comes_after_the_frames_before_it() -> None:
    counter = Counter(fails=EvitError("unplugged"))
    frames = NewestFrame(counter).frames()
    later(lambda: (counter.give(1), counter.give(-1)))
    next(frames)
    with pytest.raises(EvitError, match="unplugged"):
        list(frames)


def test_closing_ends_the_thread() -> None:
    counter = Counter()
    newest = NewestFrame(counter)
    frames = newest.frames()
    later(lambda: counter.give(1))
    next(frames)
    closer = threading.Timer(0.05, newest.close)
    closer.start()
    assert list(frames) == []
    closer.join()
    assert not [t for t in threading.enumerate() if t.name == "evit-live"]


def test_it_looks_like_the_source_it_wraps() -> None:
    counter = Counter()
    counter.skipped.add("one")
    newest: Source = NewestFrame(counter)
    assert (newest.kind, newest.name, newest.rate) == (SourceKind.LIVE, "counter", 30)
    assert (newest.frame_count, newest.path, newest.skipped.count) == (None, None, 1)


class Capture:
    """Stands in for `cv2.VideoCapture`: `pictures` good ones, then none."""

    pictures = 3
    opened = True
    fps = 29.97

    def __init__(self, index: int) -> None:
        self.left = self.pictures

    def isOpened(self) -> bool:
        return self.opened

    def get(self, which: int) -> float:
        return self.fps

    def read(self) -> tuple[bool, Any]:
        self.left -= 1
        picture = PICTURE.copy()
        picture[..., 0] = 200  # blue in OpenCV's order
        return (True, picture) if self.left >= 0 else (False, None)

    def release(self) -> None:
        pass


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> type[Capture]:
    own = type("Own", (Capture,), {})
    monkeypatch.setattr(live_room.cv2, "VideoCapture", own)
    return own


def test_camera(capture: type[Capture]) -> None:
    camera = CameraSource(2)
    assert (camera.name, camera.kind, camera.rate) == (
        "camera2",
        SourceKind.LIVE,
        Fraction(2997, 100),
    )
    frames = list(camera.frames())
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert frames[0].image_rgb_u8[0, 0].tolist() == [0, 0, 200]
    # It was unplugged: what was recorded stays, and the reason is told.
    assert camera.skipped.first == ["camera2 stopped after 3 frames"]


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e9])
def test_a_camera_that_does_not_know_its_rate(capture: type[Capture], fps: float) -> None:
    capture.fps = fps
    assert CameraSource(0).rate == 30


def test_a_camera_without_a_picture(capture: type[Capture]) -> None:
    capture.pictures = 0
    with pytest.raises(EvitError, match="camera0 gives no picture"):
        list(CameraSource(0).frames())


def test_no_camera(capture: type[Capture]) -> None:
    capture.opened = False
    with pytest.raises(EvitError, match="camera 7 cannot be opened") as caught:
        CameraSource(7)
    assert "v4l2-ctl" in caught.value.hint


def test_closing_a_camera(capture: type[Capture]) -> None:
    capture.pictures = 10**9
    camera = CameraSource(0)
    frames = camera.frames()
    next(frames)
    camera.close()
    assert list(frames) == []
