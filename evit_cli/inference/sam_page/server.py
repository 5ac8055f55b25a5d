"""The page over HTTP, for browsers of this machine."""

from __future__ import annotations

import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from evit_cli.errors import EvitError
from evit_cli.inference.sam_page.handler import Handler
from evit_cli.inference.sam_page.work import PageWork

MOST_CLIENTS = 64
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def page_files() -> dict[str, tuple[str, bytes]]:
    """The page itself: name -> (media type, bytes)."""
    folder = files("evit_cli") / "assets" / "sam_page"
    found = {
        item.name: (_TYPES["." + item.name.rpartition(".")[2]], item.read_bytes())
        for item in folder.iterdir()
        if "." + item.name.rpartition(".")[2] in _TYPES
    }
    return {"": found["index.html"], **found}


class PageServer(ThreadingHTTPServer):
    """Serves `work` on 127.0.0.1.

    Args:
        port: 0 for a free one.
        work: what is asked for.
        token: the secret first part of every path.
        on_problem: told of errors that are nobody's fault but ours.

    Raises:
        EvitError: the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(
        self, port: int, work: PageWork, *, token: str, on_problem: Callable[[BaseException], None]
    ) -> None:
        self.work, self.token, self.on_problem = work, token, on_problem
        self.files = page_files()
        self._slots = threading.BoundedSemaphore(MOST_CLIENTS)
        self._open: set[Any] = set()
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            said = getattr(error, "strerror", None) or str(error)
            raise EvitError(
                f"port {port} cannot be used: {said}", hint="leave --port away for a free one"
            ) from error

    def server_bind(self) -> None:
        """Bind, without the look-up of a name that `HTTPServer` makes (slow without a network)."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        """Give a client its thread, or cut it off when there are too many."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one client in its thread."""
        self._open.add(request)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no problem; anything else is told."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError | ValueError):
            self.on_problem(error)

    def hang_up(self) -> None:
        """End all connections."""
        for request in list(self._open):
            try:
                request.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has ended already
                continue
