"""Who may watch a stream, and where it may listen."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from evit_cli.errors import EvitError, UsageError
from evit_cli.media.stream import FrameStream, open_stream
from evit_cli.media.stream.address import is_loopback, parse_address
from tests.helpers.stream_clients import (
    HERE,
    ask,
    offer,
)

TOKEN = "a-token.of_the~tests"
PATHS = ("", "stream.mjpg", "snapshot.jpg", "status.json", "healthz", "metrics", "page.js")


@pytest.fixture
def stream() -> Iterator[FrameStream]:
    with open_stream(HERE) as opened:
        yield opened


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1234", "localhost:80", "[::1]:8080", "127.8.8.8"]
)
def test_this_machine_is_let_in(stream: FrameStream, host: str) -> None:
    assert ask(stream.url, "metrics", Host=host).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "", "10.0.0.1", "[::2]"]
)
def test_a_name_that_was_pointed_here_is_not(stream: FrameStream, host: str) -> None:
    for path in PATHS:
        assert ask(stream.url, path, Host=host).status == 403


def test_pages_of_others_may_not_show_it(stream: FrameStream) -> None:
    offer(stream, 0)
    for path in PATHS:
        assert ask(stream.url, path, Sec_Fetch_Site="cross-site").status == 403
    reply = ask(stream.url, "snapshot.jpg", Sec_Fetch_Site="same-origin")
    assert (reply.status, reply.headers["Cross-Origin-Resource-Policy"]) == (200, "same-origin")
    followed = ask(stream.url, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate")
    assert followed.status == 200


def test_another_address_needs_a_token() -> None:
    with open_stream("http://0.0.0.0:0") as stream:
        place, _, query = stream.url.partition("?")
        port = place.rstrip("/").rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/"
        assert len(query.removeprefix("token=")) >= 32
        offer(stream, 0)
        assert ask(f"{url}?{query}", "snapshot.jpg").status == 200
        for path in PATHS:
            reply = ask(url, path)
            assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert query.removeprefix("token=").encode() not in reply.body
    with open_stream("http://0.0.0.0:0") as other:
        assert other.url.partition("?")[2] != query


def test_a_token_that_was_given() -> None:
    with open_stream("http://0.0.0.0:0", token=TOKEN) as stream:
        assert TOKEN not in stream.url  # who gave it knows it; the log need not
        port = stream.url.rstrip("/").rpartition(":")[2]
        url = f"http://127.0.0.1:{port}/"
        page = ask(f"{url}?token={TOKEN}", Host="robot.example")
        assert page.status == 200 and f'"stream.mjpg?token={TOKEN}"' in page.body.decode()
        assert ask(url, "metrics", Authorization=f"Bearer {TOKEN}").status == 200
        assert ask(url, "metrics", Authorization=f"bearer  {TOKEN}").status == 200
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", "Bearer", "é"):
            assert ask(url, "metrics", Authorization=wrong).status == 401
        for wrong in ("", TOKEN[:-1], "%C3%A9", TOKEN.upper()):
            assert ask(f"{url}?token={wrong}", "metrics").status == 401


def test_a_token_may_be_asked_for_on_loopback_too() -> None:
    with open_stream(HERE, token=TOKEN) as stream:
        assert ask(stream.url, "metrics").status == 401
        assert ask(f"{stream.url}?token={TOKEN}", "metrics").status == 200
        assert ask(f"{stream.url}?token={TOKEN}", "metrics", Host="evil.example").status == 403


@pytest.mark.parametrize("token", ["", "short", "x" * 257, "sixteen letters and", "ü" * 20])
def test_a_token_that_is_none(token: str) -> None:
    with pytest.raises(UsageError, match="16 to 256"):
        open_stream(HERE, token=token)


# Addresses


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:8080", ("127.0.0.1", 8080)),
        ("http://localhost:0/", ("localhost", 0)),
        ("http://[::1]:80", ("::1", 80)),
        (" HTTP://0.0.0.0:65535 ", ("0.0.0.0", 65535)),
    ],
)
def test_addresses(text: str, expected: tuple[str, int]) -> None:
    address = parse_address(text)
    assert (address.host, address.port) == expected


@pytest.mark.parametrize(
    "text",
    ["", "8080", "127.0.0.1:8080", "http://127.0.0.1", "http://:80", "https://127.0.0.1:1",
     "http://a:b", "http://a:70000", "rtsp://a:1", "http://me@a:1", "http://a:1/path",
     "http://a:1?x=1", "http://[::1:80"],
)  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.3.2.1", True), ("::1", True), ("LOCALHOST", True), ("[::1]", True),
     ("0.0.0.0", False), ("::", False), ("192.168.0.1", False), ("localhost.example", False),
     ("", False), ("2130706433", False)],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_port_that_is_taken() -> None:
    with open_stream(HERE) as first:
        port = first.url.rstrip("/").rpartition(":")[2]
        with pytest.raises(EvitError, match=rf"^port {port} of 127.0.0.1 is in use$") as caught:
            open_stream(first.url)
        assert "port 0" in caught.value.hint
    open_stream(first.url).close()  # at once, although old connections linger


@pytest.mark.parametrize("host", ["192.0.2.77", "no-such-host.invalid"])
def test_an_address_of_others(host: str) -> None:
    with pytest.raises(EvitError, match=host) as caught:
        open_stream(f"http://{host}:0")
    assert "0.0.0.0" in caught.value.hint
