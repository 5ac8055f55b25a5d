"""Whom the page's server refuses, and what it says to a request that makes no sense."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.page_client import POINT, Client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example:80"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
    ],
)
def test_other_pages_cannot_drive_it(client: Client, headers: dict[str, str], status: int) -> None:
    said = client.ask(client.root + "api/open", {"image": 0}, **headers)
    assert said[0] == status and json.loads(said[2])["error"]
    assert client.session.encoded == []


def test_a_link_to_it_may_be_followed_from_anywhere(client: Client) -> None:
    linked = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert client.ask(client.root, **linked)[0] == 200
    assert client.ask(client.root + "api/open", {"image": 0}, **linked)[0] == 403


@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "localhost:8000", "[::1]:9"])
def test_the_machine_itself_may_ask_also_through_a_tunnel(client: Client, host: str) -> None:
    name = host.format(client.host.rpartition(":")[2])
    said = client.ask(client.root + "api/open", {"image": 0}, Host=name, Origin=f"http://{name}")
    assert said[0] == 200


def test_only_this_machine_is_listened_to(client: Client) -> None:
    assert client.page.url.startswith("http://127.0.0.1:")
    assert client.page._server.socket.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("body", [None, {"image": 0}])
@pytest.mark.parametrize(
    "path", ["/", "/api/images", "/wrong/api/open", "/{}", "/{}x/", "//", "/é/"]
)
def test_without_the_secret_there_is_nothing(client: Client, path: str, body: Any) -> None:
    from urllib.parse import quote

    status, _, data = client.ask(quote(path.format(client.root.strip("/"))), body)
    assert status == 404 and b"model" not in data
    assert client.session.encoded == []


@pytest.mark.parametrize(
    "path",
    ["../work.py", "%2e%2e/x", "..%2f..%2fetc/passwd", "picture/0.png", "picture/-1.jpg", "api/"],
)
def test_no_other_file_can_be_had(client: Client, path: str) -> None:
    assert client.ask(client.root + path)[0] == 404


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (b"", 400, "JSON"),
        (b"[]", 400, "object"),
        (b'{"image": 0, "points": [[NaN, 1]], "labels": [1]}', 400, "points.0.0"),
        ({"image": 0}, 400, "needs a point or a box"),
        ({"image": 0, "points": [[1, 1]], "labels": []}, 400, "1 points came with 0 labels"),
        ({"image": 0, "points": [[1, 1]], "labels": [2]}, 400, "labels.0"),
        ({"image": 0, "points": [[-1, 1]], "labels": [1]}, 400, "points.0.0"),
        ({"image": 0, "points": [[97, 1]], "labels": [1]}, 400, "96 wide and 64 high"),
        ({"image": 0, "box": [9, 9, 9, 12]}, 400, "x0 < x1"),
        ({"image": 0, "box": [100, 70, 110, 80]}, 400, "outside"),
        ({"image": 99, **POINT}, 400, "there is no image 99; there are 6"),
        ({"image": "../x", **POINT}, 400, "image"),
        ({"image": 0, **POINT, "more": 1}, 400, "more"),
        ({"image": 0, "points": [[1, 1]] * 300, "labels": [1] * 300}, 400, "points"),
        (b" " * (2 << 20), 413, "at most"),
    ],
)
def test_bad_requests_are_answered_in_a_sentence(
    client: Client, body: Any, status: int, said: str
) -> None:
    got, sentence = client.refusal("predict", body)
    assert (got, "\n" in sentence) == (status, False) and said in sentence
    assert not client.problems
    assert client.value("predict", {"image": 0, **POINT})["masks"], "and it goes on"


def test_a_broken_image_is_said_and_the_others_still_work(
    client: Client, images: list[Path]
) -> None:
    images[1].write_bytes(b"no image")
    images[3].unlink()
    assert client.refusal("open", {"image": 1}) == (
        400,
        f"{images[1]} is not an image that can be decoded",
    )
    assert "cannot be read" in client.refusal("predict", {"image": 3, **POINT})[1]
    assert client.ask(client.root + "picture/1.jpg")[0] == 400
    assert client.value("predict", {"image": 0, **POINT})["masks"]


def test_a_failure_is_told_to_both_sides(client: Client) -> None:
    client.session.fail = RuntimeError("no memory")
    assert client.refusal("open", {"image": 0}) == (500, "evit failed with RuntimeError: no memory")
    assert [str(problem) for problem in client.problems] == ["no memory"]
    assert client.value("open", {"image": 0})
