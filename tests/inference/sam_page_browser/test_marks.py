"""Clicks and boxes in a real browser: what is painted, listed and saved."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.data.rle import read_rle
from evit_cli.inference.sam_prompts import read_prompts
from tests.helpers.browser import CHROMIUM, Page
from tests.helpers.page_view import (
    BLUE,
    GREY,
    PATIENCE_S,
    answered,
    click,
    colour,
    downloaded,
    drag,
    keep,
    key,
    library,
    move,
    objects,
    painted,
    spot,
    text,
)
from tests.helpers.sam_discs import DiscSession

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


# The disc around (200, 150) that is best has a radius of 120 * 400 / 1024 = 47 pixels.


def test_a_click_paints_a_mask_and_a_negative_one_cuts_it(page: Page) -> None:
    assert not painted(page, 200, 130)
    click(page, 200, 150)
    assert painted(page, 200, 130) and painted(page, 230, 150) and not painted(page, 260, 150)
    half = tuple(round((value + GREY) / 2) for value in BLUE)
    assert colour(page, 200, 130) == pytest.approx(half, abs=3)
    assert text(page, "status").startswith("Mask 2 of 3, predicted IoU 0.95")
    click(page, 230, 150, button="right")
    assert painted(page, 180, 150) and not painted(page, 222, 158)
    click(page, 180, 150, modifiers=8)  # Shift
    assert not painted(page, 188, 158) and painted(page, 200, 130)
    keep(page, "sam-clicks")


def test_undo_and_redo(page: Page) -> None:
    click(page, 200, 150)
    click(page, 230, 150, button="right")
    assert not painted(page, 222, 158)
    page.click("#undo")
    assert painted(page, 222, 158)
    key(page, "z", modifiers=2)
    assert not painted(page, 200, 130)
    assert page.look("document.getElementById('undo').disabled")
    key(page, "Z", modifiers=2 | 8)
    assert painted(page, 200, 130) and painted(page, 222, 158)
    page.click("#redo")
    assert not painted(page, 222, 158) and painted(page, 200, 130)
    page.click("#clear")
    assert not painted(page, 200, 130)
    page.click("#undo")
    assert painted(page, 200, 130)


def test_three_masks_can_be_cycled_through(page: Page) -> None:
    click(page, 200, 150)
    said = "[...document.querySelectorAll('#masks button')].map(b => b.getAttribute('aria-label'))"
    assert page.look(said) == [
        f"Mask {i}, predicted IoU {iou}" for i, iou in ((1, "0.70"), (2, "0.95"), (3, "0.80"))
    ]
    widths = []
    for _ in range(3):
        widths.append((painted(page, 230, 150), painted(page, 260, 150)))
        key(page, "m")
    assert widths == [(True, False), (True, True), (False, False)]  # masks 2, 3, 1
    key(page, "3")
    assert painted(page, 260, 150)
    page.click("#masks button:first-child")
    assert not painted(page, 230, 150) and painted(page, 200, 135)
    assert page.look("document.querySelector('#masks [aria-checked=true]').textContent")[0] == "1"
    page.press("ArrowRight")
    assert painted(page, 230, 150) and text(page, "status").startswith("Mask 2")


def test_a_box_is_drawn(page: Page) -> None:
    page.click("[data-tool=box]")
    drag(page, (300, 250), (60, 40))  # from the lower right
    answered(page)
    assert painted(page, 80, 60) and painted(page, 280, 230)
    assert not painted(page, 310, 150) and not painted(page, 50, 150)
    click(page, 180, 150, button="right")
    assert not painted(page, 188, 158) and painted(page, 80, 60)
    keep(page, "sam-box")


def test_several_objects_have_their_colours_and_names(page: Page, tmp_path: Path) -> None:
    click(page, 100, 100)
    page.click("#new")
    click(page, 300, 200)
    first, second = colour(page, 100, 85), colour(page, 300, 185)
    assert first != second and objects(page) == ["object 1", "object 2"]
    page.click("#objects li:nth-child(2) input")
    page.look("document.activeElement.select()")
    page.write("Katze: Anna")
    page.press("Enter")
    page.click("#objects li:first-child .pick")
    click(page, 125, 100, button="right")
    assert not painted(page, 118, 106) and painted(page, 300, 185)
    document = json.loads(downloaded(page, "coco", tmp_path).read_text("utf-8"))
    assert [c["name"] for c in document["categories"]] == ["object 1", "Katze: Anna"]
    assert document["images"][0]["file_name"] == "grey.png"
    areas = [read_rle(row["segmentation"])[85, 100] for row in document["annotations"]]
    assert areas == [True, False]
    keep(page, "sam-objects")
    page.click("#objects li:first-child button[title=Delete]")
    assert not painted(page, 100, 85) and objects(page) == ["Katze: Anna"]
    page.click("#undo")
    assert painted(page, 100, 85)


def test_files_are_what_the_library_says(page: Page, images: list[Path], tmp_path: Path) -> None:
    click(page, 200, 150)
    click(page, 230, 150, button="right")
    document = json.loads(downloaded(page, "coco", tmp_path).read_text("utf-8"))
    (row,) = document["annotations"]
    assert row["labels"] == [1, 0]
    assert np.allclose(row["points"], [[200, 150], [230, 150]], atol=0.5)
    points = [(*point, label) for point, label in zip(row["points"], row["labels"], strict=True)]
    expected = library(images, *points).masks[1]
    assert np.array_equal(read_rle(row["segmentation"]), expected)

    mask = downloaded(page, "mask", tmp_path)
    assert mask.name == "grey-object-1-mask.png"
    read = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(read, expected * np.uint8(255))
    cut = cv2.imread(str(downloaded(page, "cutout", tmp_path)), cv2.IMREAD_UNCHANGED)
    ys, xs = np.nonzero(expected)
    shown = expected[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
    assert np.array_equal(cut[:, :, 3] == 255, shown)
    assert (cut[shown] == [GREY, GREY, GREY, 255]).all()


def test_prompts_can_be_asked_again_on_the_command_line(page: Page, tmp_path: Path) -> None:
    click(page, 200, 150)
    click(page, 230, 150, button="right")
    key(page, "n")
    page.click("[data-tool=box]")
    drag(page, (40, 50), (100, 200))
    answered(page)
    file = downloaded(page, "prompts", tmp_path)
    assert file.name == "grey-prompts.jsonl"
    first, second = read_prompts(file, images=False).everywhere
    assert (first.id, first.labels, first.box_xyxy) == ("object 1", (1, 0), None)
    assert np.allclose(first.points_xy, [[200, 150], [230, 150]], atol=0.5)
    assert (second.id, second.labels) == ("object 2", ())
    assert second.box_xyxy == pytest.approx((40, 50, 100, 200), abs=0.5)


def test_the_pointer_shows_what_a_click_would_find(page: Page, session: DiscSession) -> None:
    move(page, 200, 150)
    end = time.monotonic() + PATIENCE_S
    while not painted(page, 200, 130):
        assert time.monotonic() < end
    assert text(page, "no-mask") and page.look("document.getElementById('undo').disabled")
    faint = colour(page, 200, 130)
    before = session.decoded
    click(page, 200, 150)
    assert session.decoded == before, "the answer was there already"
    assert colour(page, 200, 130) != faint and painted(page, 200, 130)
    move(page, 320, 220)
    page.settle()
    assert not painted(page, 320, 200), "an object that has a point is not shown elsewhere"
    key(page, "n")
    move(page, 321, 221)
    while not painted(page, 320, 205):
        assert time.monotonic() < end
    page.send("Input.dispatchMouseEvent", type="mouseMoved", x=2, y=2)
    assert not painted(page, 320, 205) and painted(page, 200, 130)
    page.click("#preview")
    decoded = session.decoded
    move(page, 322, 222)
    page.settle()
    assert session.decoded == decoded and not painted(page, 320, 205)


def test_a_box_is_live_while_it_is_drawn(page: Page) -> None:
    page.click("[data-tool=box]")
    held = {"button": "left", "buttons": 1}
    page.send("Input.dispatchMouseEvent", type="mousePressed", **spot(page, 50, 50), **held)
    for corner in ((80, 80), (200, 200)):
        page.send("Input.dispatchMouseEvent", type="mouseMoved", **spot(page, *corner), **held)
    end = time.monotonic() + PATIENCE_S
    while not painted(page, 180, 180):
        assert time.monotonic() < end
    key(page, "Escape")
    page.send("Input.dispatchMouseEvent", type="mouseReleased", **spot(page, 200, 200), **held)
    assert not painted(page, 180, 180) and page.look("document.getElementById('undo').disabled")


def test_opacity_hides_and_the_rest_stays(page: Page) -> None:
    click(page, 200, 150)
    slide = "(s => { s.value = %d; s.dispatchEvent(new Event('input')); })"
    for value, expected in ((100, BLUE), (0, (GREY,) * 3)):
        page.look(f"{slide % value}(document.getElementById('opacity'))")
        assert colour(page, 200, 130) == pytest.approx(expected, abs=2)
    page.look(f"{slide % 50}(document.getElementById('opacity'))")
    key(page, "h")
    assert not painted(page, 200, 130)
    key(page, "h")
    assert painted(page, 200, 130)
