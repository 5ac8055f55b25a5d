"""Pipelines for boards: what is chosen, what is said where an element is missing, CSI addresses.

None of NVIDIA's elements is here: their names and properties are checked as text, and the software
elements by running them.
"""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import pytest

from evit_cli.errors import EvitError, MissingDependency, UsageError
from evit_cli.media.capture import csi_plan, file_plan, quoted, rtsp_plan, usb_plan
from evit_cli.media.csi import FLIPS, CsiCamera, parse_csi
from evit_cli.media.encode import encode_plan
from evit_cli.media.gst_elements import has_element
from evit_cli.media.rules import Board, rules_here

gstreamer = pytest.mark.skipif(shutil.which("gst-launch-1.0") is None, reason="no GStreamer")


def all_but(*missing: str):  # type: ignore[no-untyped-def]
    return lambda name: name not in missing


def elements(words: tuple[str, ...]) -> list[str]:
    """The first word behind every "!"."""
    starts = [0, *(i + 1 for i, word in enumerate(words) if word == "!")]
    return [words[i] for i in starts]


def test_a_csi_camera_on_a_jetson_stays_in_its_memory_until_the_end() -> None:
    plan = csi_plan(CsiCamera(1, 1920, 1080, Fraction(60), "180"), Board.JETSON, all_but())
    assert elements(plan.words) == [
        "nvarguscamerasrc",
        "video/x-raw(memory:NVMM),width=1920,height=1080,format=NV12,framerate=60/1",
        "nvvidconv",
        "video/x-raw,format=I420",
    ]
    assert "sensor-id=1" in plan.words and "flip-method=2" in plan.words
    assert plan.hardware == ("nvarguscamerasrc", "nvvidconv") and not plan.notes


def test_without_nvidias_camera_libcamera_is_taken_and_said() -> None:
    plan = csi_plan(CsiCamera(flip="90"), Board.JETSON, all_but("nvarguscamerasrc"))
    assert plan.words[0] == "libcamerasrc" and "video-direction=90r" in plan.words
    assert "no nvarguscamerasrc" in plan.notes[0]
    with pytest.raises(MissingDependency, match="nvarguscamerasrc"):
        csi_plan(CsiCamera(), Board.JETSON, lambda name: False)


@pytest.mark.parametrize(
    ("formats", "missing", "hardware", "note"),
    [
        (("MJPG",), (), ("nvv4l2decoder", "nvvidconv"), ""),
        (("MJPG",), ("nvv4l2decoder",), ("nvjpegdec", "nvvidconv"), ""),
        (("MJPG",), ("nvvidconv",), (), "the processor decodes the camera's JPEG"),
        (("YUYV",), (), ("nvvidconv",), ""),
        (("YUYV",), ("nvvidconv",), (), "the processor converts"),
        (("MJPG",), ("v4l2src",), (), "FFmpeg reads the camera"),
    ],
)
def test_a_usb_camera(
    formats: tuple[str, ...], missing: tuple[str, ...], hardware: tuple[str, ...], note: str
) -> None:
    plan = usb_plan("/dev/video0", formats, Board.JETSON, all_but(*missing))
    assert plan.hardware == hardware
    assert note in " ".join(plan.notes) and bool(plan.notes) is bool(note)
    if plan.words:
        assert plan.words[:2] == ("v4l2src", 'device="/dev/video0"')


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_streams_and_files_are_decoded_by_the_board(codec: str) -> None:
    stream = rtsp_plan('rtsp://me:a"b@cam/1', codec, Board.JETSON, all_but())
    assert stream.words[1] == 'location="rtsp://me:a\\"b@cam/1"' and "protocols=tcp" in stream.words
    assert stream.hardware == ("nvv4l2decoder", "nvvidconv")
    file = file_plan("/a b.mp4", "mov,mp4,m4a", codec, Board.JETSON, all_but())
    assert file.words[:4] == ("filesrc", 'location="/a b.mp4"', "!", "qtdemux")
    software = file_plan("/a.mkv", "matroska,webm", codec, Board.JETSON, all_but("nvv4l2decoder"))
    assert not software.hardware and "the processor decodes" in software.notes[0]
    nothing = all_but("nvv4l2decoder", "avdec_h264", "avdec_h265")
    plan = file_plan("/a.mkv", "matroska", codec, Board.JETSON, nothing)
    assert not plan.words and "FFmpeg decodes" in plan.notes[0]


def test_elsewhere_nothing_is_planned() -> None:
    has = all_but()
    assert not usb_plan("/dev/video0", ("MJPG",), Board.SOFTWARE, has).words
    assert not rtsp_plan("rtsp://cam", "h264", Board.SOFTWARE, has).words
    assert not file_plan("/a.mp4", "mp4", "h264", Board.SOFTWARE, has).words
    assert not file_plan("/a.mp4", "mp4", "av1", Board.JETSON, has).words


@pytest.mark.parametrize("value", ["plain", 'quo"te', "back\\slash", "a b ! c"])
@gstreamer
def test_quoted_values_reach_the_element(value: str, tmp_path: Path) -> None:
    path = tmp_path / f"{value}.raw"
    path.write_bytes(b"12345678")
    target = tmp_path / "copy"
    words = ["filesrc", f"location={quoted(str(path))}", "!", "filesink", f"location={target}"]
    subprocess.run(["gst-launch-1.0", "-q", *words], check=True, timeout=60)
    assert target.read_bytes() == b"12345678"


def test_csi_addresses() -> None:
    assert parse_csi("csi://0") == parse_csi("csi:") == CsiCamera()
    camera = parse_csi("csi://1?width=640&height=480&fps=30000/1001&flip=horizontal")
    assert camera == CsiCamera(1, 640, 480, Fraction(30000, 1001), "horizontal")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("csi://x", "names no CSI camera"),
        ("csi://0?width=641", "width cannot be '641'"),
        ("csi://0?fps=0", "fps cannot be '0'"),
        ("csi://0?fps=1/0", "fps cannot be '1/0'"),
        ("csi://0?flip=45", "cannot be turned by '45'"),
        ("csi://0?hight=2", "has no 'hight'"),
    ],
)
def test_wrong_csi_addresses(address: str, words: str) -> None:
    with pytest.raises(EvitError, match=words):
        parse_csi(address)


def test_every_flip_has_its_number_and_its_direction() -> None:
    jetson = {
        flip: next(w for w in csi_plan(CsiCamera(flip=flip), Board.JETSON, all_but()).words
                   if w.startswith("flip-method")) for flip in FLIPS
    }  # fmt: skip
    assert len(set(jetson.values())) == len(FLIPS)


def test_the_boards_encoder_is_tried_before_it_is_trusted() -> None:
    chosen = encode_plan(Board.JETSON, all_but(), lambda words: True, lambda: "libx264")
    assert chosen.hardware and chosen.element == "nvv4l2h264enc"
    words = chosen.words((1080, 1920), Fraction(30))
    assert "bitrate=6220800" in words and words[-1] == "h264parse"
    # Orin Nano: the element is there and the circuit is not.
    broken = encode_plan(Board.JETSON, all_but(), lambda words: False, lambda: "libx264")
    assert not broken.element and "encodes nothing here: the processor encodes" in broken.notes[0]
    missing = encode_plan(Board.JETSON, all_but("nvvidconv"), lambda w: True, lambda: "libx264")
    assert "no nvvidconv" in missing.notes[0]
    assert encode_plan(Board.SOFTWARE, all_but(), lambda w: True, lambda: "libx264").notes == ()


def test_rules_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIT_VIDEO", "Jetson")
    monkeypatch.setenv("EVIT_RECONNECT_S", "inf")
    monkeypatch.setenv("EVIT_STALL_S", "0")
    rules = rules_here(board=Board.SOFTWARE)
    assert rules.board is Board.JETSON
    assert rules.reconnect_s == rules.stall_s == float("inf")
    for name, value in (("EVIT_VIDEO", "orin"), ("EVIT_STALL_S", "soon")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            with pytest.raises(UsageError, match=name):
                rules_here()


def test_a_release_file_makes_a_jetson(tmp_path: Path) -> None:
    assert Board.here(tmp_path) is Board.SOFTWARE
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text("# R36 (release)")
    assert Board.here(tmp_path) is Board.JETSON


@gstreamer
def test_elements_are_looked_up() -> None:
    assert has_element("fakesink") and not has_element("nosuchelement")
