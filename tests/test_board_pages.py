"""docs/boards/: commands that exist, plans that can be made, figures that evit prints."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest

from evit_cli.bench.store import read_rows
from evit_cli.config.device import list_profiles
from evit_cli.weights.catalog import CATALOG
from tests.helpers.cli import evit

ROOT = Path(__file__).resolve().parents[1]
BOARDS = ROOT / "docs" / "boards"
PAGES = sorted(BOARDS.glob("*.md"))
PROFILE = {
    "jetson-agx-orin.md": "jetson-agx-orin",
    "jetson-orin-nano.md": "jetson-orin-nano",
    "jetson-nano.md": "jetson-nano",
    "jetson-xavier-nx.md": "jetson-xavier-nx",
    "snapdragon.md": "snapdragon-8-gen3",
    "x86.md": "x86",
    "arm64.md": "arm64",
}
FIGURE = re.compile(
    r"^\| (\S+) \| (\d+)x(\d+) \| (\w+) \| (\S+)(?: \((\S+) to (\S+)\))? "
    r"\| (published|estimate|measured) \| `(evit bench [^`]+)` \|$",
    re.MULTILINE,
)
A_FILE = re.compile(r"\.(onnx|tflite|xml|engine)$")


def blocks(page: Path) -> str:
    """What stands in a page's code blocks."""
    return "\n".join(re.findall(r"^```\n(.*?)^```", page.read_text("utf-8"), re.M | re.S))


def commands(page: Path) -> Iterator[list[str]]:
    """Every `evit ...` of a page, in blocks and in its text, in words."""
    text = page.read_text("utf-8")
    lines = [*blocks(page).splitlines(), *re.findall(r"`(evit [^`]+)`", text)]
    for line in lines:
        if line.startswith("evit "):
            yield shlex.split(line, comments=True)


@cache
def options_of(command: str) -> set[str]:
    shown = evit(command, "--help")
    assert shown.exit_code == 0, f"evit {command}"
    return set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", shown.stdout))


def test_every_profile_has_a_page_in_the_index() -> None:
    assert {page.name for page in PAGES} == {*PROFILE, "README.md"}
    index = (BOARDS / "README.md").read_text("utf-8")
    assert all(f"({name})" in index for name in PROFILE)
    known = {profile.name for profile in list_profiles()}
    # The A100 is no board, and one page tells of all phones.
    assert known - set(PROFILE.values()) <= {"a100", "snapdragon-8-gen1", "snapdragon-8-elite"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_with_their_options(page: Path) -> None:
    for words in commands(page):
        if words[1].startswith("-"):
            continue
        given = {word.partition("=")[0] for word in words[2:] if re.match(r"--?[a-z]", word)}
        assert given <= options_of(words[1]), " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_name_models_and_devices_that_exist(page: Path) -> None:
    devices = {name for p in list_profiles() for name in (p.name, *p.aliases)} | {"NAME"}
    for words in commands(page):
        for option, value in pairwise(words):
            if option == "--device":
                assert value in devices, value
            if option == "--model" and not A_FILE.search(value):
                assert value in CATALOG, value


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_plans_can_be_made_and_name_the_files_of_the_page(page: Path) -> None:
    text = page.read_text("utf-8")
    for words in commands(page):
        if words[1] != "export" or "--model" not in words:
            continue
        if "--calib" in words or A_FILE.search(words[words.index("--model") + 1]):
            continue  # these need files that only a user has
        plan = evit(*words[1:], *({"--dry-run"} - set(words)))
        assert plan.exit_code == 0, plan.stderr
        if "--bundle" not in text:  # where there is one, its scripts know the name
            (name,) = re.findall(r"^file\t.*/(\S+)$", plan.stdout, re.M)
            assert name in text or name.rpartition("-")[0] in text, name


def figure(ms: float) -> str:
    return f"{ms:.3g}" if ms < 1000 else f"{ms:.0f}"


def figures() -> list[tuple[str | None, ...]]:
    return [
        (page.name, *(found or None for found in row))
        for page in PAGES
        for row in FIGURE.findall(page.read_text("utf-8"))
    ]


def test_no_row_of_figures_is_overlooked() -> None:
    lines = sum(
        bool(re.search(r"\| `evit bench [^`]+` \|$", line))
        for page in PAGES
        for line in page.read_text("utf-8").splitlines()
    )
    assert lines == len(figures()) >= 20


@pytest.mark.parametrize("row", figures(), ids=lambda row: f"{row[0]}-{row[8]}-{row[1]}-{row[2]}")
def test_figures_are_those_that_evit_prints(row: tuple[str, ...]) -> None:
    _, model, height, width, precision, ms, low, high, kind, command = row
    size = [int(height), int(width)]
    if kind == "measured":
        kept = [
            found
            for path in (ROOT / "devices" / "results").glob("*.jsonl")
            for found in read_rows(path)
            if found.kind.value == "measured"
            and found.point.model == model
            and list(found.point.size_hw) == size
            and found.point.precision.value == precision
            and f"--backend {found.point.backend.value}" in command
        ]
        assert ms in {figure(found.host.p50) for found in kept if found.host}
        return
    said = evit(*shlex.split(command)[1:], "--json")
    assert said.exit_code == 0, said.stderr
    (found,) = [line for line in map(json.loads, said.stdout.splitlines()) if line["kind"] == kind]
    assert (found["point"]["size_hw"], found["point"]["precision"]) == (size, precision)
    assert found["point"]["model"] == model
    assert figure(found["host"]["p50"]) == ms
    if kind == "estimate":
        band = found["estimate"]
        assert (figure(band["low_ms"]), figure(band["high_ms"])) == (low, high)


@pytest.mark.parametrize("name", PROFILE)
def test_a_page_tells_the_known_problems_and_what_was_not_run(name: str) -> None:
    text = (BOARDS / name).read_text("utf-8")
    profile = next(p for p in list_profiles() if p.name == PROFILE[name])
    for known in profile.known_problems:
        assert known.problem in text
        for issue in known.issues:
            repository, _, number = issue.partition("#")
            assert f"https://github.com/{repository}/issues/{number})" in text
    assert ("**Not run on hardware by us.**" in text) is not profile.run_on_hardware_by_us
    assert "## What we did not run" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_pages_and_their_headings(page: Path) -> None:
    for target, _, anchor in re.findall(r"\]\(([^)#\s]*)(#([^)\s]+))?\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.+)$", linked.read_text("utf-8"), re.MULTILINE)
        slugs = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, f"{target}#{anchor}"
