"""What the page's server answers: masks, files, pictures."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from evit_cli.data.rle import read_rle
from evit_cli.inference.sam_page import SamPage
from evit_cli.inference.sam_page.work import KEPT_EMBEDDINGS, LONGEST_SHOWN
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.media.images import read_image, write_image
from tests.helpers.page_client import HEIGHT, POINT, WIDTH, Client, picture
from tests.helpers.sam_discs import IOU, DiscSession


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
