"""The page in a real browser: clicks, boxes, fingers and keys, what is painted and what is saved.

`EVIT_SCREENSHOTS=DIR` keeps pictures of it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.rle import encode_rle, read_rle
from evit_cli.inference.sam_page import SamPage
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.inference.sam_prompts import read_prompts
from evit_cli.media.images import read_image, write_image
from tests.helpers.browser import CHROMIUM, Page, browser_page
from tests.helpers.sam_discs import DiscSession

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
HEIGHT, WIDTH = 300, 400
GREY = 128
BLUE = (0, 114, 178)  # of the first object
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("grey.png", "other.png"):
        write_image(folder / name, np.full((HEIGHT, WIDTH, 3), GREY, np.uint8))
    return [folder / "grey.png", folder / "other.png"]


@pytest.fixture(scope="module")
def session() -> DiscSession:
    return DiscSession()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, session: DiscSession, images: list[Path]) -> Iterator[Page]:
    """The page with both images, ready; afterwards it must not have complained."""
    browser.screen(1280, 800)
    browser.prefer("light")
    with SamPage(session, images) as served:
        served.start()
        browser.requests.clear()
        browser.complaints.clear()
        browser.visit(served.url)
        ready(browser)
        yield browser
        browser.settle()
        assert browser.complaints == []
        assert all(url.startswith((served.url, "blob:")) for url in browser.requests)
        browser.visit("about:blank")


def until(page: Page, expression: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not page.look(expression):
        assert time.monotonic() < end, f"{expression}; status: {text(page, 'status')}"
        time.sleep(0.02)
    page.settle()


def text(page: Page, element: str) -> str:
    return str(page.look(f"document.getElementById('{element}').textContent"))


def ready(page: Page) -> None:
    until(page, "document.getElementById('status')?.textContent.includes('ready in')")


def answered(page: Page) -> None:
    """Wait until a mask for what is marked now is there."""
    until(page, "document.getElementById('status').textContent.startsWith('Mask')")


def spot(page: Page, x: float, y: float) -> dict[str, float]:
    """Where a pixel of the fitted image lies in the window."""
    at = page.look(
        "(b => [b.left, b.top, b.width, b.height])"
        "(document.getElementById('canvas').getBoundingClientRect())"
    )
    zoom = min(at[2] / WIDTH, at[3] / HEIGHT)
    left, top = (at[2] - WIDTH * zoom) / 2, (at[3] - HEIGHT * zoom) / 2
    return {"x": at[0] + left + x * zoom, "y": at[1] + top + y * zoom}


def click(page: Page, x: float, y: float, *, button: str = "left", modifiers: int = 0) -> None:
    at = {**spot(page, x, y), "button": button, "clickCount": 1, "modifiers": modifiers}
    page.look("document.getElementById('status').textContent = ''")
    for what in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=what, **at)
    answered(page)


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.look("document.getElementById('status').textContent = ''")
    held = {"button": "left", "buttons": 1}
    page.send("Input.dispatchMouseEvent", type="mousePressed", **spot(page, *start), **held)
    for share in (0.3, 0.7, 1.0):
        between = [a + (b - a) * share for a, b in zip(start, end, strict=True)]
        page.send("Input.dispatchMouseEvent", type="mouseMoved", **spot(page, *between), **held)
    page.send("Input.dispatchMouseEvent", type="mouseReleased", **spot(page, *end), **held)


def key(page: Page, name: str, *, modifiers: int = 0) -> None:
    for kind in ("keyDown", "keyUp"):
        page.send("Input.dispatchKeyEvent", type=kind, key=name, modifiers=modifiers)
    page.settle()


def colour(page: Page, x: float, y: float) -> tuple[int, ...]:
    """What the canvas shows at a pixel of the fitted image."""
    page.settle()
    at = spot(page, x, y)
    return tuple(
        page.look(
            "((canvas, pixel) => {"
            " const at = canvas.getBoundingClientRect(), one = pixel.getContext('2d');"
            f" one.drawImage(canvas, at.left - Math.round({at['x']}),"
            f" at.top - Math.round({at['y']}), at.width, at.height);"
            " return [...one.getImageData(0, 0, 1, 1).data].slice(0, 3);"
            "})(document.getElementById('canvas'), document.createElement('canvas'))"
        )
    )


def painted(page: Page, x: float, y: float) -> bool:
    """Whether a mask covers the pixel; anything but it is the image's own grey."""
    seen = colour(page, x, y)
    plain = max(abs(value - GREY) for value in seen) <= 2
    return not plain


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("EVIT_SCREENSHOTS")
    if folder:
        page.screenshot(Path(folder) / f"{name}.png", whole=False)


def objects(page: Page) -> list[str]:
    return list(page.look("[...document.querySelectorAll('#objects input')].map(i => i.value)"))


def downloaded(page: Page, what: str, folder: Path) -> Path:
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    before = set(folder.iterdir())
    page.click(f"[data-save={what}]")
    end = time.monotonic() + PATIENCE_S
    while True:
        new = [p for p in folder.iterdir() if p not in before and p.suffix != ".crdownload"]
        if new and text(page, "status").startswith("Downloaded"):
            return new[0]
        assert time.monotonic() < end, text(page, "error")
        time.sleep(0.05)


def library(images: list[Path], *points: tuple[float, float, int], **more: Any) -> Any:
    predictor = SamPredictor(DiscSession())
    predictor.set_image(read_image(images[0])[0])
    places = np.array([point[:2] for point in points])
    return predictor.predict(places, np.array([point[2] for point in points]), **more)


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


def move(page: Page, x: float, y: float) -> None:
    page.send("Input.dispatchMouseEvent", type="mouseMoved", **spot(page, x, y))


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


def test_zoom_and_drag_move_the_picture_and_clicks_follow(page: Page) -> None:
    at = {**spot(page, 100, 100), "deltaX": 0, "deltaY": -300}
    for _ in range(2):
        page.send("Input.dispatchMouseEvent", type="mouseWheel", **at)
    page.settle()
    drag(page, (100, 100), (140, 130))
    assert objects(page) == ["object 1"] and text(page, "no-mask") and not painted(page, 140, 100)
    click(page, 140, 130)  # where the pixel (100, 100) is now
    page.click("#fit")
    page.settle()
    assert painted(page, 100, 85) and painted(page, 120, 100) and not painted(page, 140, 130)


def test_the_keyboard_alone_is_enough(page: Page) -> None:
    page.look("document.getElementById('canvas').focus()")
    for name in ("ArrowRight", "ArrowLeft"):
        page.press(name)
    page.look("document.getElementById('status').textContent = ''")
    page.press("Enter")
    answered(page)
    assert painted(page, 200, 130) and not painted(page, 260, 150)
    key(page, "n")
    key(page, "b")
    page.look("document.getElementById('status').textContent = ''")
    page.press("Enter")
    for _ in range(6):
        page.press("ArrowRight")
        key(page, "ArrowDown")
    page.press("Enter")
    answered(page)
    assert (
        page.look("document.querySelector('#objects li:nth-child(2) .pick').ariaPressed") == "true"
    )
    page.look("document.getElementById('canvas').blur()")
    assert colour(page, 203, 154) != colour(page, 200, 130)


def test_letters_typed_in_a_name_are_no_commands(page: Page) -> None:
    click(page, 200, 150)
    page.click("#objects input")
    for letter in "xbn1":
        key(page, letter)
    assert painted(page, 200, 130) and len(objects(page)) == 1
    page.look("document.activeElement.blur()")
    page.look("document.getElementById('letters').checked = false")
    key(page, "x")
    assert painted(page, 200, 130)
    page.look("document.getElementById('letters').checked = true")
    key(page, "x")
    assert not painted(page, 200, 130)


def test_images_keep_their_objects_also_over_a_reload(page: Page, session: DiscSession) -> None:
    click(page, 200, 150)
    page.look("document.getElementById('status').textContent = ''")
    page.click("#next-image")
    ready(page)
    assert not painted(page, 200, 130)
    click(page, 300, 200)
    encoded = len(session.encoded)
    page.look("document.getElementById('status').textContent = ''")
    page.look("document.activeElement.blur()")
    key(page, ",")
    answered(page)
    assert painted(page, 200, 130) and not painted(page, 300, 185)
    page.visit(page.look("location.href"))
    answered(page)
    assert painted(page, 200, 130) and len(session.encoded) == encoded


def test_errors_are_shown_and_pass(page: Page, session: DiscSession) -> None:
    session.fail = RuntimeError("the model is out of order")
    at = {**spot(page, 200, 150), "button": "left", "clickCount": 1}
    for what in ("mousePressed", "mouseReleased"):
        page.send("Input.dispatchMouseEvent", type=what, **at)
    until(page, "!document.getElementById('error').hidden")
    assert "the model is out of order" in text(page, "error")
    page.complaints.clear()  # the status 500
    click(page, 210, 150)
    assert page.look("document.getElementById('error').hidden") and painted(page, 200, 130)


def test_a_page_whose_evit_has_ended_says_so(
    browser: Page, session: DiscSession, images: list[Path]
) -> None:
    browser.screen(1280, 800)
    with SamPage(session, images[:1]) as served:
        served.start()
        browser.visit(served.url)
        ready(browser)
        assert browser.look("document.getElementById('images').hidden"), "there is but one"
    at = {**spot(browser, 200, 150), "button": "left", "clickCount": 1}
    for what in ("mousePressed", "mouseReleased"):
        browser.send("Input.dispatchMouseEvent", type=what, **at)
    until(browser, "!document.getElementById('error').hidden")
    assert text(browser, "error") == "evit does not answer. Has it been ended?"
    browser.visit("about:blank")


def test_a_finger_taps_and_two_zoom(page: Page, browser: Page) -> None:
    browser.screen(390, 800, phone=True)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    try:
        page.visit(page.look("location.href"))
        ready(page)
        assert page.look("document.documentElement.scrollWidth") == 390
        touch = page.send
        at = spot(page, 200, 150)
        touch("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{**at, "id": 1}])
        touch("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        answered(page)
        found = page.look(
            "(m => [m.length, m[0]])([...document.querySelectorAll('#masks button')]"
            ".map(b => b.getBoundingClientRect().height > 40))"
        )
        assert found == [3, True]
        keep(page, "sam-phone")
        a, b = {**at, "id": 1}, {"x": at["x"] + 20, "y": at["y"], "id": 2}
        touch("Input.dispatchTouchEvent", type="touchStart", touchPoints=[a])
        touch("Input.dispatchTouchEvent", type="touchStart", touchPoints=[a, b])
        for apart in (40, 80):
            b = {"x": at["x"] + apart, "y": at["y"], "id": 2}
            touch("Input.dispatchTouchEvent", type="touchMove", touchPoints=[a, b])
        touch("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        page.settle()
        marked = "JSON.parse(Object.values(sessionStorage)[0])[0].list[0].points.length"
        assert page.look(marked) == 1, "a pinch is no click"
    finally:
        page.send("Emulation.setTouchEmulationEnabled", enabled=False)


def test_light_and_dark(page: Page) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    assert page.look(paper) == "rgb(255, 255, 255)"
    page.prefer("dark")
    page.settle()
    assert page.look(paper) == "rgb(20, 23, 26)" and text(page, "theme") == "Light"
    click(page, 200, 150)
    keep(page, "sam-dark")
    page.click("#theme")
    assert page.look(paper) == "rgb(255, 255, 255)"
    page.look("localStorage.clear()")


def test_every_control_has_a_name(page: Page) -> None:
    click(page, 200, 150)
    tree = page.send("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in tree
        if node.get("role", {}).get("value")
        in ("button", "textbox", "slider", "checkbox", "combobox", "radio", "application")
    ]
    assert len(controls) > 20
    assert [node for node in controls if not node.get("name", {}).get("value")] == []


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    seed=st.integers(0, 2**31),
    density=st.sampled_from([0.0, 0.03, 0.5, 1.0]),
)
def test_run_lengths_are_read_as_they_are_written(
    decoder: Page, size: tuple[int, int], seed: int, density: float
) -> None:
    mask = np.random.default_rng(seed).random(size) < density
    told = json.dumps(encode_rle(mask))
    got = decoder.look(f"(m => [[...m.data], m.box, m.area])(window.decodeMask({told}))")
    assert np.array_equal(np.reshape(got[0], size), mask) and got[2] == mask.sum()
    if mask.any():
        ys, xs = np.nonzero(mask)
        assert got[1] == [xs.min(), ys.min(), xs.max(), ys.max()]


@pytest.fixture(scope="module")
def decoder(browser: Page, session: DiscSession, images: list[Path]) -> Iterator[Page]:
    with SamPage(session, images) as served:
        served.start()
        browser.visit(served.url)
        ready(browser)
        browser.send(
            "Runtime.evaluate",
            expression="import('./rle.js').then(m => { window.decodeMask = m.decodeMask; })",
            awaitPromise=True,
        )
        yield browser
        browser.visit("about:blank")
