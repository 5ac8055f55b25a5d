"""Reports: every row once, no kind like another, nothing from outside, nothing unescaped."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.benchmarks_page import MARKER, main
from evit_cli.bench.report import check_report, write_report
from evit_cli.bench.report.facets import facets
from evit_cli.bench.row import Kind, Latency, Row, encode_row
from evit_cli.errors import EvitError, UsageError
from tests.bench.report_rows import (
    WORKSTATION,
    estimates,
    every_kind,
    failed,
    latency,
    measured,
    peer,
    published,
)

VOID = {"meta", "link", "input", "br"}
LOADING = {"src", "srcset", "xlink:href", "action", "data", "poster"}
BAD = '<script>alert(1)</script>"&|`${title}'
ROW = measured()[0]


class Document(HTMLParser):
    """Elements with their attributes and text; fails where they are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.append((self.open[-1], data))

    def all(self, tag: str, **wanted: str) -> list[dict[str, str | None]]:
        return [
            attributes
            for name, attributes in self.elements
            if name == tag
            and all(
                attributes.get(key.rstrip("_").replace("_", "-")) == value
                for key, value in wanted.items()
            )
        ]

    def words(self) -> str:
        shown = (text for tag, text in self.texts if tag not in ("style", "script"))
        return " ".join(" ".join(shown).split())


def written(rows: Sequence[Row], tmp_path: Path, suffix: str) -> str:
    path = write_report(tmp_path / f"report{suffix}", rows, force=True)
    return path.read_text("utf-8")


def page(rows: Sequence[Row], tmp_path: Path) -> Document:
    return Document(written(rows, tmp_path, ".html"))


def many() -> list[Row]:
    rows = every_kind()
    return [
        replace(row, point=replace(row.point, model=f"{row.point.model}-{number}"))
        for number in range(1 + 500 // len(rows))
        for row in rows
    ][:500]


BARE = replace(ROW, params=None, macs=None, metric={}, environment={}, device="")
SETS = {
    "none": [],
    "one": [ROW],
    "all kinds": every_kind(),
    "only failed": failed(),
    "no accuracy": [peer()],
    "nothing known": [BARE],
    "the same twice": [ROW, ROW],
    "500": many(),
}


@pytest.mark.parametrize("rows", SETS.values(), ids=SETS.keys())
def test_every_row_is_in_the_page_once(rows: list[Row], tmp_path: Path) -> None:
    document = page(rows, tmp_path)
    lines = Counter(line["data-row"] for line in document.all("tr") if "data-row" in line)
    assert lines == Counter(str(index) for index in range(len(rows)))
    ids = Counter(attributes["id"] for _, attributes in document.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    for line in document.all("tr"):
        if "data-row" in line:
            assert line["data-kind"] == rows[int(line["data-row"] or "")].kind.value


@pytest.mark.parametrize("rows", SETS.values(), ids=SETS.keys())
def test_a_page_needs_nothing_from_outside(rows: list[Row], tmp_path: Path) -> None:
    text = written(rows, tmp_path, ".html")
    document = Document(text)
    assert not re.search(r"(?:https?:)?//\w", text.replace("http-equiv", ""))
    assert "@import" not in text and "url(" not in text
    for tag, attributes in document.elements:
        assert not LOADING & set(attributes), tag
        assert not any(name.startswith("on") for name in attributes), tag
        assert "style" not in attributes, "the policy would refuse it"
        if "href" in attributes:
            assert re.match(r"#|data:,$", attributes["href"] or ""), tag
    (policy,) = document.all("meta", http_equiv="Content-Security-Policy")
    assert "default-src 'none'" in (policy["content"] or "")
    assert "unsafe" not in (policy["content"] or "")


@pytest.mark.parametrize("suffix", [".html", ".md", ".csv"])
@pytest.mark.parametrize("rows", SETS.values(), ids=SETS.keys())
def test_a_report_holds_no_nan(rows: list[Row], suffix: str, tmp_path: Path) -> None:
    broken = Latency(3, *[float("nan")] * 6, float("inf"))
    odd = replace(ROW, host=broken, energy_j=float("inf"), metric={"value": float("nan")})
    shown = Document(written([*rows, odd], tmp_path, suffix)).words() if suffix == ".html" else ""
    text = written([*rows, odd], tmp_path, suffix)
    for name in re.findall(r"\b(?:nan|NaN|inf|Infinity)\b", shown or text):
        assert name == "NaN" and any("NaN" in row.error.get("reason", "") for row in rows)
    assert 'data-value="nan"' not in text and '="nan' not in text


def test_what_rows_say_is_only_text(tmp_path: Path) -> None:
    row = replace(
        ROW,
        point=replace(ROW.point, model=BAD, form=BAD),
        device=BAD,
        host_name=BAD,
        tainted=(BAD,),
        ratio={"to": BAD, "value": 2.0},
        metric={"name": BAD, "dataset": BAD, "value": 1.0, "source": BAD},
        environment={"cpu": BAD, BAD: BAD, "versions": {BAD: BAD}},
    )
    path = write_report(tmp_path / "bad.html", [row, replace(row, kind=Kind.FAILED)], title=BAD)
    document = Document(path.read_text("utf-8"))
    assert len(document.all("script")) == 1
    assert not any("alert(1)" in text for tag, text in document.texts if tag == "script")
    assert BAD in [text for _, text in document.texts]
    cells = ("td", BAD), ("th", BAD), ("h1", BAD), ("title", BAD)
    assert [cell for cell in cells if cell not in document.texts] == [("td", BAD)]
    document_md = written([row], tmp_path, ".md")
    assert "<script>" not in document_md
    lines = [line for line in document_md.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


@given(st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_name_gives_a_whole_page(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    row = replace(ROW, point=replace(ROW.point, model=name), host_name=name)
    folder = tmp_path_factory.mktemp("any")
    assert len(page([row], folder).all("tr", data_row="0")) == 1
    text = written([row], folder, ".csv")
    assert len(list(csv.reader(io.StringIO(text, newline="")))) == 2


def test_kinds_differ_in_shape_colour_and_words(tmp_path: Path) -> None:
    document = page(every_kind(), tmp_path)
    classes = {attributes.get("class") for attributes in document.all("g")}
    assert {"shape measured", "shape published", "shape estimate", "shape measured tainted"} <= (
        classes
    )
    bars = document.all("path", class_="error-bar")
    plotted = [mark for facet in facets(every_kind()) for s in facet.series for mark in s.marks]
    assert len(bars) == sum(mark.row.kind is Kind.ESTIMATE for mark in plotted) > 0
    titles = [text for tag, text in document.texts if tag == "title"]
    for start, kind in (
        ("measured: host p50", Kind.MEASURED),
        ("published, not measured by evit", Kind.PUBLISHED),
        ("estimate, not measured", Kind.ESTIMATE),
    ):
        named = [title for title in titles if f"\n{start}" in title]
        assert len(named) == sum(mark.row.kind is kind for mark in plotted) > 0


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" as WCAG 2 defines it."""
    shares = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_colour_of_text_has_contrast_in_both_modes() -> None:
    style = (files("evit_cli.bench.report") / "report.css").read_text("utf-8")
    palettes = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in style.split("}")]
    palettes = [palette for palette in palettes if palette]
    assert len(palettes) == 3 and palettes[1] == palettes[2] != palettes[0]
    for palette in palettes:
        grounds = [luminance(palette.pop(name)) for name in ("paper", "shade")]
        del palette["rule"]  # of lines that carry nothing
        assert {"ink", "quiet", *(kind.value for kind in Kind)} <= set(palette)
        for name, colour in palette.items():
            for ground in grounds:
                dark, light = sorted((luminance(colour), ground))
                assert (light + 0.05) / (dark + 0.05) >= 4.5, name


def test_an_estimate_and_a_published_latency_carry_their_word(tmp_path: Path) -> None:
    made, known = estimates()[1], published()[1]
    words = page([made, known], tmp_path).words()
    assert "≈ 26 (23.1 to 30.1) estimate" in words
    assert "24.3 published" in words
    assert "error 8 % median over 53 published rows" in words


def test_failed_rows_say_why_and_tainted_ones_too(tmp_path: Path) -> None:
    words = page(every_kind(), tmp_path).words()
    assert "out of memory; take a smaller --size" in words
    assert "tainted: another process was busy; IQR/median is 7.1 %" in words
    assert "43 measured (1 tainted), 12 published, 6 estimated, 2 failed" in words


def test_a_machine_is_described_once(tmp_path: Path) -> None:
    later = {**WORKSTATION, "load": [9.0, 1, 1], "versions": {"evit": "0.1.0", "onnx": "1.22"}}
    other = {**WORKSTATION, "governor": "powersave"}
    rows = [replace(ROW, environment=env, host_name="") for env in (WORKSTATION, later, other)]
    document = page(rows, tmp_path)
    assert len(document.all("section", class_="machine")) == 2
    words = document.words()
    assert "ai-edge-litert 2.3.0, onnx 1.22" in words
    assert "performance" in words and "powersave" in words


def test_csv_has_a_line_per_row_and_keeps_kinds_apart(tmp_path: Path) -> None:
    rows = every_kind()
    lines = list(csv.DictReader(io.StringIO(written(rows, tmp_path, ".csv"))))
    assert [line["kind"] for line in lines] == [row.kind.value for row in rows]
    for line, row in zip(lines, rows, strict=True):
        assert bool(line["latency_host_p50_ms"]) == (row.kind is Kind.MEASURED)
        assert bool(line["published_latency_ms"]) == (row.kind is Kind.PUBLISHED)
        assert bool(line["estimate_latency_ms"]) == (row.kind is Kind.ESTIMATE)
        if row.kind is Kind.MEASURED:
            assert float(line["latency_host_p50_ms"]) == row.latency_ms
    assert lines[-2]["error_reason"] == "out of memory"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\r=1", '=HYPERLINK("x")']
)
def test_a_spreadsheet_takes_no_cell_for_a_formula(text: str, tmp_path: Path) -> None:
    row = replace(ROW, point=replace(ROW.point, model=text), tainted=(text,), source=text)
    path = write_report(tmp_path / "r.csv", [row])
    with open(path, encoding="utf-8", newline="") as file:
        (line,) = csv.DictReader(file)
    for name in ("model", "tainted", "published_source"):
        assert line[name] == "'" + text.replace("\r", "\n")
    assert float(line["latency_host_p50_ms"]) > 0


def test_markdown_has_a_table_for_each_kind(tmp_path: Path) -> None:
    rows = every_kind()
    text = written(rows, tmp_path, ".md")
    sections = dict(re.findall(r"^## (\w+).*?\n\n((?:\|.*\n)+)", text, re.MULTILINE))
    counts = {name: table.count("\n") - 2 for name, table in sections.items()}
    assert counts == {"Measured": 43, "Published": 12, "Estimates": 6, "Failed": 2}
    assert "estimated host latency, ms | low, ms | high, ms | error" in sections["Estimates"]
    assert "published host latency, ms" in sections["Published"]
    for table in sections.values():
        assert len({line.count("|") for line in table.splitlines()}) == 1


@pytest.mark.parametrize("name", ["report", "report.pdf", "report.html.gz"])
def test_another_suffix_names_those_that_there_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        check_report(tmp_path / name, force=True)
    assert all(suffix in caught.value.hint for suffix in (".html", ".md", ".csv"))


def test_a_report_is_not_overwritten_without_force(tmp_path: Path) -> None:
    path = tmp_path / "new" / "r.MD"
    assert write_report(path, [ROW]) == path.resolve()
    before = path.read_bytes()
    for act in (lambda: check_report(path, force=False), lambda: write_report(path, [])):
        with pytest.raises(EvitError, match="exists already") as caught:
            act()
        assert "--force" in caught.value.hint
    assert path.read_bytes() == before
    write_report(path, [], title="second", force=True)
    assert path.read_text("utf-8").startswith("# second\n")
    assert [item.name for item in path.parent.iterdir()] == ["r.MD"]
    with pytest.raises(EvitError, match="is a folder"):
        write_report(_folder(tmp_path / "folder.html"), [ROW], force=True)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def test_a_name_that_is_no_text_does_not_cost_the_report(tmp_path: Path) -> None:
    row = replace(ROW, point=replace(ROW.point, model="a\udcffb\0c"))
    for suffix in (".html", ".md", ".csv"):
        assert "a?b" in written([row], tmp_path, suffix)


def test_the_page_of_benchmarks_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().err


def test_the_page_of_benchmarks_is_made_of_the_results(tmp_path: Path) -> None:
    results, made = tmp_path / "results", tmp_path / "page.md"
    options = ["--results", str(results), "--page", str(made)]
    assert main([*options, "--check"]) == 1
    assert main(options) == 0 and main([*options, "--check"]) == 0
    assert "Nothing has been measured yet" in made.read_text("utf-8")
    results.mkdir()
    again = replace(ROW, host=latency(77.7), time="2026-11-21T10:00:00+00:00")
    rows = [*measured(), again, failed()[0]]
    (results / "a.jsonl").write_text("".join(encode_row(row) + "\n" for row in rows), "utf-8")
    assert main([*options, "--check"]) == 1
    assert main(options) == 0 and main([*options, "--check"]) == 0
    text = made.read_text("utf-8")
    assert text.startswith(MARKER) and "do not edit" in text.splitlines()[0]
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings[0] == "Protocol" and headings[-1] == "Without a machine"
    assert [("Orin" in one, "EPYC" in one) for one in headings[1:3]] == [
        (True, False),
        (False, True),
    ]
    assert text.count("| seg-b0-cityscapes | tensorrt") == 1 and "77.7" in text
    assert "2026-11-20 to 2026-11-21." in text
