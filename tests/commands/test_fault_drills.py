"""The drills of benchmarks/fault_drills; each asserts how it must end."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fault_drills.run import Drill, NotHere
from benchmarks.fault_drills.table import DRILLS, END, PAGE, START, main

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("drill", [d for d in DRILLS if not d.also], ids=lambda d: d.name)
def test_a_drill_ends_as_it_should(drill: Drill, tmp_path: Path) -> None:
    try:
        ending = drill.run(tmp_path)
    except NotHere as missing:
        pytest.skip(str(missing))
    assert ending.seen
    assert ending.code in (None, 0, 1, 5, 130, 143)


def test_drills_that_are_tests_elsewhere_say_where() -> None:
    assert all((ROOT / drill.also).is_file() for drill in DRILLS if drill.also)


def test_the_page_has_a_row_for_every_drill_from_a_run_without_a_failure() -> None:
    table = PAGE.read_text("utf-8").partition(START)[2].partition(END)[0]
    lines = table.strip().splitlines()[2:]
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines] == [d.tried for d in DRILLS]
    assert "FAILED" not in table


def test_a_drill_that_ends_otherwise_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(folder: Path) -> None:
        raise AssertionError("the movie is gone")

    drill = Drill("x", "something", breaks)  # type: ignore[arg-type]
    monkeypatch.setattr("benchmarks.fault_drills.table.DRILLS", (drill,))
    before = PAGE.read_text("utf-8")
    assert main(["--write"]) == 1
    assert "| something | FAILED: the movie is gone |" in capsys.readouterr().out
    assert PAGE.read_text("utf-8") == before
