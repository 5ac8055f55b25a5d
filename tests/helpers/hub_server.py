"""A small Hugging Face Hub on loopback: what the real client asks for, and faults on demand.

Large files are answered the way the hub does it: a redirect to another host ("localhost" instead
of "127.0.0.1") that carries the file's sha256, so that the client's handling of redirects and of
the authorization header is exercised too.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


class Fault(Enum):
    """What goes wrong with an answer."""

    SERVER_ERROR = auto()  # HTTP 500
    GATED = auto()  # HTTP 403 with the hub's error code
    FORBIDDEN = auto()  # HTTP 403 without one
    NOT_A_HUB = auto()  # HTTP 200 and a web page
    CLOSED = auto()  # the connection is closed without an answer
    TRUNCATED = auto()  # half of the body, then the connection is closed
    SILENT_BODY = auto()  # the headers, no body, then the connection is closed
    WRONG_CONTENT = auto()  # the right length, other bytes


@dataclass(frozen=True)
class Request:
    """One line of the request log."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class Hub:
    """The contents and the moods of the server; set `fault` (and how often) at any time."""

    endpoint: str = ""
    cdn: str = ""
    requests: list[Request] = field(default_factory=list)
    fault: Fault | None = None
    fault_times: int | None = None
    token: str | None = None
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)

    def add(self, repo: str, file: str, content: bytes, *, revision: str = "main") -> None:
        """Put a file into a repository at a revision."""
        self.files.setdefault((repo, revision), {})[file] = content

    def commit(self, repo: str, revision: str) -> str | None:
        """The commit that a revision (or a commit) stands for; it changes with the contents."""
        for (name, known), files in self.files.items():
            digest = hashlib.sha1(json.dumps([name, known]).encode())
            for file, content in sorted(files.items()):
                digest.update(file.encode() + hashlib.sha1(content).digest())
            if name == repo and revision in (known, digest.hexdigest()):
                return digest.hexdigest()
        return None

    def at(self, repo: str, revision: str) -> dict[str, bytes]:
        """The files at a revision or commit."""
        commit = self.commit(repo, revision)
        found = (f for (r, v), f in self.files.items() if r == repo and self.commit(r, v) == commit)
        return next(found, {})

    def take_fault(self) -> Fault | None:
        """The fault for this answer, counting down."""
        if self.fault is None or self.fault_times == 0:
            return None
        if self.fault_times is not None:
            self.fault_times -= 1
        return self.fault

    def paths(self, method: str) -> list[str]:
        """The paths asked for with `method`."""
        return [r.path for r in self.requests if r.method == method]


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(Request(self.command, path, dict(self.headers.items())))
        body_request = self.command == "GET" and path.startswith("/cdn/")
        fault = self.hub.fault
        body_fault = fault in (Fault.TRUNCATED, Fault.SILENT_BODY, Fault.WRONG_CONTENT)
        fault = self.hub.take_fault() if body_fault == body_request else None
        if fault is Fault.CLOSED:
            self.close_connection = True
            return
        if fault is Fault.NOT_A_HUB:
            self._send(200, {"Content-Type": "text/html"}, b"<!doctype html><p>log in</p>")
        elif fault in (Fault.SERVER_ERROR, Fault.FORBIDDEN, Fault.GATED):
            code = {"X-Error-Code": "GatedRepo"} if fault is Fault.GATED else {}
            self._send(500 if fault is Fault.SERVER_ERROR else 403, code)
        elif path.startswith("/cdn/"):
            self._content(path.split("/")[2], fault)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path):
            self._tree(*match.groups())
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            self._send(404, {})

    def _refused(self, repo: str, revision: str) -> bool:
        """Answer 401 or 404 where the real hub would."""
        wanted = self.hub.token
        if wanted is not None and self.headers.get("authorization") != f"Bearer {wanted}":
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif not any(name == repo for name, _ in self.hub.files):
            self._send(401, {"X-Error-Code": "RepoNotFound"})
        elif self.hub.commit(repo, revision) is None:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            return False
        return True

    def _resolve(self, repo: str, revision: str, file: str) -> None:
        if self._refused(repo, revision):
            return
        headers = {"X-Repo-Commit": self.hub.commit(repo, revision) or ""}
        content = self.hub.at(repo, revision).get(file)
        if content is None:
            self._send(404, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        headers["X-Linked-Etag"] = f'"{_etag(content)}"'
        headers["X-Linked-Size"] = str(len(content))
        headers["Location"] = f"{self.hub.cdn}/cdn/{_etag(content)}/{file}"
        self._send(302, headers)

    def _content(self, etag: str, fault: Fault | None) -> None:
        contents = (c for files in self.hub.files.values() for c in files.values())
        content = next((c for c in contents if _etag(c) == etag), None)
        if content is None:
            self._send(404, {})
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        status, headers = (206, {}) if start else (200, {})
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        part = content[start:]
        if fault is Fault.WRONG_CONTENT:
            part = bytes(len(part))
        sent = {Fault.TRUNCATED: len(part) // 2, Fault.SILENT_BODY: 0}.get(fault, len(part))
        self._send(status, {**headers, "ETag": f'"{etag}"'}, part, sent=sent)

    def _tree(self, repo: str, revision: str) -> None:
        if self._refused(repo, revision):
            return
        entries = [
            {"type": "file", "path": file, "size": len(content), "oid": _etag(content)[:40]}
            for file, content in self.hub.at(repo, revision).items()
        ]
        self._send(200, {"Content-Type": "application/json"}, json.dumps(entries).encode())

    def _send(
        self, status: int, headers: dict[str, str], body: bytes = b"", *, sent: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
        if sent is not None and sent < len(body):
            self.close_connection = True


class HubServer:
    """Runs a `Hub` in a thread: `with HubServer() as hub: ...`."""

    def __enter__(self) -> Hub:
        hub = Hub()
        handler = type("Handler", (_Handler,), {"hub": hub})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        hub.endpoint, hub.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return hub

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
