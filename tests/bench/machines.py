"""Machines beyond what tests/config/boards.py needs of them: clocks, heat, rails, counters."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from evit_cli.bench.machine.sysfs import usable_cores
from tests.config.boards import Board

TICKS = os.sysconf("SC_CLK_TCK")
CORES = len(usable_cores())
CPUS = "sys/devices/system/cpu"


def write(root: Path, files: Mapping[str, object]) -> Path:
    """Write files below `root`, over what is there."""
    return Board("", {name: f"{text}\n" for name, text in files.items()}).tree(root)


def tool(answers: Mapping[str, str | Sequence[str]]) -> Callable[[Sequence[str]], str]:
    """A runner that knows some command lines by a part of them; a sequence answers in turn."""
    queues = {part: iter(a) for part, a in answers.items() if not isinstance(a, str)}

    def run(command: Sequence[str]) -> str:
        line = " ".join(command)
        for part, answer in answers.items():
            if part in line:
                return next(queues[part]) if part in queues else str(answer)
        return ""

    return run


def policy(now: int, top: int, *, governor: str = "schedutil", **more: int) -> dict[str, object]:
    """Files of one group of cores; rates in MHz."""
    folder = f"{CPUS}/cpufreq/policy0"
    return {
        f"{folder}/scaling_cur_freq": now * 1000,
        f"{folder}/scaling_max_freq": more.get("limit", top) * 1000,
        f"{folder}/scaling_min_freq": more.get("lowest", 100) * 1000,
        f"{folder}/cpuinfo_max_freq": top * 1000,
        f"{folder}/scaling_governor": governor,
    }


def zone(number: int, kind: str, degrees: float, **trips: float) -> dict[str, object]:
    """Files of a thermal zone; trips by kind, in °C."""
    folder = f"sys/class/thermal/thermal_zone{number}"
    files: dict[str, object] = {f"{folder}/type": kind, f"{folder}/temp": int(degrees * 1e3)}
    for index, (name, limit) in enumerate(trips.items()):
        files[f"{folder}/trip_point_{index}_type"] = name
        files[f"{folder}/trip_point_{index}_temp"] = int(limit * 1e3)
    return files


def cooling(number: int, kind: str, state: int) -> dict[str, object]:
    folder = f"sys/class/thermal/cooling_device{number}"
    return {f"{folder}/type": kind, f"{folder}/cur_state": state}


def cpu_times(*, busy_s: float = 0, idle_s: float = 0, steal_s: float = 0) -> dict[str, object]:
    """/proc/stat with these seconds on every core."""
    busy, idle, steal = (int(value * TICKS) for value in (busy_s, idle_s, steal_s))
    cores = [f"cpu{n} {busy} 0 0 {idle} 0 0 0 {steal} 0 0" for n in sorted(usable_cores())]
    return {"proc/stat": "\n".join(["cpu  0 0 0 0 0 0 0 0 0 0", *cores, "intr 1"])}


def process(pid: int, seconds: float, parent: int = 1, name: str = "a (b) c") -> dict[str, object]:
    """/proc/PID/stat."""
    ticks = int(seconds * TICKS)
    return {f"proc/{pid}/stat": f"{pid} ({name}) S {parent} 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0"}


def rail(chip: int, channel: int, label: str, mv: int, ma: int) -> dict[str, object]:
    """One channel of an INA3221."""
    folder = f"sys/class/hwmon/hwmon{chip}"
    return {
        f"{folder}/name": "ina3221",
        f"{folder}/in{channel}_label": label,
        f"{folder}/in{channel}_input": mv,
        f"{folder}/curr{channel}_input": ma,
    }


def rapl(package: int, microjoules: int, full: int = 262_143_328_850) -> dict[str, object]:
    """A package and one part of it."""
    folder = f"sys/class/powercap/intel-rapl:{package}"
    return {
        f"{folder}/name": f"package-{package}",
        f"{folder}/energy_uj": microjoules,
        f"{folder}/max_energy_range_uj": full,
        f"{folder}:0/name": "core",
        f"{folder}:0/energy_uj": microjoules // 2,
    }
