"""Clients of a stream that misbehave, and the limits on all."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.media.stream import FrameStream, Limits, open_stream
from tests.helpers.stream_clients import (
    HERE,
    PATIENCE_S,
    ask,
    offer,
    plug,
    reset,
    told,
    until,
    watch,
)


@pytest.fixture
def stream() -> Iterator[FrameStream]:
    with open_stream(HERE, limits=Limits(header_s=2.0, stuck_s=1.0, farewell_s=20.0)) as opened:
        yield opened


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"a%d: b\r\n" % n for n in range(200)) + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 403),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nsome body", 405),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", 408),
        (b"", 408),
        (b"GET /" + b"a" * 9000, 431),
        (b"a" * (1 << 20), 431),
    ],
)
def test_what_is_no_request_is_refused(stream: FrameStream, sent: bytes, status: int) -> None:
    with plug(stream.url) as connection:
        try:
            connection.sendall(sent)
            answer = connection.recv(1 << 16)
        except ConnectionError:  # it was cut off before it had said all
            answer = b""
        assert not answer or answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer or len(sent) > 1 << 16
    text = ask(stream.url, "metrics").body.decode()
    assert f'evit_stream_refused_requests_total{{status="{status}"}} 1' in text


@settings(max_examples=40, deadline=None)
@given(said=st.binary(max_size=200))
def test_any_bytes_leave_it_well(shared_stream: FrameStream, said: bytes) -> None:
    with plug(shared_stream.url) as connection:
        connection.sendall(said + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 4")
    assert ask(shared_stream.url, "healthz").status in (200, 503)


@pytest.fixture(scope="module")
def shared_stream() -> Iterator[FrameStream]:
    with open_stream(HERE) as opened:
        yield opened


def test_a_trickled_header_is_cut_off(stream: FrameStream) -> None:
    with plug(stream.url) as connection:
        answer = b""
        connection.settimeout(0.1)
        end = time.monotonic() + PATIENCE_S
        while not answer:
            assert time.monotonic() < end
            try:
                connection.sendall(b"a")
                answer = connection.recv(100)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_never_reads_is_cut_off(stream: FrameStream) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    with plug(stream.url) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: len(told(stream)["clients"]) == 1)

        def gone() -> bool:
            stream.offer(lambda: noise, model_ms=1)
            return told(stream)["clients"] == []

        until(gone)


@pytest.mark.parametrize("leave", [reset, socket.socket.close])
def test_clients_that_vanish(stream: FrameStream, leave: Callable[[socket.socket], None]) -> None:
    for _ in range(5):
        connection = plug(stream.url)
        connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        offer(stream, 1)
        connection.recv(10)
        leave(connection)
    until(lambda: not told(stream)["clients"])


def test_a_client_that_talks_on_is_cut_off(stream: FrameStream) -> None:
    with plug(stream.url) as connection:
        connection.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with pytest.raises(ConnectionError):
            for _ in range(100_000):
                connection.sendall(b"blah" * 1000)
    until(lambda: not told(stream)["clients"])


def test_there_is_a_limit_on_watchers() -> None:
    with open_stream(HERE, limits=Limits(watchers=3)) as stream:
        offer(stream, 0)
        inside = [watch(stream.url) for _ in range(3)]
        connection, refused = watch(stream.url)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        connection.close()
        assert ask(stream.url, "snapshot.jpg").status == 200  # which takes no place
        for connection, response in inside[:1]:
            response.close()
            connection.close()
        until(lambda: len(told(stream)["clients"]) == 2)
        assert watch(stream.url)[1].status == 200


def test_there_is_a_limit_on_connections() -> None:
    with open_stream(HERE, limits=Limits(watchers=2, spare=3)) as stream:
        idle = [plug(stream.url) for _ in range(5)]
        more = [plug(stream.url) for _ in range(10)]
        assert [connection.recv(1) for connection in more] == [b""] * 10
        for connection in (*idle, *more):
            connection.close()
        until(lambda: _answers(stream.url))


def _answers(url: str) -> bool:
    try:
        return ask(url, "metrics").status == 200
    except (OSError, EOFError):
        return False


def test_closing_does_not_wait_for_a_client_that_never_reads() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    before = set(threading.enumerate())
    with open_stream(HERE, limits=Limits(farewell_s=0.2)) as stream, plug(stream.url) as client:
        client.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: len(told(stream)["clients"]) == 1)
        while not told(stream)["dropped"]:
            stream.offer(lambda: noise, model_ms=1)
        stream.close()
        assert set(threading.enumerate()) <= before
