"""What the page's server survives: slow, broken and many clients, and being stopped."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evit_cli.errors import EvitError
from evit_cli.inference.sam_page import SamPage
from evit_cli.inference.sam_page.server import MOST_CLIENTS
from tests.helpers.page_client import Client
from tests.helpers.paths import REPOSITORY
from tests.helpers.sam_discs import DiscSession


def raw(client: Client, data: bytes) -> socket.socket:
    name, _, port = client.host.partition(":")
    connection = socket.create_connection((name, int(port)), timeout=20)
    connection.sendall(data)
    return connection


def head(client: Client, length: int) -> bytes:
    return (
        f"POST {client.root}api/open HTTP/1.1\r\nHost: {client.host}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


@pytest.mark.parametrize("rest", [b"", b"GET / HT", b"POST half"])
def test_slow_and_broken_clients_disturb_nobody(client: Client, rest: bytes) -> None:
    lazy = [raw(client, rest), raw(client, head(client, 50) + b'{"im')]
    assert client.value("open", {"image": 0})
    for connection in lazy:
        connection.close()
    gone = raw(client, head(client, 12) + b'{"image": 0}')
    gone.close()  # before the answer
    assert client.value("open", {"image": 1})
    assert not client.problems


def test_a_silent_client_is_cut_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evit_cli.inference.sam_page.handler.Handler.timeout", 0.2)
    with raw(client, head(client, 50)) as lazy:
        assert b" 408 " in lazy.recv(100)
        while lazy.recv(1000):
            pass  # until it is closed


def test_what_is_not_http_is_refused(client: Client) -> None:
    with raw(client, b"\x16\x03\x01\x02\x00 hello\r\n\r\n") as odd:
        assert b"400" in odd.recv(1000)
    with raw(client, b"DELETE / HTTP/1.1\r\nHost: x\r\n\r\n") as odd:
        assert b"501" in odd.recv(1000)
    no_length = f"POST {client.root}api/open HTTP/1.1\r\nHost: {client.host}\r\n\r\n"
    with raw(client, no_length.encode()) as odd:
        assert b"411" in odd.recv(1000)


def test_too_many_clients_are_cut_off_until_some_leave(client: Client) -> None:
    crowd = [raw(client, b"") for _ in range(MOST_CLIENTS)]
    with raw(client, b"") as late:
        late.settimeout(5)
        assert late.recv(10) == b""
    for connection in crowd:
        connection.close()
    for _ in range(50):
        try:
            assert client.value("open", {"image": 0})
            return
        except (OSError, http.client.HTTPException):
            time.sleep(0.1)
    raise AssertionError("nobody is let in again")


def test_one_connection_serves_many_requests(client: Client) -> None:
    connection = http.client.HTTPConnection(client.host, timeout=20)
    for body in (b'{"image": 0}', b"{", b'{"image": 1}'):
        kind = {"Content-Type": "application/json"}
        connection.request("POST", client.root + "api/open", body, kind)
        answer = connection.getresponse()
        assert (answer.status == 200) == (len(body) > 1)
        answer.read()
    connection.close()


def test_stopping_waits_for_the_model_and_refuses_what_waits(images: list[Path]) -> None:
    session = DiscSession()
    page = SamPage(session, images)
    page.start()
    client = Client(session, page)
    session.pause_s = 0.4
    said: list[Any] = []

    def ask(image: int) -> None:
        try:
            said.append(client.ask(client.root + "api/open", {"image": image})[0])
        except (OSError, http.client.HTTPException) as error:
            said.append(error)

    askers = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for asker in askers:
        asker.start()
    while session.at_once == 0:
        time.sleep(0.01)
    page.stop()
    assert session._running == 0
    done = len(session.encoded)
    for asker in askers:
        asker.join()
    assert len(session.encoded) == done <= 1 and len(said) == 3
    page.stop()
    with pytest.raises(OSError):
        client.ask(client.root)


def test_stopping_ends_connections_that_rest(images: list[Path]) -> None:
    page = SamPage(DiscSession(), images)
    page.start()
    client = Client(DiscSession(), page)
    connection = http.client.HTTPConnection(client.host, timeout=20)
    connection.request("GET", client.root)
    assert connection.getresponse().read()
    connected = connection.sock
    page.stop()
    assert connected.recv(10) == b""
    connection.close()


def test_a_page_that_never_ran_can_be_stopped(images: list[Path]) -> None:
    SamPage(DiscSession(), images).stop()


def test_a_taken_port_is_said(client: Client, images: list[Path]) -> None:
    port = int(client.host.rpartition(":")[2])
    with pytest.raises(EvitError, match=f"port {port} cannot be used") as caught:
        SamPage(DiscSession(), images, port=port)
    assert "--port" in caught.value.hint
    with pytest.raises(EvitError, match="port 70000"):
        SamPage(DiscSession(), images, port=70000)


def test_no_image_is_said() -> None:
    with pytest.raises(EvitError, match="no image"):
        SamPage(DiscSession(), [])


_SCRIPT = """
import signal, sys
from pathlib import Path
from evit_cli.inference.sam_page import SamPage
from tests.helpers.sam_discs import DiscSession
signal.signal(signal.SIGINT, signal.default_int_handler)
with SamPage(DiscSession(), [Path(sys.argv[1])]) as page:
    print(page.url, flush=True)
    try:
        page.serve_forever()
    except KeyboardInterrupt:
        print("ended", flush=True)
"""


def test_control_c_ends_it_at_once(images: list[Path]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(images[0])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    tab = http.client.HTTPConnection(url.split("/")[2], timeout=20)
    tab.request("GET", "/")
    assert tab.getresponse().read()  # it serves now; the connection stays open
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    tab.close()
    assert (out, err, process.returncode) == ("ended\n", "", 0)
