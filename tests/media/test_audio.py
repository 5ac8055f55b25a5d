"""Sound is where it was: a beep and a flash at the same moment stay together."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from evit_cli.media.open import find_source
from evit_cli.media.outputs import MovieOutput, OutputNames
from tests.helpers.media_files import Sound, beep_in, read_video, write_video

RATE = Fraction(25)
FLASH = 25
AAC_FRAME_S = 1024 / 48_000


def flash_video(path: Path, sound: Sound, *, start_s: float = 0, codec: str = "libx264") -> Path:
    """Two seconds of darkness with one white frame after a second."""
    images = [np.full((48, 64, 3), 255 * (n == FLASH), np.uint8) for n in range(50)]
    # Without B-frames, which old containers cannot time.
    options = {"tune": "zerolatency"} if codec == "libx264" else {}
    start = Fraction(start_s).limit_denominator()
    return write_video(path, images, sound=sound, start_s=start, codec=codec, options=options)


def flash_in(path: Path) -> float:
    return next(float(time) for time, image in read_video(path) if image.mean() > 128)


def copy(source: Path, out: Path, *, frames: int | None = None) -> MovieOutput:
    """Every frame of a file through the movie output, as a run does it."""
    video = find_source(str(source))
    output = MovieOutput(OutputNames(video, ["overlay"], out), "overlay", source=video)
    for number, frame in enumerate(video.frames()):
        if number == frames:
            break
        output.write(frame, frame.image_rgb_u8)
    output.close()
    return output


def codec_of(path: Path) -> str:
    with av.open(str(path)) as container:
        return str(container.streams.audio[0].codec_context.codec.canonical_name)


@pytest.mark.parametrize(
    ("suffix", "codec", "written"),
    [
        (".mp4", "aac", "aac"),
        (".ts", "aac", "aac"),
        (".mkv", "libmp3lame", "mp3"),
        (".mkv", "libopus", "opus"),
        (".mkv", "flac", "aac"),
        (".mkv", "ac3", "aac"),  # no browser plays it
        (".mkv", "pcm_s16le", "aac"),
        (".mov", "pcm_s16le", "aac"),
    ],
)
@pytest.mark.parametrize("start_s", [0, 5])
def test_in_sync(tmp_path: Path, suffix: str, codec: str, written: str, start_s: int) -> None:
    sound = Sound(codec, beep_s=start_s + 1, start_s=start_s)
    source = flash_video(tmp_path / f"in{suffix}", sound, start_s=start_s)
    output = copy(source, tmp_path / "out.mp4")
    assert (output.problem, codec_of(tmp_path / "out.mp4")) == ("", written)
    assert flash_in(tmp_path / "out.mp4") == 1.0
    assert beep_in(tmp_path / "out.mp4") == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
@pytest.mark.parametrize(("sound_s", "picture_s"), [(0, 2.5), (0.5, 0), (1.01, 1.5)])
def test_tracks_that_begin_apart(
    tmp_path: Path, codec: str, sound_s: float, picture_s: float
) -> None:
    sound = Sound(codec, beep_s=picture_s + 1, start_s=sound_s, seconds=5)
    source = flash_video(tmp_path / "in.mkv", sound, start_s=picture_s)
    copy(source, tmp_path / "out.mp4")
    assert flash_in(tmp_path / "out.mp4") == 1.0
    assert beep_in(tmp_path / "out.mp4") == pytest.approx(1.0, abs=0.003)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].start_time == 0


@pytest.mark.parametrize(
    "sound",
    [
        Sound("pcm_s16le", rate=192_000),  # faster than AAC goes
        Sound("pcm_s16le", rate=22_254, layout="mono"),  # an old Macintosh
        Sound("pcm_s24le", rate=8000, layout="mono"),
    ],
    ids=lambda sound: f"{sound.codec}-{sound.rate}",
)
def test_unusual_sample_rates(tmp_path: Path, sound: Sound) -> None:
    copy(flash_video(tmp_path / "in.mkv", sound), tmp_path / "out.mp4")
    assert beep_in(tmp_path / "out.mp4") == pytest.approx(1.0, abs=0.003)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v", ".mkv"])
@pytest.mark.parametrize("codec", ["aac", "libopus", "libmp3lame"])
def test_every_container(tmp_path: Path, suffix: str, codec: str) -> None:
    out = tmp_path / f"out{suffix}"
    copy(flash_video(tmp_path / "in.mkv", Sound(codec)), out)
    assert beep_in(out) == pytest.approx(1.0, abs=0.003)


def test_avi(tmp_path: Path) -> None:
    source = flash_video(tmp_path / "in.avi", Sound("pcm_s16le"), codec="mpeg4")
    apart = flash_in(source) - (beep_in(source) or 0)
    copy(source, tmp_path / "out.mp4")
    out = tmp_path / "out.mp4"
    assert flash_in(out) - (beep_in(out) or 0) == pytest.approx(apart, abs=0.003)


def test_aac_is_copied_bit_by_bit(tmp_path: Path) -> None:
    source = flash_video(tmp_path / "in.mp4", Sound())
    copy(source, tmp_path / "out.mp4")
    packets = []
    for path in (source, tmp_path / "out.mp4"):
        with av.open(str(path)) as container:
            packets.append([bytes(p) for p in container.demux(audio=0) if p.size and p.pts >= 0])
    assert packets[0][: len(packets[1])] == packets[1]
    assert len(packets[1]) == pytest.approx(2.0 / AAC_FRAME_S, abs=1)


def test_sound_ends_with_the_pictures(tmp_path: Path) -> None:
    source = flash_video(tmp_path / "in.mp4", Sound(seconds=5))
    for frames, seconds in ((None, 2.0), (10, 0.4)):
        out = tmp_path / f"{frames}.mp4"
        copy(source, out, frames=frames)
        with av.open(str(out)) as container:
            stream = container.streams.audio[0]
            assert stream.duration * stream.time_base == pytest.approx(seconds, abs=AAC_FRAME_S)


def test_silent_films_stay_silent(tmp_path: Path) -> None:
    images = [np.zeros((48, 64, 3), np.uint8)] * 3
    output = copy(write_video(tmp_path / "in.mp4", images), tmp_path / "out.mp4")
    assert (output.problem, beep_in(tmp_path / "out.mp4")) == ("", None)


def test_sound_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    source = flash_video(tmp_path / "in.mkv", Sound())
    source.write_bytes(source.read_bytes().replace(b"A_AAC", b"A_ZZZ"))
    output = copy(source, tmp_path / "out.mp4")
    assert output.problem == "the sound could not be carried over: its format is unknown"
    assert len(read_video(tmp_path / "out.mp4")) == 50


@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_damaged_sound_does_not_stop_the_film(tmp_path: Path, codec: str) -> None:
    source = flash_video(tmp_path / "in.mp4", Sound(codec))
    with av.open(str(source)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    data = bytearray(source.read_bytes())
    for position, size in places[len(places) // 3 : len(places) // 2]:
        data[position : position + size] = bytes(size)
    source.write_bytes(data)
    copy(source, tmp_path / "out.mp4")
    assert len(read_video(tmp_path / "out.mp4")) == 50
