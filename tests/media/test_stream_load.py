"""Fifty clients, ten of them broken, on a run that must not notice them."""

from __future__ import annotations

import gc
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from evit_cli.inference.segment_job import SegmentRequest, segment_source
from evit_cli.inference.segmenter import Segmenter
from evit_cli.media.frame import Frame, Problems, SourceKind
from evit_cli.media.stream import FrameStream, Limits, open_stream
from evit_cli.media.stream.encoder import Jpeg
from tests.helpers.media_files import numbered
from tests.helpers.paths import REPOSITORY
from tests.helpers.sessions import GreySession
from tests.helpers.stream_clients import HERE, PATIENCE_S, plug, reset, told

FRAMES = 300
GOOD = 40
SIZE_HW = (240, 320)
WATCH = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
LATE = 20
MOST_GROWTH = 48 << 20
"""Less than what two of the clients that never read would hold if nothing bounded them."""


def memory() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def watching(stream: FrameStream, count: int) -> None:
    end = time.monotonic() + PATIENCE_S
    while len(told(stream)["clients"]) != count:
        assert time.monotonic() < end, f"{told(stream)}"
        time.sleep(0.05)


class Broken:
    """Ten clients that do all that clients should not."""

    def __init__(self, url: str) -> None:
        self.never_read = [plug(url) for _ in range(4)]
        for connection in self.never_read:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(WATCH)
        self.leaving = [plug(url) for _ in range(2)]
        for connection in self.leaving:
            connection.sendall(WATCH)
        self.garbage, self.half, self.silent, self.chatty = (plug(url) for _ in range(4))
        self.garbage.sendall(b"\x00\xff\r\n\r\n" * 100)
        self.half.sendall(WATCH[:20])
        self.chatty.sendall(WATCH + b"x" * 1000)
        self.all = [
            *self.never_read, *self.leaving, self.garbage, self.half, self.silent, self.chatty,
        ]  # fmt: skip
        assert len(self.all) == 10
        self.watching = len(self.never_read) + len(self.leaving) + 1

    def leave(self) -> None:
        """Half-way: some in the middle of a frame, one without a goodbye."""
        self.leaving[0].recv(5000)
        reset(self.leaving[0])
        self.leaving[1].close()


class Paced:
    """A source of numbered frames that lets clients come and go at known frames."""

    kind = SourceKind.VIDEO
    name, path, rate, frame_count, dropped = "paced", None, Fraction(30), FRAMES, 0

    def __init__(self, stream: FrameStream, broken: Broken) -> None:
        self.skipped = Problems()
        self._stream, self._broken = stream, broken
        self.memory: list[int] = []
        self.jpegs = 0
        noise = np.random.default_rng(0)
        self._noise = noise.integers(0, 256, (SIZE_HW[0] // 2, SIZE_HW[1], 3), np.uint8)

    def frames(self) -> Iterator[Frame]:
        for index in range(FRAMES):
            if index == 1:
                watching(self._stream, GOOD + self._broken.watching)
            if index in (100, FRAMES - LATE):
                self.memory.append(memory())
            if index == 150:
                self._broken.leave()
            if index == FRAMES - LATE:
                self.jpegs = sum(type(one) is Jpeg for one in gc.get_objects())
                for one in self._broken.all:
                    one.close()
                watching(self._stream, GOOD)
            image = numbered(index, SIZE_HW)
            image[SIZE_HW[0] // 2 :] = self._noise
            yield Frame(image, index, "paced", time_s=Fraction(index, 30))
            time.sleep(0.005)  # what a model takes

    def close(self) -> None:
        """Nothing to free."""


@pytest.mark.slow
def test_fifty_clients_of_which_ten_are_broken() -> None:
    limits = Limits(header_s=PATIENCE_S, stuck_s=PATIENCE_S, farewell_s=PATIENCE_S)
    with open_stream(HERE, limits=limits) as stream:
        command = [sys.executable, "-m", "tests.helpers.stream_clients", stream.url, str(GOOD)]
        crowd = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        source = Paced(stream, Broken(stream.url))
        request = SegmentRequest(save=(), alpha=0.0, legend=False, watched=True)
        rows: list[int] = []
        report = segment_source(
            source,
            Segmenter(GreySession()),
            request,
            on_row=lambda row: rows.append(row["frame"]),
            stream=stream,
        )
        now = told(stream)
        stream.close()
    out, _ = crowd.communicate(timeout=PATIENCE_S)
    got = json.loads(out)

    assert report.frames == FRAMES  # the run noticed nothing
    assert rows == list(range(FRAMES))
    assert crowd.returncode == 0
    assert len(got) == GOOD
    for numbers in got:  # each a whole JPEG of that very frame
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == FRAMES
        assert len(numbers) > 2
    assert int(str(now["encoded"])) <= FRAMES
    assert now["problem"] == ""
    first, last = source.memory
    assert last - first < MOST_GROWTH
    assert source.jpegs <= GOOD + 10 + 5
