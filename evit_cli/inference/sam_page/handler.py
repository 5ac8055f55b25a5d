"""Whom the page answers, and what: one connection of a browser.

Any web site that is open in the same browser can send requests to 127.0.0.1. So every address
begins with a secret, the Host must be this machine (a name that an attacker points here is not),
an Origin must be the page's own, and requests are JSON, which other origins may not send unasked.
"""

from __future__ import annotations

import hmac
import json
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from evit_cli.errors import EvitError
from evit_cli.inference.sam_page.asks import MOST_BYTES, OpenAsk, PredictAsk, SaveAsk, read_ask

if TYPE_CHECKING:
    from evit_cli.inference.sam_page.server import PageServer

PATIENCE_S = 30.0
"""A client that is silent for so long is cut off; a body must be there within it."""

HEARD_OUT_S = 2.0
"""A refused request may go on for so long; what it says is thrown away."""

_OURS = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Refused(Exception):
    """A request that is answered with a status other than 200."""

    def __init__(self, status: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.hint = status, message, hint


class Handler(BaseHTTPRequestHandler):
    """One connection: any number of requests, one after another."""

    server: PageServer
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S
    disable_nagle_algorithm = True
    server_version, sys_version = "evit", ""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: only ui prints."""

    def do_GET(self) -> None:
        """The page and its pictures."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """What the page asks for."""
        self._answer(self._post)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses, in our form."""
        self.close_connection = True
        self.request_version = self.protocol_version  # a line that made no sense has none
        self._refuse(Refused(code, message or "this is not HTTP"))

    def _answer(self, find: Callable[[str], tuple[str, bytes]]) -> None:
        try:
            kind, data = find(self._asked_path())
        except Refused as refused:
            self._refuse(refused)
        except EvitError as error:
            self._refuse(Refused(400, error.message, error.hint))
        except Exception as error:
            self.server.on_problem(error)
            self._refuse(Refused(500, f"evit failed with {type(error).__name__}: {error}"))
        else:
            self._send(200, kind, data)

    def _asked_path(self) -> str:
        """The path behind the token."""
        host, origin = self.headers.get("Host", ""), self.headers.get("Origin")
        site = self.headers.get("Sec-Fetch-Site", "none")
        if self.command == "GET" and self.headers.get("Sec-Fetch-Mode") == "navigate":
            site = "none"  # a link to the page, for example in a terminal that is a web page
        if not _OURS.fullmatch(host):
            raise Refused(403, "this page answers to 127.0.0.1 only")
        if origin not in (None, f"http://{host}") or site not in ("same-origin", "none"):
            raise Refused(403, "another page may not ask this one")
        token, slash, path = self.path.partition("?")[0].removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) or not slash:
            raise Refused(404, "this is not the address that evit printed")
        return path

    def _get(self, path: str) -> tuple[str, bytes]:
        if path in self.server.files:
            return self.server.files[path]
        picture = re.fullmatch(r"picture/(\d{1,6})\.jpg", path)
        if picture:
            return "image/jpeg", self.server.work.picture(int(picture[1]))
        if path == "api/images":
            return _json(self.server.work.listing())
        raise Refused(404, "there is no such page")

    def _post(self, path: str) -> tuple[str, bytes]:
        body = self._body()
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "a request must be application/json")
        work = self.server.work
        if path == "api/open":
            return _json(work.open(read_ask(OpenAsk, body)))
        if path == "api/predict":
            return _json(work.predict(read_ask(PredictAsk, body)))
        if path == "api/save":
            return work.save(read_ask(SaveAsk, body))
        raise Refused(404, "there is no such request")

    def _body(self) -> bytes:
        said = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,15}", said):
            self.close_connection = True
            raise Refused(411, "a request must say its length")
        length = int(said)
        if length > MOST_BYTES:
            self.close_connection = True
            raise Refused(413, f"a request has at most {MOST_BYTES} bytes, this one {length}")
        try:
            return self._read(length)
        except OSError as error:
            self.close_connection = True
            raise Refused(408, "the request did not come in time") from error

    def _read(self, length: int) -> bytes:
        until = time.monotonic() + PATIENCE_S
        body = bytearray()
        while len(body) < length:
            part = self.rfile.read1(length - len(body))
            if not part or time.monotonic() > until:
                raise TimeoutError
            body += part
        return bytes(body)

    def _refuse(self, refused: Refused) -> None:
        said = {"error": refused.message, "hint": refused.hint}
        # What is left of a refused request would be taken for the next one.
        if self.command != "GET" and refused.status in (403, 404, 501):
            self.close_connection = True
        self._send(refused.status, *_json(said))
        if self.close_connection and self.command != "GET":
            self._hear_out()

    def _hear_out(self) -> None:
        """Read what still comes: a client that is cut off while it sends never sees the answer."""
        until = time.monotonic() + HEARD_OUT_S
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(HEARD_OUT_S)
            while time.monotonic() < until and self.rfile.read1(1 << 16):
                pass

    def _send(self, status: int, kind: str, data: bytes) -> None:
        try:
            self.send_response(status)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            self.close_connection = True


def _json(value: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(value, ensure_ascii=False).encode()
