"""Asks the page of `evit sam --ui` as a browser's script does."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.inference.sam_page import SamPage
from tests.helpers.sam_discs import DiscSession

WIDTH, HEIGHT = 96, 64
POINT = {"points": [[40, 30]], "labels": [1]}


def picture(seed: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


class Client:
    """Asks a page; every request has a connection of its own."""

    def __init__(self, session: DiscSession, page: SamPage) -> None:
        self.session, self.page = session, page
        self.problems: list[BaseException] = []
        _, _, self.host, token, _ = page.url.split("/")
        self.root = f"/{token}/"

    def ask(self, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        send = {} if body is None else {"Content-Type": "application/json"}
        send |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request("GET" if body is None else "POST", path, data, send)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()

    def value(self, name: str, body: Any) -> Any:
        status, _, data = self.ask(self.root + f"api/{name}", body)
        assert status == 200, data
        return json.loads(data)

    def refusal(self, name: str, body: Any) -> tuple[int, str]:
        status, _, data = self.ask(self.root + f"api/{name}", body)
        assert status != 200
        return status, json.loads(data)["error"]
