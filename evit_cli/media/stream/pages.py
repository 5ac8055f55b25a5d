"""What is answered besides pictures."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from evit_cli import __version__
from evit_cli.media.stream.encoder import Encoder
from evit_cli.media.stream.metrics import KIND, exposition
from evit_cli.media.stream.request import Answer, json_answer
from evit_cli.media.stream.status import Status
from evit_cli.media.stream.watchers import Watchers


class Pages:
    """The status page and its kin.

    Args:
        status: of the run.
        watchers: who watches.
        encoder: what was encoded.
        token: what the page must send along with every request, None if nothing.
    """

    def __init__(
        self, status: Status, watchers: Watchers, encoder: Encoder, token: str | None
    ) -> None:
        self._status, self._watchers, self._encoder = status, watchers, encoder
        self._query = f"?token={token}" if token else ""
        self._answers: dict[str, Callable[[], Answer]] = {
            "/": self._page,
            "/page.css": lambda: _asset("page.css", "text/css"),
            "/page.js": lambda: _asset("page.js", "text/javascript"),
            "/icon.svg": lambda: _asset("icon.svg", "image/svg+xml"),
            "/status.json": lambda: json_answer(self._described()),
            "/healthz": self._health,
            "/metrics": self._metrics,
        }

    def find(self, path: str) -> Answer | None:
        """The answer at a path, None if there is none."""
        make = self._answers.get(path)
        return make() if make is not None else None

    def _page(self) -> Answer:
        page = _asset("index.html", "text/html")
        return Answer(page.kind, page.body.replace(b"{{query}}", self._query.encode()))

    def _health(self) -> Answer:
        reading = self._status.read()
        return json_answer({"state": reading.state}, 200 if reading.state == "running" else 503)

    def _metrics(self) -> Answer:
        text = exposition(self._status, watching=len(self._watchers), encoded=self._encoder.count)
        return Answer(KIND, text.encode(errors="replace"))  # file names may be no Unicode

    def _described(self) -> dict[str, Any]:
        reading = self._status.read()
        silent_s = reading.silent_s
        return {
            "state": reading.state,
            **self._status.facts,
            "frames": reading.frames,
            "fps": round(reading.fps, 2),
            "model_ms": round(reading.model_ms, 2),
            "source_dropped": reading.source_dropped,
            "uptime_s": round(reading.uptime_s, 1),
            "silent_s": None if silent_s is None else round(silent_s, 1),
            "encoded": self._encoder.count,
            "sent": self._status.traffic.sent,
            "dropped": self._status.traffic.dropped,
            "clients": self._watchers.rows(),
            "most_clients": self._watchers.most,
            "problem": self._encoder.problem,
            "evit": __version__,
        }


def _asset(name: str, kind: str) -> Answer:
    body = (files("evit_cli") / "assets" / "stream_page" / name).read_bytes()
    return Answer(f"{kind}; charset=utf-8", body)
