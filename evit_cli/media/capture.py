"""Builds the GStreamer pipelines that capture and decode, on a board's own circuits if it has them.

What each element is and which JetPack has it stands in docs/jetson-video.md. Nothing here starts
anything: `has` says which elements are installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from evit_cli.errors import MissingDependency
from evit_cli.media.csi import CsiCamera
from evit_cli.media.gst_elements import Has
from evit_cli.media.rules import Board

Words = tuple[str, ...]

# nvvidconv counts its flip-method otherwise than videoflip its video-direction: hence the names.
_JETSON_FLIPS = {"none": 0, "270": 1, "180": 2, "90": 3, "horizontal": 4, "vertical": 6}
_SOFTWARE_FLIPS = {
    "90": "90r", "180": "180", "270": "90l", "horizontal": "horiz", "vertical": "vert"
}  # fmt: skip
_NVMM = "video/x-raw(memory:NVMM)"
_RAW = "video/x-raw,format=I420"
_CAMERA_SIZE = "width=[1,1920],height=[1,1080]"
"""A camera is asked for the largest size within: more than the models want costs only time."""
_QUEUE = ("queue", "max-size-buffers=2", "max-size-bytes=0", "max-size-time=0", "leaky=downstream")
"""Between a camera and what is slower: the oldest frame is thrown away."""
_RTSP_LATENCY_MS = 100


@dataclass(frozen=True)
class Plan:
    """A pipeline without a sink.

    Attributes:
        words: as gst-launch-1.0 takes them; empty when FFmpeg or OpenCV shall read the source.
        hardware: the elements in it that are a board's own circuits.
        notes: what the user must know: which elements are missing and what does their work.
    """

    words: Words = ()
    hardware: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass
class _Building:
    """A plan in the making."""

    has: Has
    words: list[str] = field(default_factory=list)
    hardware: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *words: str, hardware: bool = False) -> None:
        """One more element or filter."""
        self.words += (["!"] if self.words else []) + list(words)
        if hardware:
            self.hardware.append(words[0])

    def plan(self) -> Plan:
        return Plan(tuple(self.words), tuple(self.hardware), tuple(self.notes))

    def lacks(self, names: Sequence[str], instead: str) -> str:
        """The first element that is missing, with a sentence about it; "" if all are there."""
        missing = next((name for name in names if not self.has(name)), "")
        if missing:
            self.notes.append(f"GStreamer has no {missing} here: {instead}")
        return missing


def csi_plan(camera: CsiCamera, board: Board, has: Has) -> Plan:
    """A camera on the CSI connector: NVIDIA's on a Jetson, libcamera's elsewhere.

    Raises:
        MissingDependency: neither element is installed.
    """
    build = _Building(has)
    rate = f"framerate={camera.fps.numerator}/{camera.fps.denominator}"
    size = f"width={camera.width},height={camera.height}"
    jetson = board is Board.JETSON and not build.lacks(
        ("nvarguscamerasrc", "nvvidconv"), "the CSI camera is read by libcamera"
    )
    if jetson:
        build.add("nvarguscamerasrc", f"sensor-id={camera.sensor}", hardware=True)
        build.add(f"{_NVMM},{size},format=NV12,{rate}")
        build.add("nvvidconv", f"flip-method={_JETSON_FLIPS[camera.flip]}", hardware=True)
        build.add(_RAW)
        return build.plan()
    if not has("libcamerasrc"):
        raise MissingDependency(
            "CSI cameras need the GStreamer element nvarguscamerasrc (Jetson) or libcamerasrc, "
            "and neither is installed",
            hint="JetPack brings nvarguscamerasrc (sudo apt install nvidia-l4t-gstreamer); in a "
            "container mount /tmp/argus_socket; elsewhere: sudo apt install gstreamer1.0-libcamera",
        )
    if camera.sensor:
        build.notes.append("libcamera numbers no cameras: its first one is read")
    build.add("libcamerasrc")
    build.add(f"video/x-raw,{size},{rate}")
    build.add("videoconvert")
    if camera.flip != "none":
        build.add("videoflip", f"video-direction={_SOFTWARE_FLIPS[camera.flip]}")
    return build.plan()


def usb_plan(device: str, formats: Sequence[str], board: Board, has: Has) -> Plan:
    """A V4L2 camera through GStreamer, on boards where that spares the processor work.

    Args:
        device: its path.
        formats: what it offers, as `pixel_formats` says.
        board: whose elements.
        has: which elements there are.

    Returns:
        An empty plan where OpenCV or FFmpeg do as well: off the boards, or for other formats.
    """
    build = _Building(has)
    mjpeg = "MJPG" in formats or "JPEG" in formats
    raw = any(name in formats for name in ("YUYV", "UYVY", "NV12"))
    if board is not Board.JETSON or not (mjpeg or raw):
        return Plan()
    if build.lacks(("v4l2src",), "FFmpeg reads the camera"):
        return Plan(notes=tuple(build.notes))
    build.add("v4l2src", f"device={quoted(device)}")
    if not mjpeg:
        build.add(f"video/x-raw,format={{YUY2,UYVY,NV12}},{_CAMERA_SIZE}")
        build.add(*_QUEUE)
        if build.lacks(("nvvidconv",), "the processor converts the camera's colours"):
            build.add("videoconvert")
        else:
            build.add("nvvidconv", hardware=True)
        build.add(_RAW)
        return build.plan()
    build.add(f"image/jpeg,{_CAMERA_SIZE}")
    build.add(*_QUEUE)
    return _jpeg_decoded(build)


def _jpeg_decoded(build: _Building) -> Plan:
    """Motion JPEG: by the decoder that NVIDIA advises, its older one, or the processor."""
    converts = build.has("nvvidconv")
    if converts and build.has("nvv4l2decoder"):
        build.add("nvv4l2decoder", "mjpeg=1", hardware=True)
    elif converts and build.has("nvjpegdec"):
        build.add("nvjpegdec", hardware=True)
    elif build.has("jpegdec"):
        missing = "nvv4l2decoder" if converts else "nvvidconv"
        build.notes.append(
            f"GStreamer has no {missing} here: the processor decodes the camera's JPEG"
        )
        build.add("jpegdec")
        return build.plan()
    else:
        return Plan(notes=("GStreamer has no JPEG decoder here: FFmpeg reads the camera",))
    build.add("nvvidconv", hardware=True)
    build.add(_RAW)
    return build.plan()


def rtsp_plan(url: str, codec: str, board: Board, has: Has) -> Plan:
    """An RTSP stream over TCP, decoded by the board.

    Args:
        url: the address, which may hold a password.
        codec: FFmpeg's name: "h264" or "hevc" are decoded by boards.
        board: whose elements.
        has: which elements there are.

    Returns:
        An empty plan where FFmpeg does it.
    """
    if codec not in _CODECS or board is not Board.JETSON:
        return Plan()
    depay, parse, _ = _CODECS[codec]
    build = _Building(has)
    if build.lacks(("rtspsrc", depay, parse), "FFmpeg reads the stream"):
        return Plan(notes=tuple(build.notes))
    build.add("rtspsrc", f"location={quoted(url)}", "protocols=tcp", f"latency={_RTSP_LATENCY_MS}")
    build.add(depay)
    build.add(parse)
    return _decoded(build, codec)


def file_plan(path: str, container: str, codec: str, board: Board, has: Has) -> Plan:
    """A video file, decoded by the board.

    Args:
        path: where it is.
        container: FFmpeg's name of the format.
        codec: FFmpeg's name.
        board: whose elements.
        has: which elements there are.

    Returns:
        An empty plan where FFmpeg does it.
    """
    demux = next((d for key, d in _DEMUXERS.items() if key in container.split(",")), "")
    if codec not in _CODECS or not demux or board is not Board.JETSON:
        return Plan()
    parse = _CODECS[codec][1]
    build = _Building(has)
    if build.lacks((demux, parse), "FFmpeg decodes the file"):
        return Plan(notes=tuple(build.notes))
    build.add("filesrc", f"location={quoted(path)}")
    build.add(demux)
    build.add(parse)
    return _decoded(build, codec)


_CODECS = {
    "h264": ("rtph264depay", "h264parse", "avdec_h264"),
    "hevc": ("rtph265depay", "h265parse", "avdec_h265"),
}
_DEMUXERS = {
    "mp4": "qtdemux", "mov": "qtdemux", "matroska": "matroskademux", "webm": "matroskademux"
}  # fmt: skip


def _decoded(build: _Building, codec: str) -> Plan:
    """The decoder behind what was built, NVIDIA's or else FFmpeg's inside GStreamer."""
    software = _CODECS[codec][2]
    if not build.lacks(("nvv4l2decoder", "nvvidconv"), f"the processor decodes ({software})"):
        build.add("nvv4l2decoder", hardware=True)
        build.add("nvvidconv", hardware=True)
        build.add(_RAW)
        return build.plan()
    if not build.has(software):
        missing = build.notes[-1].partition(" here")[0]
        return Plan(notes=(f"{missing} and no {software} here: FFmpeg decodes",))
    build.add(software)
    return build.plan()


def quoted(value: str) -> str:
    """A property's value as gst-launch-1.0 reads it, whatever characters it has."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
