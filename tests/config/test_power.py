"""Power mode, clocks and load of Jetsons, from stand-ins of NVIDIA's tools on PATH."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from evit_cli.bench.machine.environment import read_environment
from evit_cli.config.checks.power import check_power
from evit_cli.config.checks.result import Status
from evit_cli.config.power import (
    BoardState,
    PowerMode,
    ask_tool,
    parse_clocks,
    parse_tegrastats,
    read_power,
)
from tests.config import boards
from tests.config.surroundings import find, on
from tests.helpers import jetson_tools as tools

Install = Callable[..., None]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts stand-ins in front of everything on PATH."""

    def install(**bodies: str) -> None:
        folder = tools.install(tmp_path / "bin", **bodies)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


def board(root: Path, which: boards.Board = boards.AGX_ORIN, **files: str) -> Path:
    """A board's files below a root."""
    return boards.Board("aarch64", which.files | files).tree(root / "board")


def with_conf(root: Path, *modes: str) -> Path:
    return boards.Board("", {"etc/nvpmodel.conf": tools.conf(*modes)}).tree(root)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            tools.NANO_STATS,
            BoardState(
                1402, 3956, 37, 4, 1600,
                {"POM_5V_IN": 2911, "POM_5V_GPU": 205, "POM_5V_CPU": 569},
                {"PLL": 31, "CPU": 34.5, "GPU": 32, "AO": 39.5, "thermal": 33.25},
            ),
        ),
        (
            tools.ORIN_STATS_5,
            BoardState(
                2211, 62795, 12, 1, 2133,
                {
                    "VDD_GPU_SOC": 2410, "VDD_CPU_CV": 405, "VIN_SYS_5V0": 4033,
                    "VDDQ_VDD2_1V8AO": 302,
                },
                {"CPU": 43.5, "Tboard": 33, "SOC2": 40, "tj": 43.75},
            ),
        ),
        (
            tools.XAVIER_STATS,
            BoardState(
                2702, 6854, 8, 5, 1600,
                {"VDD_IN": 5102, "VDD_CPU_GPU_CV": 701, "VDD_SOC": 1104},
                {"AUX": 39, "CPU": 40.5, "AO": 37.5, "GPU": 37.5},
            ),
        ),
        (
            tools.ORIN_STATS_6,
            BoardState(
                5140, 62841, 64, 3, 3199,
                {"VDD_GPU_SOC": 3181, "VDD_CPU_CV": 795, "VIN_SYS_5V0": 4544},
                {"cpu": 52.875, "soc2": 48.656, "tj": 53.125},
            ),
        ),
        (
            tools.ORIN_NANO_STATS_6_USER,
            BoardState(
                3165, 7620, 0, None, None,
                {"VDD_IN": 4953, "VDD_CPU_GPU_CV": 1014, "VDD_SOC": 1545},
                {"cpu": 50.031, "soc0": 48.5, "tj": 50.25},
            ),
        ),
        ("", BoardState()),
        ("tegrastats: not found\n", BoardState()),
    ],
    ids=["JetPack 4", "JetPack 5", "Xavier", "JetPack 6", "JetPack 6, no root", "", "an error"],
)  # fmt: skip
def test_lines_of_tegrastats(line: str, expected: BoardState) -> None:
    assert parse_tegrastats(f"a warning\n{line}\n") == expected


def test_clocks_are_pinned_only_when_the_memory_is() -> None:
    assert parse_clocks(tools.PINNED) == (True, 3199)
    assert parse_clocks(tools.MOVING) == (False, 2133)
    assert parse_clocks(tools.PINNED.replace("FreqOverride=1", "FreqOverride=0")) == (False, 3199)
    slow_gpu = tools.PINNED.replace("GPU MinFreq=1300500000", "GPU MinFreq=306000000")
    assert parse_clocks(slow_gpu) == (False, 3199)
    assert parse_clocks("please run as root\n") == (None, None)


def test_a_board_as_root(tmp_path: Path, installed: Install) -> None:
    installed(
        nvpmodel=tools.says("NV Fan Mode:quiet\nNV Power Mode: MAXN\n0"),
        jetson_clocks=tools.says(tools.PINNED),
        tegrastats=tools.for_ever(tools.ORIN_STATS_6),
    )
    root = with_conf(board(tmp_path), "MAXN", "MODE_15W", "MODE_30W", "MODE_50W")
    power = read_power(root)
    assert power.mode == power.fastest == PowerMode("MAXN", 0)
    assert (power.pinned, power.memory_mhz, power.failed) == (True, 3199, {})
    assert power.state.gpu_percent == 64
    seen = read_environment(root=root)
    assert seen["power_mode"] == "MAXN"
    assert seen["jetson_clocks"] is True
    assert seen["clocks_mhz"]["memory"] == 3199
    assert seen["tegrastats"] == {
        "gpu_percent": 64,
        "memory_percent": 3,
        "power_mw": {"VDD_GPU_SOC": 3181, "VDD_CPU_CV": 795, "VIN_SYS_5V0": 4544},
    }
    checks = check_power(replace(on(boards.AGX_ORIN, tmp_path), root=root))
    assert [check.status for check in checks] == [Status.OK] * 3
    assert find(checks, "power mode").detail == "MAXN (mode 0)"
    assert find(checks, "clocks").detail == "pinned, memory at 3199 MHz"
    assert find(checks, "tegrastats").detail == (
        "GPU 64 %, memory bus 3 %, 5140 of 62841 MB used, VDD_GPU_SOC 3.2 W, VDD_CPU_CV 0.8 W, "
        "VIN_SYS_5V0 4.5 W, hottest tj 53 °C"
    )


def test_a_board_without_root(tmp_path: Path, installed: Install) -> None:
    """The mode is told together with complaints and a bad exit code, the clocks are refused."""
    installed(
        nvpmodel=tools.says(f"NV Power Mode: 15W\n0\n{tools.DENIED}", code=255),
        jetson_clocks=tools.says("Error: please run it as root", code=1),
        tegrastats=tools.for_ever(tools.ORIN_NANO_STATS_6_USER),
    )
    root = with_conf(board(tmp_path, boards.ORIN_NANO), "15W", "25W", "MAXN_SUPER", "7W")
    power = read_power(root)
    assert (power.mode, power.fastest) == (PowerMode("15W", 0), PowerMode("MAXN_SUPER", 2))
    assert power.failed == {"jetson_clocks": "it needs root"}
    around = replace(on(boards.ORIN_NANO, tmp_path), root=root)
    checks = check_power(around)
    assert find(checks, "power mode").detail == (
        "15W (mode 0); MAXN_SUPER is the fastest: sudo nvpmodel -m 2"
    )
    refused = find(checks, "clocks")
    assert (refused.status, refused.mend) == (Status.PROBLEM, "sudo jetson_clocks --show")
    for pinned, words in ((True, "pinned, the memory's were not told"), (False, "they move")):
        told = find(check_power(replace(around, clocks_pinned=pinned)), "clocks")
        assert told.status is Status.OK and told.detail.startswith(words)
    assert "memory" not in read_environment(root=root).get("clocks_mhz", {})


def test_tools_that_hang(
    tmp_path: Path, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("nvpmodel", "jetson_clocks", "tegrastats")
    installed(**dict.fromkeys(names, tools.HANGS))
    started = time.monotonic()

    def ask(command: object, *, until: str = "") -> object:
        return ask_tool(command, until=until, timeout_s=0.3)  # type: ignore[arg-type]

    root = board(tmp_path)
    power = read_power(root, ask)  # type: ignore[arg-type]
    assert time.monotonic() - started < 5
    assert power.failed == dict.fromkeys(names, "no answer after 0.3 s")
    checks = check_power(on(boards.AGX_ORIN, tmp_path), ask)  # type: ignore[arg-type]
    assert [check.status for check in checks] == [Status.PROBLEM] * 3
    assert find(checks, "power mode").detail == "nvpmodel does not tell: no answer after 0.3 s"


def test_nothing_of_a_hanging_tool_stays(tmp_path: Path) -> None:
    """Its child is gone too; the file it would make appears only if it lives on."""
    tool = tools.install(tmp_path / "bin", slow="(sleep 0.6; touch alive) & wait") / "slow"
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        assert ask_tool([str(tool)], timeout_s=0.2).failed == "no answer after 0.2 s"
        time.sleep(0.8)
    finally:
        os.chdir(here)
    assert not (tmp_path / "alive").exists()


def test_in_a_container_the_files_tell_the_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    root = board(tmp_path, **{"var/lib/nvpmodel/status": "pmode:0002 fmode:quiet"})
    power = read_power(root)
    assert (str(power.mode), power.fastest) == ("mode 2", PowerMode())
    assert power.failed["tegrastats"] == "not installed"
    assert str(read_power(with_conf(root, "MAXN", "MODE_15W", "MODE_30W")).mode) == (
        "MODE_30W (mode 2)"
    )
    checks = check_power(replace(on(boards.AGX_ORIN, tmp_path), root=root))
    assert find(checks, "tegrastats").status is Status.MISSING
    assert "container" in find(checks, "clocks").detail


def test_a_tool_that_may_not_be_run_or_says_nonsense(tmp_path: Path, installed: Install) -> None:
    installed(nvpmodel=tools.says("?", code=3), jetson_clocks="", tegrastats=tools.says("RAM x"))
    failed = read_power(board(tmp_path)).failed
    assert failed == {
        "nvpmodel": "?",
        "jetson_clocks": "it says nothing that is understood",
        "tegrastats": "it says nothing that is understood",
    }
    locked = tmp_path / "locked"
    locked.write_text("no program")
    locked.chmod(0o600)
    assert ask_tool([str(locked)]).failed == "permission denied"


def test_elsewhere_nothing_is_asked(tmp_path: Path, installed: Install) -> None:
    installed(nvpmodel=f"touch {tmp_path}/asked", tegrastats=f"touch {tmp_path}/asked")
    assert check_power(on(boards.DESKTOP, tmp_path)) == []
    read_environment(root=tmp_path)
    assert not (tmp_path / "asked").exists()


def test_doctor_shows_it(
    tmp_path: Path, installed: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    import evit_cli.config.machine as machine_room
    from evit_cli.app import app

    installed(
        nvpmodel=tools.says("NV Power Mode: MAXN\n0"),
        jetson_clocks=tools.says(tools.MOVING),
        tegrastats=tools.for_ever(tools.NANO_STATS),
    )
    nano = boards.NANO.read(tmp_path)
    monkeypatch.setattr(machine_room, "read_machine", lambda: nano)
    rows = {
        row["check"]: row
        for row in json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    }
    assert rows["power mode"]["detail"] == "MAXN (mode 0)"
    assert rows["clocks"]["detail"] == (
        "they move with the load, memory at 2133 MHz: sudo jetson_clocks before a benchmark"
    )
    assert "POM_5V_IN 2.9 W" in rows["tegrastats"]["detail"]


@given(st.text(max_size=200))
def test_no_text_makes_it_fail(text: str) -> None:
    parse_clocks(text)
    parse_tegrastats(f"RAM 1/2MB {text}")
