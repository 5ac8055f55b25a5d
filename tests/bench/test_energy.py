"""Joules from counters and sensors of made-up machines."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.machine.energy import open_energy_counter, why_no_energy
from evit_cli.bench.machine.energy_meter import EnergySum
from tests.bench.machines import rail, rapl, tool, write

NX = rail(2, 1, "VDD_IN", 5000, 2000) | rail(2, 2, "VDD_CPU_GPU_CV", 5000, 900)
NX |= rail(2, 3, "VDD_SOC", 5000, 300)
AGX = rail(3, 1, "VDD_GPU_SOC", 20000, 300) | rail(3, 2, "VDD_CPU_CV", 20000, 100)
AGX |= rail(3, 3, "VIN_SYS_5V0", 5000, 400) | rail(4, 1, "NC", 0, 0)
AGX |= rail(4, 2, "VDDQ_VDD2_1V8AO", 5000, 200)


def test_rapl_adds_up_packages_only(tmp_path: Path) -> None:
    psys = {"sys/class/powercap/intel-rapl:2/name": "psys"}
    psys |= {"sys/class/powercap/intel-rapl:2/energy_uj": 1}
    write(tmp_path, rapl(0, 1_000_000) | rapl(1, 5_000_000) | psys)
    counter = open_energy_counter(root=tmp_path, run=tool({}))
    assert counter is not None and counter.name == "rapl"
    counter.start()
    write(tmp_path, rapl(0, 3_500_000) | rapl(1, 6_000_000))
    assert counter.stop() == pytest.approx(3.5)
    assert why_no_energy(root=tmp_path, run=tool({})) == ""


def test_a_full_rapl_counter_begins_again(tmp_path: Path) -> None:
    write(tmp_path, rapl(0, 9_000_000, full=10_000_000))
    counter = open_energy_counter(root=tmp_path, run=tool({}))
    assert counter is not None
    counter.start()
    write(tmp_path, rapl(0, 2_000_000, full=10_000_000))
    assert counter.stop() == pytest.approx(3.0)


@given(st.lists(st.integers(0, 99), min_size=1, max_size=30))
def test_no_energy_is_lost_when_a_counter_wraps(steps: list[int]) -> None:
    total = 37
    counter = EnergySum("rapl", lambda: [total % 100], ranges=[100], unit_j=1.0, every_s=60.0)
    counter.start()
    for step in steps:
        total += step
        counter._read()
    assert counter.stop() == sum(steps)


def test_a_counter_that_vanishes_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path, rapl(0, 1))
    counter = open_energy_counter(root=tmp_path, run=tool({}))
    assert counter is not None
    counter.start()
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    assert counter.stop() is None


def test_stop_without_start_gives_nothing(tmp_path: Path) -> None:
    write(tmp_path, rapl(0, 1))
    counter = open_energy_counter(root=tmp_path, run=tool({}))
    assert counter is not None and counter.stop() is None


def test_a_counter_for_root_says_how_to_open_it(tmp_path: Path) -> None:
    write(tmp_path, rapl(0, 1))
    path = tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj"
    if os.geteuid() == 0:  # root may read anything, but not this
        path.unlink()
        path.mkdir()
    else:
        path.chmod(0)
    assert open_energy_counter(root=tmp_path, run=tool({})) is None
    assert "sudo chmod a+r" in why_no_energy(root=tmp_path, run=tool({}))


@pytest.mark.parametrize(("board", "watts"), [(NX, 10.0), (AGX, 10.0)], ids=["VDD_IN", "sum"])
def test_rails_of_a_jetson(board: dict[str, object], watts: float, tmp_path: Path) -> None:
    write(tmp_path, board | {"sys/class/hwmon/hwmon0/name": "tmp451"})
    # The third file of the mainline driver is a sum of shunt voltages and no rail.
    write(tmp_path, {"sys/class/hwmon/hwmon2/in7_label": "sum of shunt voltages"})
    for on_gpu in (False, True):
        counter = open_energy_counter(root=tmp_path, run=tool({}), on_gpu=on_gpu)
        assert counter is not None and counter.name == "ina"
        before = time.monotonic()
        counter.start()
        begun = time.monotonic()
        time.sleep(0.25)
        ended = time.monotonic()
        joules = counter.stop()
        after = time.monotonic()
        assert joules is not None
        assert watts * (ended - begun) * 0.999 <= joules <= watts * (after - before) * 1.001


def test_a_gpu_is_counted_only_when_it_does_the_work() -> None:
    run = tool({"--query-gpu=power.draw": "250.00\n"})
    nowhere = Path("/nonexistent")
    assert open_energy_counter(root=nowhere, run=run) is None
    counter = open_energy_counter(root=nowhere, run=run, on_gpu=True)
    assert counter is not None and counter.name == "nvml"
    counter.start()
    time.sleep(0.05)
    joules = counter.stop()
    assert joules is not None and joules > 0.05 * 250 * 0.9


@pytest.mark.parametrize("answer", ["", "[N/A]\n", "[Not Supported]\n"])
def test_a_gpu_that_does_not_tell(answer: str, tmp_path: Path) -> None:
    run = tool({"--query-gpu=power.draw": answer})
    assert open_energy_counter(root=tmp_path, run=run, on_gpu=True) is None
    assert "does not tell" in why_no_energy(root=tmp_path, run=run, on_gpu=True)
    assert "no energy counter" in why_no_energy(root=tmp_path, run=run)
