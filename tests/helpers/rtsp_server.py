"""A small RTSP camera on loopback: H.264 over RTP, interleaved with RTSP in one TCP connection.

RFC 2326 (RTSP), RFC 3550 (RTP) and RFC 6184 (how H.264 is cut into RTP packets).
"""

from __future__ import annotations

import base64
import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from fractions import Fraction
from typing import Any

import av

from tests.helpers.media_files import numbered

_CLOCK = 90_000
_LARGEST_PAYLOAD = 1200
_SPS, _PPS = 7, 8
_SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=camera
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=framerate:{rate}
a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}
a=control:track1
"""


class End(Enum):
    """What the camera does after its last frame."""

    CLOSE = auto()  # the connection is closed
    BYE = auto()  # RTCP says goodbye, as a well-behaved camera does
    SILENT = auto()  # the connection stays open and nothing comes any more


@dataclass
class Camera:
    """What the server shows.

    Attributes:
        frames: how many, each with its number drawn into it.
        rate: frames per second, also in real time.
        size_hw: of the picture.
        end: what comes after the last frame.
        password: what the client must give, "user:password".
        port: where to listen; 0 takes a free one.
        url: where it is, once it runs.
        requests: methods asked for so far.
    """

    frames: int = 60
    rate: int = 30
    size_hw: tuple[int, int] = (96, 128)
    end: End = End.BYE
    password: str = ""
    port: int = 0
    url: str = ""
    requests: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


def _units(data: bytes) -> list[bytes]:
    """The NAL units of an Annex B byte stream."""
    parts = data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")
    return [part for part in parts if part]


def _encoded(camera: Camera) -> list[list[bytes]]:
    """NAL units of each frame."""
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width = camera.size_hw
    encoder.pix_fmt, encoder.time_base = "yuv420p", Fraction(1, camera.rate)
    encoder.options = {"tune": "zerolatency", "g": "10", "crf": "15", "preset": "veryfast"}
    frames = []
    for number in range(camera.frames):
        frame = av.VideoFrame.from_ndarray(numbered(number % 256, camera.size_hw), format="rgb24")
        frame.pts = number
        frames.append([unit for p in encoder.encode(frame) for unit in _units(bytes(p))])
    return frames


def _payloads(unit: bytes) -> Iterator[bytes]:
    """A NAL unit as it is, or in fragments (FU-A) if it is long."""
    if len(unit) <= _LARGEST_PAYLOAD:
        yield unit
        return
    indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 0x1F
    parts = [unit[i : i + _LARGEST_PAYLOAD] for i in range(1, len(unit), _LARGEST_PAYLOAD)]
    for number, part in enumerate(parts):
        first, last = number == 0, number == len(parts) - 1
        yield bytes([indicator, first << 7 | last << 6 | kind]) + part


class _Handler(socketserver.StreamRequestHandler):
    camera: Camera
    encoded: list[list[bytes]]
    sending: threading.Thread | None = None

    def handle(self) -> None:
        while first := self.rfile.read(1):
            if first == b"$":  # the client's own RTCP
                _, size = struct.unpack(">BH", self.rfile.read(3))
                self.rfile.read(size)
                continue
            method = (first + self.rfile.readline()).split(b" ")[0].decode("latin-1")
            headers = {}
            while (header := self.rfile.readline().strip()) != b"":
                name, _, value = header.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
            self.camera.requests.append(method)
            self._answer(method, headers)
            if method == "TEARDOWN":
                return

    def _answer(self, method: str, headers: dict[str, str]) -> None:
        wanted = "Basic " + base64.b64encode(self.camera.password.encode()).decode()
        reply, body, status = {"CSeq": headers.get("cseq", "0"), "Session": "1"}, "", "200 OK"
        if self.camera.password and headers.get("authorization") != wanted:
            status, reply["WWW-Authenticate"] = "401 Unauthorized", 'Basic realm="camera"'
        elif method == "OPTIONS":
            reply["Public"] = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
        elif method == "DESCRIBE":
            units = [unit for frame in self.encoded for unit in frame]
            sets = [next(u for u in units if u[0] & 0x1F == kind) for kind in (_SPS, _PPS)]
            text = ",".join(base64.b64encode(unit).decode() for unit in sets)
            body = _SDP.format(rate=self.camera.rate, sets=text).replace("\n", "\r\n")
            reply |= {"Content-Type": "application/sdp", "Content-Base": self.camera.url + "/"}
            reply["Content-Length"] = str(len(body))
        elif method == "SETUP":
            reply["Transport"] = "RTP/AVP/TCP;unicast;interleaved=0-1"
        lines = [f"RTSP/1.0 {status}", *(f"{k}: {v}" for k, v in reply.items()), "", body]
        self.wfile.write("\r\n".join(lines).encode("latin-1"))
        if method == "PLAY" and status == "200 OK":
            self.sending = threading.Thread(target=self._play, daemon=True)
            self.sending.start()

    def _play(self) -> None:
        started, sequence = time.monotonic(), 0
        try:
            for number, units in enumerate(self.encoded):
                wait = started + number / self.camera.rate - time.monotonic()
                if self.camera.stop.wait(max(wait, 0)):
                    break
                stamp = number * _CLOCK // self.camera.rate
                payloads = [payload for unit in units for payload in _payloads(unit)]
                for place, payload in enumerate(payloads):
                    mark = (place == len(payloads) - 1) << 7
                    header = struct.pack(">BBHII", 0x80, 96 | mark, sequence, stamp, 7)
                    self._send(0, header + payload)
                    sequence = (sequence + 1) % (1 << 16)
            if self.camera.end is End.SILENT:
                self.camera.stop.wait()
            elif self.camera.end is End.BYE and not self.camera.stop.is_set():
                self._send(1, struct.pack(">BBHI", 0x81, 203, 1, 7))
            self.connection.shutdown(2)
        except OSError:  # the client has gone
            return

    def _send(self, channel: int, packet: bytes) -> None:
        self.connection.sendall(struct.pack(">cBH", b"$", channel, len(packet)) + packet)


class RtspServer:
    """Runs a `Camera` in a thread: `with RtspServer(Camera()) as camera: ...`."""

    def __init__(self, camera: Camera) -> None:
        self._camera = camera

    def __enter__(self) -> Camera:
        members = {"camera": self._camera, "encoded": _encoded(self._camera)}
        handler = type("Handler", (_Handler,), members)
        socketserver.ThreadingTCPServer.allow_reuse_address = True
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", self._camera.port), handler)
        self._server.daemon_threads = True
        self._camera.url = f"rtsp://127.0.0.1:{self._server.server_address[1]}/stream"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self._camera

    def __exit__(self, *_: object) -> None:
        self._camera.stop.set()
        self._server.shutdown()
        self._server.server_close()
