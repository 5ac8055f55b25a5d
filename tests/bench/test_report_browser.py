"""The page in a real browser: sorting, filters, tooltips, both modes, a phone, no script.

`EVIT_SCREENSHOTS=DIR` keeps pictures of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from evit_cli.bench.published import published_rows
from evit_cli.bench.report import write_report
from evit_cli.bench.row import Row
from tests.bench.report_rows import every_kind
from tests.helpers.browser import CHROMIUM, Page, browser_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
ROWS = every_kind()
SHOWN = "[...document.querySelectorAll('#rows tbody tr')].filter(row => row.offsetHeight)"
TIP = "document.getElementById('tip')"

MEASURED_MARK = ".plot .mark[data-kind=measured]"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", ROWS)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser_page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser: Page, report: Path) -> Iterator[Page]:
    """The report, freshly loaded on a wide screen; afterwards it must not have complained."""
    browser.scripts(on=True)
    browser.screen(1280)
    browser.prefer("light")
    browser.open(report)
    browser.look("localStorage.clear()")
    browser.open(report)
    browser.requests.clear()
    browser.complaints.clear()
    browser.open(report)
    yield browser
    browser.settle()
    assert browser.complaints == []
    assert set(browser.requests) == {report.as_uri()}


def keep(page: Page, name: str) -> None:
    folder = os.environ.get("EVIT_SCREENSHOTS")
    if folder:
        page.screenshot(Path(folder) / f"{name}.png")


def column(page: Page, title: str) -> list[str]:
    """The cells of a column in the order in which they stand."""
    index = page.look(
        "[...document.querySelectorAll('#rows thead th')]"
        f".findIndex(head => head.textContent === '{title}')"
    )
    assert index >= 0, title
    cells = page.look(f"{SHOWN}.map(row => row.cells[{index}].textContent)")
    return [str(cell) for cell in cells]


def heading(page: Page, title: str) -> str:
    """A selector of a column's button."""
    index = page.look(
        "[...document.querySelectorAll('#rows thead th')]"
        f".findIndex(head => head.textContent === '{title}')"
    )
    return f"#rows thead th:nth-child({index + 1}) button"


def sorting(page: Page) -> list[str]:
    return list(
        page.look(
            "[...document.querySelectorAll('#rows thead th')]"
            ".map(head => head.getAttribute('aria-sort')).filter(way => way !== 'none')"
        )
    )


def first_number(cell: str) -> float:
    return float(cell.removeprefix("≈ ").split()[0])


def test_a_click_sorts_by_value_and_a_second_one_turns_it_round(page: Page) -> None:
    before = column(page, "host p50, ms")
    assert before != sorted(before, key=first_number) and sorting(page) == []
    button = heading(page, "host p50, ms")
    page.click(button)
    assert sorting(page) == ["ascending"]
    shown = [first_number(cell) for cell in column(page, "host p50, ms")]
    assert len(shown) == len(before)
    # Values are sorted, cells are rounded: estimates to two digits.
    assert all(a <= b * 1.05 for a, b in pairwise(shown))
    page.click(button)
    assert sorting(page) == ["descending"]
    assert column(page, "host p50, ms")[0].startswith("3599")
    page.click(heading(page, "model"))
    models = column(page, "model")
    assert sorting(page) == ["ascending"] and models == sorted(models)


def test_empty_cells_come_last_both_ways(page: Page) -> None:
    button = heading(page, "e2e p50, ms")
    for _ in range(2):
        page.click(button)
        cells = column(page, "e2e p50, ms")
        filled = [bool(cell) for cell in cells]
        assert filled == sorted(filled, reverse=True) and not all(filled) and any(filled)


def test_the_keyboard_sorts(page: Page) -> None:
    page.look(f"document.querySelector('{heading(page, 'precision')}').focus()")
    page.press("Enter")
    cells = column(page, "precision")
    assert sorting(page) == ["ascending"] and cells == sorted(cells)


def test_words_filter_rows_and_marks(page: Page) -> None:
    page.click("#words")
    page.write("seg-b0 INT8")
    assert page.look(f"{SHOWN}.length") == 1
    assert page.look("document.getElementById('count').textContent") == "1 of 61 rows"
    marks = "[...document.querySelectorAll('.mark')].filter(mark => mark.style.display !== 'none')"
    assert page.look(f"{marks}.length") == 2  # once over accuracy, once over MACs
    page.write(" and nothing like it")
    assert page.look(f"{SHOWN}.length") == 0


def test_kinds_can_be_hidden(page: Page) -> None:
    page.click("[name=kind][value=measured]")
    kinds = set(page.look(f"{SHOWN}.map(row => row.dataset.kind)"))
    assert kinds == {"published", "estimate"}
    hidden = "getComputedStyle(document.querySelector('.mark[data-kind=measured]')).display"
    assert page.look(hidden) == "none"
    page.click("[name=kind][value=measured]")
    assert page.look(f"{SHOWN}.length") == 61
    page.click("[name=tainted]")
    assert page.look(f"{SHOWN}.length") == 60


def test_a_mark_says_what_it_is(page: Page) -> None:
    assert page.look(f"{TIP}.hidden")
    page.hover(MEASURED_MARK)
    text = page.look(f"{TIP}.textContent")
    assert not page.look(f"{TIP}.hidden") and text.startswith("seg-l1-cityscapes tensorrt fp16")
    assert "measured: host p50 47.3 ms" in text and "mIoU 82.72 (published)" in text
    sides = "(at => [at.left, at.top, at.right, at.bottom])"
    left, top, right, bottom = page.look(f"{sides}({TIP}.getBoundingClientRect())")
    assert 0 <= left < right <= 1280 and 0 <= top < bottom <= 900
    keep(page, "tooltip")
    page.hover("h1")
    assert page.look(f"{TIP}.hidden")


def test_the_keyboard_walks_through_a_plot(page: Page) -> None:
    page.look("document.querySelector('.plot .mark[tabindex=\"0\"]').focus()")
    first = page.look(f"{TIP}.textContent")
    page.press("ArrowRight")
    second = page.look(f"{TIP}.textContent")
    assert first and second and first != second and not page.look(f"{TIP}.hidden")
    stops = "document.querySelectorAll('.plot:first-child .mark[tabindex=\"0\"]').length"
    assert page.look(stops) == 1
    row = page.look("document.activeElement.dataset.row")
    page.press("Enter")
    assert page.look("document.querySelector('tr.found').dataset.row") == row
    page.press("Escape")
    assert page.look(f"{TIP}.hidden")


def paper(page: Page) -> tuple[int, ...]:
    colour = str(page.look("getComputedStyle(document.body).backgroundColor"))
    return tuple(int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(","))


def test_the_system_and_the_button_choose_light_or_dark(page: Page, report: Path) -> None:
    assert min(paper(page)) > 200
    page.prefer("dark")
    assert max(paper(page)) < 60
    assert page.look("document.getElementById('theme').textContent") == "Light"
    page.click("#theme")
    assert min(paper(page)) > 200
    page.open(report)
    assert min(paper(page)) > 200, "the choice is kept"
    page.prefer("light")
    page.click("#theme")
    assert max(paper(page)) < 60
    keep(page, "dark")


def test_nothing_sticks_out_on_a_phone(page: Page, report: Path) -> None:
    keep(page, "light")
    page.screen(360, 740, phone=True)
    page.open(report)
    assert page.look("document.documentElement.scrollWidth") == 360
    # Of the letters in plots, in CSS pixels.
    sizes = page.look(
        "[...document.querySelectorAll('.labels text, .frame text')].map(text =>"
        " (at => parseFloat(getComputedStyle(text).fontSize) * Math.hypot(at.a, at.b))"
        "(text.getScreenCTM()))"
    )
    assert min(sizes) >= 9.5
    keep(page, "phone")


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("rows", [ROWS, published_rows()], ids=["sweep", "published"])
def test_no_label_of_a_plot_covers_another_or_is_cut(
    browser: Page, rows: list[Row], width: int, tmp_path: Path
) -> None:
    page = browser
    page.screen(width)
    page.open(write_report(tmp_path / "labels.html", rows))
    faults = page.look(
        """[...document.querySelectorAll('.plot > svg')].flatMap(svg => {
          const out = svg.getBoundingClientRect();
          const texts = [...svg.querySelectorAll('.labels text, .frame text')];
          const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]);
          const cut = boxes.filter(([, b]) => b.left < out.left - 1 || b.right > out.right + 1);
          // The line height is taller than the letters.
          const over = boxes.filter(([, a], i) => boxes.some(([, b], j) => i < j &&
            a.left < b.right - 1 && b.left < a.right - 1 &&
            a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3));
          return [...cut, ...over].map(([name]) => name);
        })"""
    )
    assert faults == []


def test_without_a_script_all_is_there(page: Page, report: Path) -> None:
    page.scripts(on=False)
    page.open(report)
    drawn = page.send("DOM.getDocument", depth=-1)
    node = drawn["root"]["nodeId"]

    def heights(selector: str) -> list[float]:
        found = page.send("DOM.querySelectorAll", nodeId=node, selector=selector)["nodeIds"]
        models = (page.send("DOM.getBoxModel", nodeId=item)["model"] for item in found)
        return [model["height"] for model in models]

    assert len(heights("#rows tbody tr")) == 61 and min(heights("#rows tbody tr")) > 0
    assert len(heights("#failures tbody tr")) == 2
    assert min(heights(".plot > svg")) > 100
    for hidden in ("#filters", "#theme", "#tip"):
        (found,) = page.send("DOM.querySelectorAll", nodeId=node, selector=hidden)["nodeIds"]
        with pytest.raises(RuntimeError, match="box model"):
            page.send("DOM.getBoxModel", nodeId=found)
    page.scripts(on=True)


def test_the_policy_refuses_the_network(browser: Page, report: Path) -> None:
    browser.scripts(on=True)
    browser.open(report)
    browser.requests.clear()
    refused = browser.send(
        "Runtime.evaluate",
        expression="fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')",
        awaitPromise=True,
    )
    assert refused["result"]["value"] == "refused"
    assert any("Content Security Policy" in said for said in browser.complaints)
    browser.complaints.clear()
