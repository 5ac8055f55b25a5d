"""Real RTSP: FFmpeg's client in evit against a camera on loopback."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from evit_cli.errors import EvitError
from evit_cli.media.frame import Frame, SourceKind
from evit_cli.media.open import open_source
from evit_cli.media.outputs import MovieOutput, OutputNames
from evit_cli.media.pipeline import Pipeline
from tests.helpers.media_files import number_of, numbers_in
from tests.helpers.rtsp_server import Camera, End, RtspServer

pytestmark = pytest.mark.usefixtures("without_reconnecting")
QUICK = 200
"""Frames per second at which a test does not take long."""


def test_frames_of_a_camera() -> None:
    with RtspServer(Camera(frames=90, rate=60)) as camera, open_source(camera.url) as source:
        assert (source.kind, source.name) == (SourceKind.LIVE, "127.0.0.1")
        frames = list(source.frames())
    numbers = [number_of(frame.image_rgb_u8) for frame in frames]
    assert numbers == sorted(set(numbers))
    assert len(numbers) + source.dropped == 90
    assert [frame.index for frame in frames] == list(range(len(frames)))
    times = [float(frame.time_s or 0) for frame in frames]
    assert times[0] == 0 and times == sorted(set(times))
    assert frames[0].image_rgb_u8.shape == (96, 128, 3)
    assert camera.requests[:4] == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY"]


def test_large_frames_come_in_fragments() -> None:
    size_hw = (720, 1280)
    with RtspServer(Camera(12, rate=30, size_hw=size_hw)) as camera, open_source(camera.url) as s:
        frames = list(s.frames())
    assert frames and all(frame.image_rgb_u8.shape == (*size_hw, 3) for frame in frames)
    assert s.skipped.count == 0


def test_a_slow_reader_gets_the_newest_frame() -> None:
    with RtspServer(Camera(frames=80, rate=40)) as camera, open_source(camera.url) as source:
        numbers = []
        for frame in source.frames():
            numbers.append(number_of(frame.image_rgb_u8))
            time.sleep(0.1)  # a model at ten frames a second
    assert source.dropped > 30
    assert len(numbers) + source.dropped == 80
    assert numbers[-1] == 79
    assert numbers == sorted(set(numbers))


@pytest.mark.parametrize("end", [End.CLOSE, End.BYE])
def test_a_camera_that_goes_away_ends_the_run(end: End) -> None:
    camera = Camera(frames=30, rate=QUICK, end=end)
    with RtspServer(camera), open_source(camera.url) as source:
        started = time.monotonic()
        frames = list(source.frames())
    assert len(frames) + source.dropped == 30
    assert time.monotonic() - started < 8


@pytest.mark.slow
def test_a_camera_that_falls_silent_ends_the_run() -> None:
    camera = Camera(frames=60, rate=100, end=End.SILENT)
    with RtspServer(camera), open_source(camera.url) as source:
        started = time.monotonic()
        frames = list(source.frames())
    assert frames
    assert 4 < time.monotonic() - started < 25
    assert source.skipped.count == 1
    assert "reading stopped" in source.skipped.first[0]


def test_closing_does_not_wait_for_the_camera() -> None:
    camera = Camera(frames=1000, rate=60)
    with RtspServer(camera), open_source(camera.url) as source:
        frames = source.frames()
        next(frames)
        started = time.monotonic()
        source.close()
        list(frames)
        assert time.monotonic() - started < 2
    assert not [t for t in threading.enumerate() if t.name == "evit-live" and t.is_alive()]


def test_passwords() -> None:
    with RtspServer(Camera(frames=10, rate=QUICK, password="user:secret")) as camera:
        with open_source(camera.url.replace("//", "//user:secret@")) as source:
            assert list(source.frames())
        with pytest.raises(EvitError, match=r"cannot be opened: .*401") as caught:
            open_source(camera.url.replace("//", "//user:wrong@")).__enter__()
        assert "wrong" not in caught.value.message


class _Writer:
    """What the pipeline needs of a writer, around the real movie or nothing."""

    def __init__(self, movie: MovieOutput | None = None) -> None:
        self._movie = movie

    def write(self, frame: Frame, result: object) -> None:
        if self._movie is not None:
            self._movie.write(frame, frame.image_rgb_u8)

    def close(self) -> None:
        if self._movie is not None:
            self._movie.close()

    def abort(self) -> None:
        raise AssertionError("there is no reason to throw the movie away")


def test_a_lost_camera_leaves_the_movie_so_far(tmp_path: Path) -> None:
    camera = Camera(frames=60, rate=60, end=End.CLOSE)
    with RtspServer(camera), open_source(camera.url) as source:
        names = OutputNames(source, ["overlay"], tmp_path / "out.mp4")
        writer = _Writer(MovieOutput(names, "overlay", source=source))
        done = Pipeline(source, lambda frame: time.sleep(0.03), writer).run(lambda f, r: None)
    numbers = numbers_in(tmp_path / "out.mp4")
    assert len(numbers) == done.frames > 5
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 59


def test_the_model_works_on_the_newest_frame() -> None:
    camera = Camera(frames=150, rate=60)
    behind = []

    def model(frame: Frame) -> None:
        behind.append(time.monotonic() - number_of(frame.image_rgb_u8) / camera.rate)
        time.sleep(0.15)

    with RtspServer(camera), open_source(camera.url) as source:
        Pipeline(source, model, _Writer()).run(lambda f, r: None)
    late = sorted(moment - min(behind) for moment in behind)
    assert late[len(late) // 2] < 0.1  # frames in a queue would be as old as the model takes
