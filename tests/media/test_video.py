from __future__ import annotations

import gc
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from evit_cli.errors import EvitError
from evit_cli.media.frame import SourceKind
from evit_cli.media.open import find_source, open_source
from evit_cli.media.video import DEFAULT_RATE, VideoSource
from tests.helpers.media_files import (
    Sound,
    corners,
    damage_packets,
    number_of,
    numbered,
    numbered_video,
    set_display_matrix,
    write_video,
)

NTSC = Fraction(30_000, 1001)
FILM = Fraction(24_000, 1001)


def open_video(path: Path) -> VideoSource:
    source = find_source(str(path))
    assert isinstance(source, VideoSource)
    return source


@pytest.mark.parametrize("rate", [Fraction(25), NTSC, FILM, Fraction(1, 2), Fraction(120)])
def test_rates_and_times_are_exact(tmp_path: Path, rate: Fraction) -> None:
    source = open_video(numbered_video(tmp_path / "v.mp4", rate=rate))
    assert (source.rate, source.frame_count, source.kind) == (rate, 20, SourceKind.VIDEO)
    frames = list(source.frames())
    assert [frame.time_s for frame in frames] == [n / rate for n in range(20)]
    assert [frame.index for frame in frames] == list(range(20))
    assert [number_of(frame.image_rgb_u8) for frame in frames] == list(range(20))


def test_variable_rate_keeps_times(tmp_path: Path) -> None:
    times = [Fraction(ms, 1000) for ms in (0, 40, 50, 300, 301, 1000, 1040)]
    source = open_video(numbered_video(tmp_path / "v.mp4", 7, times=times))
    assert [frame.time_s for frame in source.frames()] == times


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4"])
def test_time_zero_is_the_first_frame(tmp_path: Path, suffix: str) -> None:
    source = open_video(numbered_video(tmp_path / f"v{suffix}", 5, start_s=Fraction(7)))
    assert [frame.time_s for frame in source.frames()] == [Fraction(n, 25) for n in range(5)]
    assert source.start_s == 7


def test_a_stream_without_times_gets_them_from_its_rate(tmp_path: Path) -> None:
    source = open_video(numbered_video(tmp_path / "v.h264", 6))
    times = [frame.time_s for frame in source.frames()]
    assert source.rate is not None
    assert times == [n / source.rate for n in range(6)]


def test_a_clock_that_jumps_back_keeps_the_order(tmp_path: Path) -> None:
    for part in ("a", "b"):  # two recordings of the same tuner, one behind the other
        numbered_video(tmp_path / f"{part}.ts", 10)
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    times = [frame.time_s for frame in open_video(both).frames()]
    assert len(times) >= 19
    assert all(None is not a < b for a, b in pairwise(times))


# A point (x, y) is shown at (a x + c y, b x + d y).
LYING = {
    (1, 0, 0, 1): lambda image: image,
    (0, 1, -1, 0): lambda image: np.rot90(image),  # an upright phone
    (-1, 0, 0, -1): lambda image: np.rot90(image, 2),
    (0, -1, 1, 0): lambda image: np.rot90(image, -1),
    (-1, 0, 0, 1): lambda image: image[:, ::-1],  # a front camera
    (1, 0, 0, -1): lambda image: image[::-1],
    (0, 1, 1, 0): lambda image: image.swapaxes(0, 1),
    (0, -1, -1, 0): lambda image: image[::-1, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize("matrix", LYING)
def test_phone_videos_come_out_upright(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    stored = np.ascontiguousarray(LYING[matrix](corners()))
    path = write_video(tmp_path / "v.mp4", [stored] * 3)
    set_display_matrix(path, *matrix)
    for frame in open_video(path).frames():
        assert frame.image_rgb_u8.shape == corners().shape
        assert np.abs(frame.image_rgb_u8.astype(int) - corners()).mean() < 6
        assert frame.image_rgb_u8.flags.c_contiguous


@pytest.mark.parametrize(
    ("pix_fmt", "colorspace"),
    [("yuv420p", None), ("yuv420p", 1), ("yuv420p", 6), ("yuvj420p", 6), ("yuv444p", 1)],
)
def test_colours_follow_the_tags(tmp_path: Path, pix_fmt: str, colorspace: int | None) -> None:
    path = tmp_path / "v.mp4"
    write_video(path, [corners()] * 2, pix_fmt=pix_fmt, colorspace=colorspace)
    image = next(open_video(path).frames()).image_rgb_u8
    for y, x in ((16, 20), (16, 70), (48, 20), (48, 70)):
        np.testing.assert_allclose(image[y, x], corners()[y, x], atol=6)


@pytest.mark.parametrize("size_hw", [(2, 2), (34, 18), (50, 1002)])
def test_sizes(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    path = write_video(tmp_path / "v.mp4", [np.full((*size_hw, 3), 90, np.uint8)] * 2)
    assert [f.image_rgb_u8.shape[:2] for f in open_video(path).frames()] == [size_hw] * 2


def test_grey_and_ten_bit_videos(tmp_path: Path) -> None:
    for number, pix_fmt in enumerate(("gray", "yuv420p10le")):
        path = tmp_path / f"{number}.mp4"
        write_video(path, [numbered(5)] * 2, pix_fmt=pix_fmt)
        image = next(open_video(path).frames()).image_rgb_u8
        assert (image.dtype, number_of(image)) == (np.uint8, 5)


@pytest.mark.parametrize("transposed", [False, True])
def test_pixels_that_are_not_square(tmp_path: Path, transposed: bool) -> None:
    path = write_video(tmp_path / "v.mp4", [corners()] * 3, pixel_aspect=Fraction(4, 3))
    if transposed:
        set_display_matrix(path, 0, 1, -1, 0)
    source = open_video(path)
    next(source.frames())
    assert source.pixel_aspect == (Fraction(3, 4) if transposed else Fraction(4, 3))


def test_damaged_packets_are_counted_and_skipped(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mp4", 40, options={"g": "1", "crf": "12"})
    damage_packets(path, [10, 11, 25])
    source = open_video(path)
    numbers = [number_of(frame.image_rgb_u8) for frame in source.frames()]
    assert numbers == [n for n in range(40) if n not in (10, 11, 25)]
    assert source.skipped.count == 3
    assert all("cannot be decoded" in s or "is corrupt" in s for s in source.skipped.first)


def test_times_stay_right_behind_damage(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mp4", 30, options={"g": "1", "crf": "12"})
    damage_packets(path, [0, 14])
    frames = list(open_video(path).frames())
    for frame in frames:  # the first whole frame is time zero
        assert frame.time_s == Fraction(number_of(frame.image_rgb_u8) - 1, 25)


def test_a_file_cut_short_gives_what_is_there(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mkv", 40, options={"g": "1", "crf": "12"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    source = open_video(path)
    numbers = [number_of(frame.image_rgb_u8) for frame in source.frames()]
    assert 10 < len(numbers) < 30
    assert numbers == list(range(len(numbers)))


def test_an_mp4_without_its_index(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mp4", 40)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(EvitError, match=r"v\.mp4 is not a video or image that can be read"):
        open_video(path)


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.txt", "a.ans", "a.gif", "a.bin", "a", "a.yuv", "a.raw"]
)
@pytest.mark.parametrize("content", [b"hello\n" * 99, bytes(range(256)) * 40, bytes(4096)])
def test_garbage(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(EvitError, match=name):
        source = open_video(path)
        assert list(source.frames()) == []  # .raw: a size is all that is missing
        raise EvitError(f"{name}: {source.skipped.first[0]}")


def test_files_without_moving_pictures(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as container:
        track = Sound()
        stream = container.add_stream("aac", rate=track.rate)
        stream.layout = track.layout
        container.mux(track.packets(stream))
    with pytest.raises(EvitError, match="holds no video"):
        open_video(sound)


def test_a_codec_that_nobody_knows(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mp4", 3)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))
    with pytest.raises(EvitError, match="a video format that this FFmpeg cannot decode"):
        open_video(path)


def test_zero_frames(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mkv", 1)
    with av.open(str(path)) as container:
        place = next(p.pos for p in container.demux(video=0) if p.size)
    path.write_bytes(path.read_bytes()[:place])
    assert list(open_video(path).frames()) == []


def test_closing_ends_the_reading(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mp4", 60)
    with open_source(str(path)) as source:
        frames = source.frames()
        next(frames)
        source.close()
        assert len(list(frames)) < 59
    unread = open_video(path)
    unread.close()
    assert list(unread.frames()) == []


def test_closing_from_another_thread(tmp_path: Path) -> None:
    source = open_video(numbered_video(tmp_path / "v.mp4", 200, size_hw=(96, 128)))
    closer = threading.Timer(0.01, source.close)
    closer.start()
    assert len(list(source.frames())) <= 200
    closer.join()


def test_a_rate_that_cannot_be(tmp_path: Path) -> None:
    times = [Fraction(n, 1000) for n in range(5)]
    path = numbered_video(tmp_path / "v.mkv", 5, times=times, rate=Fraction(90_000))
    assert open_video(path).rate in (DEFAULT_RATE, Fraction(1000))


def test_decoded_frames_do_not_wait_for_the_garbage_collector(tmp_path: Path) -> None:
    path = numbered_video(tmp_path / "v.mp4", 60, size_hw=(240, 320))
    gc.collect()
    gc.disable()
    try:
        for _ in open_video(path).frames():
            pass
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
        assert alive < 20  # a few in the decoder's threads
    finally:
        gc.enable()
