"""A page in the browser that finds objects by clicks and boxes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from evit_cli.inference.sam_page.server import PageServer
from evit_cli.inference.sam_page.work import PageWork
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.runtime.sam import SamSession


def _ignore(error: BaseException) -> None:
    """The page shows it anyway."""


class SamPage:
    """Serves the page on 127.0.0.1; it is ready to be reached when this returns.

    Args:
        model: a session, or a predictor that nobody else uses meanwhile. It stays open.
        images: the files to choose from; they are read when they are opened.
        port: 0 for a free one.
        on_problem: told of unexpected errors, in the thread where they happen.

    Attributes:
        url: the address, with a secret in it.

    Raises:
        EvitError: there is no image, or the port is taken.

    Example:
        >>> with SamPage(open_sam("sam-l0"), [Path("cat.jpg")]) as page:  # doctest: +SKIP
        ...     print(page.url)
        ...     page.serve_forever()
    """

    def __init__(
        self,
        model: SamPredictor | SamSession,
        images: Sequence[Path],
        *,
        port: int = 0,
        on_problem: Callable[[BaseException], None] = _ignore,
    ) -> None:
        predictor = model if isinstance(model, SamPredictor) else SamPredictor(model)
        token = secrets.token_urlsafe(16)
        self._work = PageWork(predictor, images)
        self._server = PageServer(port, self._work, token=token, on_problem=on_problem)
        self.url = f"http://127.0.0.1:{self._server.server_port}/{token}/"
        self._runner: threading.Thread | None = None

    def serve_forever(self) -> None:
        """Answer until `stop` is called or the thread is interrupted (Ctrl-C), then end all."""
        self._runner = threading.current_thread()
        try:
            self._server.serve_forever(poll_interval=0.1)
        finally:
            self._runner = None
            self._end()

    def start(self) -> None:
        """Answer in a thread of its own."""
        runner = threading.Thread(target=self.serve_forever, name="evit-sam-page", daemon=True)
        self._runner = runner
        runner.start()

    def stop(self) -> None:
        """End; when this returns nothing uses the model any more. May be called twice."""
        runner = self._runner
        if runner is not None and runner is not threading.current_thread():
            self._server.shutdown()
        self._end()

    def _end(self) -> None:
        self._server.server_close()
        self._server.hang_up()
        self._work.close()

    def __enter__(self) -> SamPage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def open_page(
    model: SamPredictor | SamSession,
    images: Sequence[Path],
    *,
    port: int = 0,
    on_problem: Callable[[BaseException], None] = _ignore,
) -> SamPage:
    """The page of a model and images; see `SamPage`."""
    return SamPage(model, images, port=port, on_problem=on_problem)
