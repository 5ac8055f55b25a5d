"""What a user of the page in a browser does and sees."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.media.images import read_image
from tests.helpers.browser import Page
from tests.helpers.sam_discs import DiscSession

HEIGHT, WIDTH = 300, 400
GREY = 128
BLUE = (0, 114, 178)  # of the first object
PATIENCE_S = 20.0


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


def move(page: Page, x: float, y: float) -> None:
    page.send("Input.dispatchMouseEvent", type="mouseMoved", **spot(page, x, y))
