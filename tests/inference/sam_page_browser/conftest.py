"""One browser for all tests of the page in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from evit_cli.inference.sam_page import SamPage
from evit_cli.media.images import write_image
from tests.helpers.browser import Page, browser_page
from tests.helpers.page_view import GREY, HEIGHT, WIDTH, ready
from tests.helpers.sam_discs import DiscSession


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
