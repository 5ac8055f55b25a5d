from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evit_cli.config.device import Detection, detect_profile, list_profiles
from evit_cli.config.machine import read_machine, run_tool
from evit_cli.errors import EvitError
from tests.config import boards

PROFILES = list_profiles()


def detect(board: boards.Board, root: Path) -> Detection:
    return detect_profile(machine=board.read(root), profiles=PROFILES)


@pytest.mark.parametrize(
    ("board", "name", "reason"),
    [
        (boards.AGX_ORIN, "jetson-agx-orin", "device tree model is 'NVIDIA Jetson AGX Orin"),
        (boards.AGX_ORIN_CONTAINER, "jetson-agx-orin", "L4T release is 36"),
        (boards.ORIN_NANO, "jetson-orin-nano", "Orin Nano"),
        (boards.XAVIER_NX, "jetson-xavier-nx", "Xavier NX"),
        (boards.NANO, "jetson-nano", "Jetson Nano"),
        (boards.NANO_CONTAINER, "jetson-nano", "L4T board is 't210ref'"),
        (boards.A100, "a100", "A100-SXM4-40GB"),
        (boards.A100_WITHOUT_SMI, "a100", "A100-PCIE-40GB"),
        (boards.phone("SM8450", "taro"), "snapdragon-8-gen1", "SM8450 taro"),
        (boards.phone("SM8650", "pineapple"), "snapdragon-8-gen3", "SM8650"),
        (boards.phone("SM8750", "sun"), "snapdragon-8-elite", "SM8750"),
        (boards.phone("", "taro"), "snapdragon-8-gen1", "taro"),
        (boards.RASPBERRY, "arm64", "the processor is aarch64"),
        (boards.MAC, "arm64", "the processor is arm64"),
        (boards.DESKTOP, "x86", "the processor is x86_64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_detects(board: boards.Board, name: str, reason: str, tmp_path: Path) -> None:
    found = detect(board, tmp_path)
    assert found.profile.name == name
    assert reason in found.reason


def test_detects_through_root_and_runner(tmp_path: Path) -> None:
    root = boards.NANO.tree(tmp_path)
    assert detect_profile(root, boards.NANO.run).profile.name == "jetson-nano"


@pytest.mark.parametrize("board", [boards.ORIN_NX, boards.A_SMALL_ORIN_CONTAINER, boards.THOR])
def test_unknown_jetson_is_not_taken_for_another(board: boards.Board, tmp_path: Path) -> None:
    found = detect(board, tmp_path)
    assert found.profile.name == "arm64"
    assert "a Jetson that evit has no profile for" in found.reason


def test_says_that_a_gpu_has_no_profile(tmp_path: Path) -> None:
    found = detect(boards.RTX, tmp_path)
    assert found.profile.name == "x86"
    assert "no profile for its NVIDIA GeForce RTX 4090" in found.reason


def test_unknown_architecture_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"no device profile recognises this machine \(riscv64\)"):
        detect(boards.RISCV, tmp_path)


def test_higher_priority_wins_whatever_the_order(tmp_path: Path) -> None:
    machine = boards.A100.read(tmp_path)
    for profiles in (PROFILES, PROFILES[::-1]):
        assert detect_profile(machine=machine, profiles=profiles).profile.name == "a100"


def test_gpu_facts(tmp_path: Path) -> None:
    gpu = boards.A100.read(tmp_path).gpus[0]
    assert (gpu.name, gpu.driver, gpu.memory_mib) == ("NVIDIA A100-SXM4-40GB", "535.161.08", 40960)
    assert boards.AGX_ORIN_CONTAINER.read(tmp_path).gpus[0].memory_mib is None


def test_getprop_is_asked_on_android_alone(tmp_path: Path) -> None:
    asked = []

    def run(command: Sequence[str]) -> str:
        asked.append(command[0])
        return ""

    read_machine(tmp_path, run)
    assert "getprop" not in asked


@given(answer=st.text(), files=st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_of_a_tool_or_file_raises(tmp_path: Path, answer: str, files: bytes) -> None:
    for name in ("etc/nv_tegra_release", "proc/meminfo", "proc/device-tree/model"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(files)
    machine = read_machine(tmp_path, lambda command: answer, machine="x86_64")
    assert all(gpu.name for gpu in machine.gpus)
    assert str(machine).startswith("x86_64")


@pytest.mark.parametrize("error", [FileNotFoundError(), PermissionError()])
def test_run_tool_survives_an_absent_tool(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(subprocess, "run", fail)
    assert run_tool(("nvidia-smi",)) == ""


def test_run_tool_survives_failure_and_hanging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evit_cli.config.machine._TOOL_TIMEOUT_S", 0.2)
    assert run_tool(("sh", "-c", "echo lost; exit 3")) == ""
    assert run_tool(("sleep", "5")) == ""
    assert run_tool(("echo", "kept")) == "kept\n"
