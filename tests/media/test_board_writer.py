"""Movies through GStreamer's encoders: what a board's circuit does, done by software ones here."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from evit_cli.errors import EvitError
from evit_cli.media.board_writer import BoardWriter, open_writer
from evit_cli.media.encode import EncodePlan
from evit_cli.media.gst_elements import has_element
from evit_cli.media.video_writer import VideoWriter

ENCODERS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not has_element(name), reason=f"GStreamer has no {name}")
    )
    for name in ("x264enc", "openh264enc")
]


def pictures(count: int, size_hw: tuple[int, int]) -> list[np.ndarray]:
    """Grey ramps that get lighter."""
    ramp = np.linspace(0, 100, size_hw[1], dtype=np.float32)[None, :, None]
    blank = np.zeros((*size_hw, 3), np.float32)
    return [np.asarray(blank + ramp + 10 * i, np.uint8) for i in range(count)]


def read(path: Path) -> tuple[list[Fraction], list[np.ndarray], str]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [Fraction(f.pts) * Fraction(f.time_base) for f in frames]
        shown = [f.to_ndarray(format="rgb24") for f in frames]
        return times, shown, stream.codec_context.name


@pytest.mark.parametrize("element", ENCODERS)
@pytest.mark.parametrize("size_hw", [(48, 64), (50, 70)])
def test_pictures_and_times_come_back(
    tmp_path: Path, element: str, size_hw: tuple[int, int]
) -> None:
    path = tmp_path / "out.mp4"
    writer = open_writer(path, EncodePlan(element), rate=Fraction(25))
    assert isinstance(writer, BoardWriter)
    times = [Fraction(0), Fraction(1, 25), Fraction(3, 25), Fraction(1, 2), Fraction(11, 20)]
    given = pictures(len(times), size_hw)
    for image, time_s in zip(given, times, strict=True):
        writer.write(image, time_s)
    assert not path.exists()
    writer.close()
    found, shown, codec = read(path)
    assert codec == "h264" and len(shown) == len(given)
    assert [abs(float(f - t)) < 2e-3 for f, t in zip(found, times, strict=True)] == [True] * 5
    for image, back in zip(given, shown, strict=True):
        assert back.shape == image.shape
        assert np.abs(back.astype(int) - image).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.skipif(not has_element("fakesink"), reason="no GStreamer")
def test_an_encoder_that_fails_is_named_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EncodePlan, "words", lambda self, size_hw, rate: ["nosuchencoder"])
    writer = open_writer(tmp_path / "out.mp4", EncodePlan("x264enc"), rate=Fraction(25))
    with pytest.raises(EvitError, match="x264enc failed after"):
        for i, image in enumerate(pictures(50, (64, 64))):
            writer.write(image, Fraction(i, 25))
        writer.close()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_without_an_element_it_is_the_ordinary_writer(tmp_path: Path) -> None:
    writer = open_writer(tmp_path / "out.mp4", EncodePlan(), rate=Fraction(25))
    assert type(writer) is VideoWriter
