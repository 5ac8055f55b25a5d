"""Which encoder writes movies: a board's circuit, PyAV's, or one of GStreamer's in software."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from evit_cli.errors import EvitError
from evit_cli.media.gst_elements import Has, has_element, runs
from evit_cli.media.rules import Board
from evit_cli.media.video_writer import h264_encoder

_BITS_PER_PIXEL = 0.1
_LEAST_BITRATE, _MOST_BITRATE = 500_000, 40_000_000
_KEY_FRAME_S = 2
_TRIAL = ("videotestsrc", "num-buffers=3", "!", "video/x-raw,format=I420,width=320,height=240")
_SINK = ("!", "fakesink")


@dataclass(frozen=True)
class EncodePlan:
    """What encodes.

    Attributes:
        element: GStreamer's element; "" is PyAV's own encoder.
        hardware: whether it is a board's circuit.
        notes: what the user must know.
    """

    element: str = ""
    hardware: bool = False
    notes: tuple[str, ...] = ()

    def words(self, size_hw: tuple[int, int], rate: Fraction) -> list[str]:
        """The pipeline between raw I420 video and an H.264 stream with its headers."""
        bitrate = round(size_hw[0] * size_hw[1] * float(rate) * _BITS_PER_PIXEL)
        bitrate = min(max(bitrate, _LEAST_BITRATE), _MOST_BITRATE)
        keys = max(1, round(rate * _KEY_FRAME_S))
        return [*_ENCODERS[self.element](bitrate, keys), "!", "h264parse"]


def _jetson(bitrate: int, keys: int) -> list[str]:
    """NVIDIA's encoder reads only its own memory, into which nvvidconv copies."""
    return [
        "nvvidconv", "!", "video/x-raw(memory:NVMM),format=NV12", "!",
        "nvv4l2h264enc", f"bitrate={bitrate}", f"iframeinterval={keys}", f"idrinterval={keys}",
        "insert-sps-pps=true", "insert-vui=true", "maxperf-enable=true", "preset-level=1",
    ]  # fmt: skip


def _x264(bitrate: int, keys: int) -> list[str]:
    """By quality, like PyAV's encoder, and not by bit rate."""
    return [
        "x264enc", "speed-preset=ultrafast", "tune=zerolatency", "pass=qual", "quantizer=23",
        f"key-int-max={keys}",
    ]  # fmt: skip


def _openh264(bitrate: int, keys: int) -> list[str]:
    return ["openh264enc", f"bitrate={bitrate}", f"gop-size={keys}", "complexity=low"]


_ENCODERS: dict[str, Callable[[int, int], list[str]]] = {
    "nvv4l2h264enc": _jetson,
    "x264enc": _x264,
    "openh264enc": _openh264,
}
_SOFTWARE = ("x264enc", "openh264enc")


def encode_plan(
    board: Board,
    has: Has = has_element,
    works: Callable[[Sequence[str]], bool] = runs,
    own: Callable[[], str] = h264_encoder,
) -> EncodePlan:
    """Choose the encoder.

    Args:
        board: whose circuit to use; Orin Nano has none, so that its profile says software.
        has: which elements there are.
        works: tries a pipeline: NVIDIA's element is there on boards that lack the circuit.
        own: names PyAV's encoder, or raises an EvitError.

    Raises:
        EvitError: there is no H.264 encoder anywhere.
    """
    note = _jetson_problem(has, works) if board is Board.JETSON else ""
    if board is Board.JETSON and not note:
        return EncodePlan("nvv4l2h264enc", hardware=True)
    try:
        name = own()
    except EvitError:
        element = next((name for name in _SOFTWARE if has(name) and has("h264parse")), "")
        if not element:
            raise
        why = "PyAV has no H.264 encoder"
        return EncodePlan(element, notes=(f"{note or why}: GStreamer's {element} encodes",))
    return EncodePlan(notes=(f"{note}: the processor encodes ({name})",) if note else ())


def _jetson_problem(has: Has, works: Callable[[Sequence[str]], bool]) -> str:
    """Why NVIDIA's encoder cannot be used; "" if it can."""
    for name in ("nvv4l2h264enc", "nvvidconv", "h264parse"):
        if not has(name):
            return f"GStreamer has no {name} here"
    trial = EncodePlan("nvv4l2h264enc").words((240, 320), Fraction(30))
    if not works([*_TRIAL, "!", *trial, *_SINK]):
        return "nvv4l2h264enc is installed but encodes nothing here"
    return ""
