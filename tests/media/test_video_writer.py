from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.errors import EvitError
from evit_cli.media.images import ImageU8
from evit_cli.media.open import find_source
from evit_cli.media.video_writer import VideoWriter, time_base_for
from tests.helpers.media_files import corners, number_of, numbered, read_video, top_boxes

NTSC = Fraction(30_000, 1001)
RATES = [
    Fraction(25), Fraction(30), Fraction(60), Fraction(24_000, 1001), NTSC, Fraction(60_000, 1001),
    Fraction(2997, 100), Fraction(1, 2), Fraction(15), Fraction(10_000_000, 333_667), Fraction(240),
]  # fmt: skip


def write(path: Path, images: list[ImageU8], rate: Fraction = Fraction(25)) -> Path:
    writer = VideoWriter(path, rate=rate)
    for number, image in enumerate(images):
        writer.write(image, number / rate)
    writer.close()
    return path


def test_plays_in_a_browser(tmp_path: Path) -> None:
    path = write(tmp_path / "v.mp4", [numbered(n) for n in range(10)])
    boxes = top_boxes(path)
    assert boxes[0] == "ftyp"
    assert boxes.index("moov") < boxes.index("mdat")  # playing begins before all is loaded
    with av.open(str(path)) as container:
        (stream,) = container.streams
        context = stream.codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 25
        assert (stream.duration * stream.time_base, stream.start_time) == (Fraction(10, 25), 0)
        assert (context.colorspace, context.color_range) == (6, 1)


def test_ffmpeg_finds_nothing_wrong(tmp_path: Path) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    path = write(tmp_path / "v.mp4", [numbered(n, (35, 47)) for n in range(30)], NTSC)
    command = ["ffmpeg", "-v", "warning", "-xerror", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize("rate", RATES, ids=str)
def test_every_rate_is_exact(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    source = find_source(str(write(tmp_path / f"v{suffix}", [numbered(n) for n in range(9)], rate)))
    assert source.rate == rate
    assert [frame.time_s for frame in source.frames()] == [n / rate for n in range(9)]


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 70),
    rate=st.fractions(1, 240, max_denominator=1001),
    gaps=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    suffix=st.sampled_from([".mp4", ".mov", ".mkv"]),
)
def test_sizes_and_times_survive(
    tmp_path_factory: pytest.TempPathFactory,
    height: int, width: int, rate: Fraction, gaps: list[int], suffix: str,
) -> None:  # fmt: skip
    path = tmp_path_factory.mktemp("v") / f"v{suffix}"
    ticks = [0, *np.cumsum(gaps).tolist()]
    writer = VideoWriter(path, rate=rate)
    for number, tick in enumerate(ticks):
        writer.write(np.full((height, width, 3), number * 30, np.uint8), tick / rate)
    writer.close()
    frames = list(find_source(str(path)).frames())
    assert [f.image_rgb_u8.shape[:2] for f in frames] == [
        (height + height % 2, width + width % 2)
    ] * len(ticks)
    allowed = Fraction(1, 1000) if suffix == ".mkv" else 0  # Matroska counts milliseconds
    for number, (frame, tick) in enumerate(zip(frames, ticks, strict=True)):
        assert frame.time_s is not None
        assert abs(frame.time_s - tick / rate) <= allowed
        assert abs(frame.image_rgb_u8.mean() - number * 30) < 8


@given(st.fractions(Fraction(1, 100), 1000).filter(lambda rate: rate.numerator < 10**7))
def test_the_clock_holds_every_frame(rate: Fraction) -> None:
    step = (1 / rate) / time_base_for(rate)
    assert step.denominator == 1
    assert time_base_for(rate) <= Fraction(1, 90_000)


def test_odd_sizes_repeat_the_border(tmp_path: Path) -> None:
    image = np.zeros((33, 47, 3), np.uint8)
    image[-1], image[:, -1] = 255, 255
    (_, read), *_ = read_video(write(tmp_path / "v.mp4", [image] * 2))
    assert read.shape == (34, 48, 3)
    assert read[-2:, :].min() > 200 and read[:, -2:].min() > 200
    assert read[:31, :45].max() < 40


def test_colours_are_kept(tmp_path: Path) -> None:
    (_, read), *_ = read_video(write(tmp_path / "v.mp4", [corners()] * 2))
    for y, x in ((16, 20), (16, 70), (48, 20), (48, 70)):
        np.testing.assert_allclose(read[y, x], corners()[y, x], atol=8)


def test_a_source_that_changes_its_size(tmp_path: Path) -> None:
    sizes = [(48, 64), (96, 128), (30, 51)]
    path = write(tmp_path / "v.mp4", [numbered(n, size) for n, size in enumerate(sizes)])
    read = read_video(path)
    assert [number_of(image) for _, image in read] == [0, 1, 2]
    assert {image.shape for _, image in read} == {(48, 64, 3)}


def test_times_that_stand_still_are_pushed_apart(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4", rate=Fraction(25))
    for number, time_s in enumerate([0, 0, Fraction(1, 10**6), Fraction(1, 25)]):
        writer.write(numbered(number), Fraction(time_s))
    writer.close()
    times = [time for time, _ in read_video(tmp_path / "v.mp4")]
    assert times == sorted(set(times)) and len(times) == 4
    assert times[-1] == Fraction(1, 25)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "v.mp4", rate=Fraction(25), pixel_aspect=Fraction(16, 15))
    writer.write(corners(), Fraction(0))
    writer.close()
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 15)


@pytest.mark.parametrize("name", ["12:30.mp4", "é 日本 %d.mp4", "-i.mp4", "a?b#c.mp4"])
def test_unusual_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path(name), [numbered(n) for n in range(3)])
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert len(list(find_source(name).frames())) == 3


def test_nothing_is_there_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    path.write_text("an older film")
    writer = VideoWriter(path, rate=Fraction(25))
    for number in range(40):
        writer.write(numbered(number), number / Fraction(25))
    assert path.read_text() == "an older film"
    assert sorted(p.name for p in tmp_path.iterdir()) == [".v.evit-partial.mp4", "v.mp4"]
    writer.abort()
    writer.abort()
    assert path.read_text() == "an older film"
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]


def test_without_frames_nothing_is_written(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "v.mp4", rate=Fraction(25)).close()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"cannot be written as '\.avi'"):
        VideoWriter(tmp_path / "v.avi", rate=Fraction(25))
    writer = VideoWriter(tmp_path / "none" / "v.mp4", rate=Fraction(25))
    with pytest.raises(EvitError, match=r"v\.mp4 cannot be written: no such file"):
        writer.write(corners(), Fraction(0))
    writer.abort()


def test_without_an_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evit_cli.media.video_writer.ENCODERS", ("libnothing",))
    with pytest.raises(EvitError, match=r"no H\.264 encoder") as caught:
        VideoWriter(tmp_path / "v.mp4", rate=Fraction(25))
    assert "pip install" in caught.value.hint
