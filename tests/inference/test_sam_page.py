"""The page's server: what it answers, whom it refuses, and what it survives."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from evit_cli.data.rle import read_rle
from evit_cli.errors import EvitError
from evit_cli.inference.sam_page import SamPage, open_page
from evit_cli.inference.sam_page.server import MOST_CLIENTS
from evit_cli.inference.sam_page.work import KEPT_EMBEDDINGS, LONGEST_SHOWN
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.media.images import read_image, write_image
from tests.helpers.paths import REPOSITORY
from tests.helpers.sam_discs import IOU, DiscSession

WIDTH, HEIGHT = 96, 64
POINT = {"points": [[40, 30]], "labels": [1]}


def picture(seed: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), np.uint8)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(KEPT_EMBEDDINGS + 2)]
    for i, path in enumerate(paths):
        write_image(path, picture(i))
    return paths


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


@pytest.fixture
def client(images: list[Path]) -> Iterator[Client]:
    session, problems = DiscSession(), list[BaseException]()
    with open_page(session, images, on_problem=problems.append) as page:
        page.start()
        it = Client(session, page)
        it.problems = problems
        yield it


def masks_of(path: Path, **prompt: Any) -> npt.NDArray[np.bool_]:
    """What the library says."""
    predictor = SamPredictor(DiscSession())
    predictor.set_image(read_image(path)[0])
    return predictor.predict(**prompt).masks


def test_the_page_has_all_it_needs(client: Client) -> None:
    status, headers, html = client.ask(client.root)
    assert status == 200 and headers["Content-Type"].startswith("text/html")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert headers["Referrer-Policy"] == "no-referrer" and headers["Cache-Control"] == "no-store"
    assert b"http://" not in html and b"https://" not in html
    for name in ("page.css", "page.js", "view.js", "icon.svg"):
        assert client.ask(client.root + name)[0] == 200, name
    listing = json.loads(client.ask(client.root + "api/images")[2])
    assert listing["model"] == "sam-discs" and listing["images"][:2] == ["0.png", "1.png"]
    jpeg = client.ask(client.root + "picture/1.jpg")[2]
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("asked", "prompt"),
    [
        (POINT, {"points_xy": np.array([[40, 30]]), "labels": np.array([1])}),
        (
            {"points": [[40, 30], [44, 30]], "labels": [1, 0], "box": [10, 5.5, 90, 60]},
            {
                "points_xy": np.array([[40, 30], [44, 30]]),
                "labels": np.array([1, 0]),
                "box_xyxy": np.array([10, 5.5, 90, 60]),
            },
        ),
        ({"box": [0, 0, WIDTH, HEIGHT]}, {"box_xyxy": np.array([0, 0, WIDTH, HEIGHT])}),
    ],
)
def test_masks_are_those_of_the_library(
    client: Client, images: list[Path], asked: dict[str, Any], prompt: dict[str, Any]
) -> None:
    answer = client.value("predict", {"image": 2, **asked})
    assert answer["size"] == [HEIGHT, WIDTH] and answer["ms"] > 0
    assert [mask["iou"] for mask in answer["masks"]] == pytest.approx(IOU[1:])
    found = np.stack([read_rle(mask) for mask in answer["masks"]])
    expected = masks_of(images[2], **prompt)
    assert found.any() and np.array_equal(found, expected)


def test_an_image_is_encoded_once_for_all_tabs_and_the_last_few_are_kept(client: Client) -> None:
    encoded = client.session.encoded
    assert client.value("open", {"image": 0})["size"] == [HEIGHT, WIDTH]
    client.session.pause_s = 0.01
    tabs = [
        threading.Thread(target=client.value, args=("predict", {"image": i % 2, **POINT}))
        for i in range(8)
    ]
    for tab in tabs:
        tab.start()
    for tab in tabs:
        tab.join()
    assert len(encoded) == 2 and client.session.at_once == 1
    for index in range(KEPT_EMBEDDINGS + 1):
        client.value("open", {"image": index})
    before = len(encoded)
    client.value("open", {"image": 1})
    assert len(encoded) == before, "of the last few"
    client.value("open", {"image": 0})
    assert len(encoded) == before + 1, "the oldest was forgotten"


def test_files_are_of_the_image_itself(client: Client, images: list[Path]) -> None:
    box = {"box": [2, 2, 12, 12], "name": "left, über", "candidate": 1}
    disc = {**POINT, "candidate": 2, "name": "disc"}
    expected = masks_of(images[0], box_xyxy=np.array([2, 2, 12, 12]))[1]
    expected_disc = masks_of(
        images[0], points_xy=np.array([[40, 30]]), labels=np.array([1])
    )[2]  # fmt: skip
    path = client.root + "api/save"

    _, headers, png = client.ask(path, {"image": 0, "what": "mask", "objects": [disc]})
    mask = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert headers["Content-Type"] == "image/png"
    assert np.array_equal(mask, expected_disc * np.uint8(255))

    both = [box, disc, {**disc, "name": "left, über"}]
    _, _, png = client.ask(path, {"image": 0, "what": "cutout", "objects": both})
    cut = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    union = expected | expected_disc
    ys, xs = np.nonzero(union)
    window = np.s_[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    union, colours = union[window], picture(0)[window]
    assert np.array_equal(cut[:, :, 3], union * np.uint8(255))
    assert np.array_equal(cut[:, :, 2::-1][union], colours[union])
    assert not cut[~union].any(), "what is cut away cannot be seen in the file"

    document = client.value("save", {"image": 0, "what": "coco", "objects": both})
    assert document["images"] == [{"id": 1, "file_name": "0.png", "height": HEIGHT, "width": WIDTH}]
    assert [c["name"] for c in document["categories"]] == ["left, über", "disc"]
    rows = document["annotations"]
    assert [row["category_id"] for row in rows] == [1, 2, 1]
    assert np.array_equal(read_rle(rows[0]["segmentation"]), expected)
    ys, xs = np.nonzero(expected)
    x, y, across, down = rows[0]["bbox"]
    assert (x, y, x + across, y + down) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert rows[0]["area"] == expected.sum() and rows[0]["predicted_iou"] == pytest.approx(IOU[2])


def test_a_large_image_is_shown_smaller_and_saved_whole(tmp_path: Path) -> None:
    size_hw = (300, LONGEST_SHOWN * 2)
    path = tmp_path / "wide.png"
    write_image(path, picture(1, size_hw))
    with SamPage(DiscSession(), [path]) as page:
        page.start()
        client = Client(DiscSession(), page)
        opened = client.value("open", {"image": 0})
        assert opened["size"] == list(size_hw) and opened["shown"] == [150, LONGEST_SHOWN]
        prompt = {"points": [[3000, 150]], "labels": [1]}
        shown = read_rle(client.value("predict", {"image": 0, **prompt})["masks"][0])
        assert shown.shape == (150, LONGEST_SHOWN)
        ask = {"image": 0, "what": "coco", "objects": [prompt]}
        row = client.value("save", ask)["annotations"][0]
        assert row["segmentation"]["size"] == list(size_hw)
        assert row["area"] / shown.sum() == pytest.approx(4, rel=0.05)


def test_an_empty_cut_out_is_said(client: Client) -> None:
    beside = {"points": [[40, 30]], "labels": [0]}
    ask = {"image": 0, "what": "cutout", "objects": [beside]}
    assert client.refusal("save", ask) == (400, "the mask is empty")
    (row,) = client.value("save", {**ask, "what": "coco"})["annotations"]
    assert row["area"] == 0 and row["bbox"] == [0, 0, 0, 0]


def test_what_was_transparent_stays_so(tmp_path: Path) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, 45:] = 100
    path = tmp_path / "glass.png"
    write_image(path, picture(1), alpha=alpha)
    with SamPage(DiscSession(), [path]) as page:
        page.start()
        client = Client(DiscSession(), page)
        ask = {"image": 0, "what": "cutout", "objects": [{**POINT, "candidate": 2}]}
        cut = cv2.imdecode(
            np.frombuffer(client.ask(client.root + "api/save", ask)[2], np.uint8), -1
        )
    assert set(np.unique(cut[:, :, 3])) == {0, 100, 255}


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
