"""The page in a real browser: zoom, keys, fingers, reloads, errors, light and dark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.rle import encode_rle
from evit_cli.inference.sam_page import SamPage
from tests.helpers.browser import CHROMIUM, Page
from tests.helpers.page_view import (
    answered,
    click,
    colour,
    drag,
    keep,
    key,
    objects,
    painted,
    ready,
    spot,
    text,
    until,
)
from tests.helpers.sam_discs import DiscSession

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


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
