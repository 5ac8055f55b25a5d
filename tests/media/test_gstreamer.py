from __future__ import annotations

import shutil
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.errors import EXIT_MISSING, EvitError, MissingDependency
from evit_cli.media.frame import SourceKind
from evit_cli.media.gstreamer import GStreamerSource, launch_arguments, looks_like_pipeline
from evit_cli.media.live import NewestFrame
from evit_cli.media.open import find_source, open_source

needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="gst-launch-1.0 is not installed"
)
RED = "videotestsrc num-buffers={count} pattern=red ! video/x-raw,{caps}"


def red(caps: str, *, count: int = 3, tail: str = "") -> str:
    return RED.format(count=count, caps=caps) + tail


@pytest.mark.parametrize(
    ("text", "is_pipeline"),
    [
        ("videotestsrc ! videoconvert", True),
        ("gst:videotestsrc", True),
        ("drive.mp4", False),
        ("wow!.png", False),
        ("rtsp://camera/!", False),
    ],
)
def test_what_looks_like_a_pipeline(text: str, is_pipeline: bool) -> None:
    assert looks_like_pipeline(text) == is_pipeline


def test_a_sink_is_replaced() -> None:
    plain = launch_arguments("a ! b")
    assert plain[:3] == ["a", "!", "b"]
    for sink in ("appsink", "appsink drop=true max-buffers=1", "autovideosink", "fakesink"):
        assert launch_arguments(f"a ! b ! {sink}") == plain
    assert launch_arguments("gst:a ! b") == plain


def test_quotes() -> None:
    words = launch_arguments("filesrc location='/my films/a b.mp4' ! decodebin")
    assert words[:2] == ["filesrc", "location=/my films/a b.mp4"]
    with pytest.raises(EvitError, match="No closing quotation"):
        launch_arguments('filesrc location="a ! decodebin')
    for empty in ("gst:", "gst:  "):
        with pytest.raises(EvitError, match="pipeline is empty"):
            launch_arguments(empty)


@given(st.lists(st.text("ab!=' \"", max_size=5), max_size=5).map(" ".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        words = launch_arguments(text)
    except EvitError:
        return
    assert words[-2:] == ["fdsink", "fd=1"]


def test_without_gstreamer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependency, match=r"gst-launch-1\.0, which is not") as caught:
        find_source("videotestsrc ! videoconvert")
    assert "apt install gstreamer1.0-tools" in caught.value.hint
    assert caught.value.exit_code == EXIT_MISSING


@needs_gstreamer
@pytest.mark.parametrize("size_hw", [(240, 320), (241, 322), (243, 321), (270, 854), (17, 33)])
@pytest.mark.parametrize("pixels", ["I420", "NV12", "BGRx", "RGB"])
def test_sizes_and_formats(size_hw: tuple[int, int], pixels: str) -> None:
    height, width = size_hw
    with open_source(red(f"width={width},height={height},format={pixels}")) as source:
        assert source.kind is SourceKind.VIDEO
        frames = list(source.frames())
    assert len(frames) == 3
    for frame in frames:
        assert frame.image_rgb_u8.shape == (*size_hw, 3)
        middle = frame.image_rgb_u8[:, : width - 2].reshape(-1, 3)
        np.testing.assert_allclose(middle.min(0), (255, 0, 0), atol=8)
        np.testing.assert_allclose(middle.max(0), (255, 0, 0), atol=8)


@needs_gstreamer
@pytest.mark.parametrize("colours", ["bt601", "bt709"])
def test_colours_of_large_pictures(colours: str) -> None:
    with open_source(red(f"width=1280,height=720,format=NV12,colorimetry={colours}")) as source:
        image = next(source.frames()).image_rgb_u8
    np.testing.assert_allclose(image[300, 600], (255, 0, 0), atol=8)


@needs_gstreamer
@pytest.mark.parametrize("rate", [Fraction(30), Fraction(30_000, 1001), Fraction(7, 2)])
def test_rates_and_times(rate: Fraction) -> None:
    text = red(f"width=64,height=48,framerate={rate.numerator}/{rate.denominator}", count=6)
    with open_source(text) as source:
        assert source.rate == rate
        for number, frame in enumerate(source.frames()):
            assert frame.time_s is not None
            assert abs(frame.time_s - number / rate) <= Fraction(1, 10**6)


@needs_gstreamer
@pytest.mark.parametrize(
    "text", ["gst:videotestsrc num-buffers=2", "videotestsrc num-buffers=2 ! appsink"]
)
def test_short_forms(text: str) -> None:
    with open_source(text) as source:
        assert len(list(source.frames())) == 2


@needs_gstreamer
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("videotestsrc ! nosuchelement", 'no element "nosuchelement"'),
        ("filesrc location=/nowhere/a.mp4 ! decodebin", "Resource not found"),
        ("videotestsrc ! ! x", "syntax error"),
        ("audiotestsrc num-buffers=2 ! audioconvert", "could not link"),
        ("videotestsrc num-buffers=0 ! videoconvert", "it ended at once"),
    ],
)
def test_wrong_pipelines(text: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(EvitError, match=f"the GStreamer pipeline gives no video: .*{reason}"):
        find_source(text)
    assert capfd.readouterr() == ("", "")


@needs_gstreamer
def test_a_pipeline_that_fails_midway_says_why(tmp_path: Path) -> None:
    text = red("width=64,height=48", count=9, tail=" ! identity error-after=5")
    with open_source(text) as source:
        count = len(list(source.frames()))
    assert 0 < count < 9
    assert source.skipped.count == 1
    assert f"failed after {count} frames: ERROR" in source.skipped.first[0]


@needs_gstreamer
def test_closing_ends_the_process() -> None:
    source = GStreamerSource("videotestsrc is-live=true ! video/x-raw,width=64,height=48")
    frames = source.frames()
    next(frames)
    started = time.monotonic()
    source.close()
    list(frames)
    assert source._process.returncode is not None
    assert time.monotonic() - started < 3
    assert source.skipped.count == 0


@needs_gstreamer
def test_live_elements_make_a_live_source() -> None:
    with pytest.raises(EvitError, match="gives no video"):
        find_source("v4l2src device=/dev/video999 ! videoconvert")
    source = GStreamerSource("videotestsrc num-buffers=2 ! videoconvert")
    source.kind = SourceKind.LIVE
    assert [frame.index for frame in NewestFrame(source).frames()][-1] <= 1
