"""What taints a row: heat, clocks, others; on made-up machines and on this one."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from evit_cli.bench.machine.cpu_time import processes_s
from evit_cli.bench.machine.watch import Watch
from tests.bench import machines
from tests.bench.machines import cooling, cpu_times, policy, process, tool, write, zone

Files = dict[str, object]


def watched(
    root: Path,
    *moments: Files,
    pids: Iterable[int] = (),
    run: Callable[[Sequence[str]], str] | None = None,
) -> tuple[str, ...]:
    """Start at the first moment, sample at each following one, stop at the last."""
    watch = Watch(pids, root=root, run=run or tool({}))
    write(root, moments[0])
    watch.start()
    for moment in moments[1:]:
        write(root, moment)
        watch.sample()
    return watch.stop()


def test_a_machine_that_shows_nothing_taints_nothing(tmp_path: Path) -> None:
    assert watched(tmp_path, {}, {}, {}) == ()


def test_stop_without_start_is_empty() -> None:
    assert Watch().stop() == ()


def test_a_calm_board_is_clean(tmp_path: Path) -> None:
    calm = (
        policy(1510, 1510)
        | zone(0, "cpu-thermal", 60, active=51, passive=97, critical=105)
        | cooling(0, "pwm-fan", 3)
        | cooling(1, "cpufreq-cpu0", 0)
        | {f"{machines.CPUS}/cpu0/thermal_throttle/core_throttle_count": 7}
    )
    assert watched(tmp_path, *[calm] * 10) == ()


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            {f"{machines.CPUS}/cpu0/thermal_throttle/core_throttle_count": 7},
            {f"{machines.CPUS}/cpu0/thermal_throttle/core_throttle_count": 9},
            "the CPU throttled for heat 2 times",
        ),
        (
            {"sys/class/hwmon/hwmon3/oc1_event_cnt": 0},
            {"sys/class/hwmon/hwmon3/oc1_event_cnt": 4},
            "the board throttled for over-current or low voltage 4 times",
        ),
        (
            cooling(0, "cpu-throttle-alert", 0),
            cooling(0, "cpu-throttle-alert", 1),
            "heat slowed the machine down (cpu-throttle-alert)",
        ),
        (
            zone(0, "tj-thermal", 60, active=51, passive=97),
            zone(0, "tj-thermal", 98.5, active=51, passive=97),
            "tj-thermal reached its limit of 97 °C",
        ),
        (
            policy(1500, 1500),
            policy(1500, 1500, limit=1200),
            "the CPU's highest clock went from 1500 to 1200 MHz",
        ),
        (
            policy(1500, 1500, governor="performance"),
            policy(1500, 1500, governor="powersave"),
            "the CPU's governor changed from performance to powersave",
        ),
        (
            {"sys/class/devfreq/17000000.ga10b/max_freq": 1300500000},
            {"sys/class/devfreq/17000000.ga10b/max_freq": 624750000},
            "the GPU's highest clock went from 1300 to 625 MHz",
        ),
        (
            {"proc/vmstat": "pswpin 10\npswpout 10"},
            {"proc/vmstat": f"pswpin 10\npswpout {10 + (8 << 20) // os.sysconf('SC_PAGE_SIZE')}"},
            "the machine swapped 8 MiB",
        ),
    ],
)
def test_what_happens_is_said_once(before: Files, after: Files, says: str, tmp_path: Path) -> None:
    assert watched(tmp_path, before, after, after) == (says,)


def test_what_ends_before_the_end_is_not_forgotten(tmp_path: Path) -> None:
    states = [cooling(0, "Processor", state) for state in (0, 2, 0, 0)]
    assert watched(tmp_path, *states) == ("heat slowed the machine down (Processor)",)


@pytest.mark.parametrize(
    "harmless",
    [
        cooling(0, "Fan", 5),
        cooling(0, "TCC Offset", 3),
        cooling(0, "intel_powerclamp", -1),
        zone(0, "x86_pkg_temp", 60, passive=55),
        zone(0, "acpitz", 60, active=50, critical=55),
        zone(0, "acpitz", 60, passive=0),
        # At the lower of two passive points IPA only begins to watch.
        zone(0, "soc-thermal", 78, passive=75, hot=85),
    ],
)
def test_harmless_states(harmless: Files, tmp_path: Path) -> None:
    assert watched(tmp_path, harmless, harmless) == ()


def clocks(*rates: int) -> list[Files]:
    return [policy(rate, 3000) for rate in rates]


@pytest.mark.parametrize(
    "rates",
    [
        (800, *[2400] * 12),  # idle when it started
        (2400, *[2400, 2100] * 6),  # jumps
        (2400, *[2400] * 11, 800),  # idle when it ended
        (2400, *[2400] * 6, *[2350] * 6),  # 2 %
        (2400, 2400, 2400, 1200, 1200),  # too few to judge
    ],
)
def test_readings_that_are_no_change_of_the_clock(rates: tuple[int, ...], tmp_path: Path) -> None:
    assert watched(tmp_path, *clocks(*rates)) == ()


@pytest.mark.parametrize("after", [1800, 2700])
def test_a_clock_that_stays_changed(after: int, tmp_path: Path) -> None:
    seen = watched(tmp_path, *clocks(800, *[2400] * 6, *[after] * 6))
    assert seen == (f"the CPU's clock went from 2400 to {after} MHz",)


def test_measured_rates_of_x86_are_preferred(tmp_path: Path) -> None:
    moments = [
        {"proc/cpuinfo": f"cpu MHz : 800.0\nx : y\n\ncpu MHz\t\t: {rate}.123\n"}
        for rate in (800, *[4800] * 5, *[4000] * 5)
    ]
    seen = watched(tmp_path, *moments)
    assert seen == ("the CPU's clock went from 4800 to 4000 MHz",)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (["0x0", "0x0", "0x0"], ()),
        (["0xe0000", "0xe0000", "0xe0000"], ()),  # once, before we came
        (["0x0", "0x50005", "0x50000"], ("supply voltage", "throttled")),
        (["0x0", "0x0", "0x80000"], ("soft temperature limit",)),
        (["0x0", "0x2", "0x0"], ("capped its clock",)),
    ],
)
def test_raspberry_pi(answers: list[str], says: tuple[str, ...], tmp_path: Path) -> None:
    run = tool({"vcgencmd get_throttled": [f"throttled={answer}\n" for answer in answers]})
    seen = watched(tmp_path, {}, {}, run=run)
    assert len(seen) == len(says)
    assert all(part in sentence for part, sentence in zip(says, seen, strict=True))


COUNTED, NEW, OLD = "clocks_event_reasons_counters", "clocks_event_reasons.", "clocks_throttle"


def nvidia(known: Sequence[str], *states: str) -> Callable[[Sequence[str]], str]:
    """A driver that refuses questions with fields of other families than `known`."""
    answers = iter(states)

    def run(command: Sequence[str]) -> str:
        line = " ".join(command)
        if "--query-gpu=name" in line:
            return "NVIDIA GPU\n"
        families = [family for family in (COUNTED, NEW, OLD) if family in line]
        fields = line.partition("--query-gpu=")[2].partition(" ")[0].count(",") + 1
        if not families or not set(families) <= set(known):
            return ""
        flags = next(answers).split(",")
        return ", ".join((flags + ["0"] * 6)[:fields]) + "\n"

    return run


OFF, ON = "Not Active", "Active"


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (nvidia([COUNTED, NEW], f"{OFF},{OFF},{OFF},5,5,5", f"{OFF},{OFF},{OFF},5,5,5"), ()),
        (nvidia([COUNTED, NEW], f"{OFF},{OFF},{OFF},5,5,5", f"{OFF},{OFF},{OFF},5,9,5"), ("heat",)),
        (nvidia([NEW], f"{OFF},{OFF},{OFF}", f"{ON},{OFF},{OFF}"), ("heat",)),
        (nvidia([OLD], f"{OFF},{OFF},{OFF}", f"{OFF},{OFF},{ON}"), ("power supply",)),
        (nvidia([OLD], f"{ON},{ON},{OFF}", f"{OFF},{OFF},{OFF}"), ("heat",)),
        (nvidia([OLD], "[N/A],[N/A],[N/A]", "[N/A],[N/A],[N/A]"), ()),
        (nvidia([]), ()),
    ],
)
def test_nvidia_drivers_old_and_new(
    run: Callable[[Sequence[str]], str], says: tuple[str, ...], tmp_path: Path
) -> None:
    seen = watched(tmp_path, {}, {}, run=run)
    assert len(seen) == len(says)
    assert all(part in sentence for part, sentence in zip(says, seen, strict=True))


@pytest.mark.parametrize(
    ("busy_s", "own_s", "says"),
    [
        (8.0, 8.0 * machines.CORES, ()),
        (8.0, 0.0, ("other processes took 80% of the CPU time",)),
        (8.0, 4.0 * machines.CORES, ("other processes took 40% of the CPU time",)),
        (0.2, 0.0, () if machines.CORES <= 25 else ("other processes took 2% of the CPU time",)),
    ],
)
def test_others_are_told_from_the_measured(
    busy_s: float, own_s: float, says: tuple[str, ...], tmp_path: Path
) -> None:
    begin = cpu_times(busy_s=100, idle_s=100) | process(41, 5) | process(42, 1, 41, "evil) R 1")
    end = cpu_times(busy_s=100 + busy_s, idle_s=110 - busy_s)
    end |= process(41, 5 + own_s / 4) | process(42, 1 + own_s * 3 / 4, 41, "evil) R 1")
    # 42 is a child of 41; 43 is somebody else's.
    end |= process(43, 999)
    assert watched(tmp_path, begin, end, pids=[41]) == says


def test_steal_time(tmp_path: Path) -> None:
    begin = cpu_times(busy_s=50, idle_s=50, steal_s=1)
    end = cpu_times(busy_s=50, idle_s=59, steal_s=2)
    seen = watched(tmp_path, begin, end)
    assert seen == ("other virtual machines took 10% of the CPU time",)


def test_where_the_machine_hides_its_times_the_group_counts(tmp_path: Path) -> None:
    def group(seconds: float) -> Files:
        usage = {"sys/fs/cgroup/cpu.stat": f"usage_usec {int(seconds * 1e6)}\nuser_usec 1"}
        return usage | process(41, 1)

    hidden = {"proc/stat": "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0"}
    (said,) = watched(tmp_path, group(1) | hidden, group(101) | hidden, pids=[41])
    assert said.startswith("other processes took")


@pytest.mark.parametrize(
    ("version", "path", "before", "after"),
    [
        ("v2", "sys/fs/cgroup/cpu.stat", "throttled_usec 0", "throttled_usec 90000000"),
        ("v1", "sys/fs/cgroup/cpu/cpu.stat", "throttled_time 0", "throttled_time 90000000000"),
    ],
)
def test_a_quota_that_bites(
    version: str, path: str, before: str, after: str, tmp_path: Path
) -> None:
    where = {"proc/self/cgroup": "2:cpu,cpuacct:/\n" if version == "v1" else "0::/\n"}
    (said,) = watched(tmp_path, where | {path: before}, where | {path: after})
    assert said.startswith("the CPU quota let nothing run")


def share(reasons: tuple[str, ...]) -> float:
    """What others took, in per cent, by a real watch."""
    found = re.search(r"other processes took (\d+)%", " ".join(reasons))
    return float(found[1]) if found else 0.0


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="no /proc here")
def test_a_busy_process_is_seen_unless_it_is_the_measured_one() -> None:
    # The busy one is a child of the one whose pid is known. Both watches see the same machine, so
    # whatever else runs on it, they differ by what the child took.
    shell = ["sh", "-c", "while :; do :; done & wait"]
    with subprocess.Popen(shell, start_new_session=True) as child:
        try:
            knows, knows_not = Watch([child.pid]), Watch()
            knows.start()
            knows_not.start()
            begun, before = time.monotonic(), processes_s([child.pid])
            while processes_s([child.pid]) - before < 0.5 and time.monotonic() - begun < 30:
                time.sleep(0.05)
                knows.sample()
            took = processes_s([child.pid]) - before
            wall = time.monotonic() - begun
            told, told_not = share(knows.stop()), share(knows_not.stop())
        finally:
            os.killpg(child.pid, signal.SIGKILL)
    assert took >= 0.5
    expected = 100 * took / (wall * machines.CORES)
    assert told_not > 0.6 * expected
    assert told_not - told == pytest.approx(expected, rel=0.4, abs=3)
