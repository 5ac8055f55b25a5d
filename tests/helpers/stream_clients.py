"""Clients of a stream: good ones, which check what they get, and broken ones.

As a program it is a crowd of good clients in a process of their own: `URL COUNT` prints one JSON
line, the numbers of the frames that each of them got.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse, parse_headers
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.media.stream import FrameStream
from tests.helpers.media_files import ImageU8, number_of, numbered

PATIENCE_S = 60.0
HERE = "http://127.0.0.1:0"
"""A free port."""


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


def ask(url: str, path: str = "", *, method: str = "GET", **headers: str) -> Reply:
    """One request below `url`; a "_" in a header's name is a "-"."""
    connection = connect(url)
    place = urlsplit(url)
    query = f"?{place.query}" if place.query else ""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, f"/{path}{query}", headers=fields)
    response = connection.getresponse()
    reply = Reply(response.status, dict(response.getheaders()), response.read())
    connection.close()
    return reply


def connect(url: str) -> HTTPConnection:
    place = urlsplit(url)
    assert place.hostname is not None
    return HTTPConnection(place.hostname, place.port, timeout=PATIENCE_S)


def plug(url: str) -> socket.socket:
    """A bare connection."""
    place = urlsplit(url)
    return socket.create_connection((place.hostname or "", place.port or 0), timeout=PATIENCE_S)


def watch(url: str) -> tuple[HTTPConnection, HTTPResponse]:
    """Ask for the stream."""
    connection = connect(url)
    connection.request("GET", "/stream.mjpg")
    return connection, connection.getresponse()


def parts(response: HTTPResponse) -> Iterator[tuple[int, bytes]]:
    """(number, JPEG) of each part of a multipart stream, as RFC 2046 delimits them."""
    kind, _, said = response.headers["Content-Type"].partition("; boundary=")
    assert kind == "multipart/x-mixed-replace" and said
    assert response.readline() == f"--{said}\r\n".encode()
    while True:
        headers = parse_headers(response)
        if not headers.keys():
            return
        assert headers["Content-Type"] == "image/jpeg"
        data = response.read(int(headers["Content-Length"]))
        if len(data) < int(headers["Content-Length"]):
            return
        yield int(headers["X-Frame"]), data
        assert response.readline() == b"\r\n"
        assert response.readline() == f"--{said}\r\n".encode()


def picture(data: bytes) -> npt.NDArray[np.uint8]:
    """The (H, W, 3) RGB picture in a JPEG that is whole."""
    assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image[:, :, ::-1], np.uint8)


class Drawn:
    """A frame that counts how often it was drawn."""

    def __init__(self, number: int) -> None:
        self.number, self.times = number, 0

    def __call__(self) -> ImageU8:
        self.times += 1
        return numbered(self.number)


def offer(stream: FrameStream, number: int) -> Drawn:
    drawn = Drawn(number)
    stream.offer(drawn, model_ms=20.0)
    return drawn


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def told(stream: FrameStream) -> dict[str, Any]:
    """The stream's status."""
    return dict(json.loads(ask(stream.url, "status.json").body))


def reset(connection: socket.socket) -> None:
    """Leave as a machine does that lost its power and came back: no goodbye."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def _look(url: str, got: list[int]) -> None:
    _, response = watch(url)
    assert response.status == 200
    for number, data in parts(response):
        assert number_of(picture(data)) == (number - 1) % 256
        got.append(number)


def _crowd(url: str, count: int) -> None:
    got: list[list[int]] = [[] for _ in range(count)]
    threads = [threading.Thread(target=_look, args=(url, numbers)) for numbers in got]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(got))


if __name__ == "__main__":
    _crowd(sys.argv[1], int(sys.argv[2]))
