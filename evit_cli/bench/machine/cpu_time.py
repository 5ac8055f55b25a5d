"""CPU time of the machine and of processes, from /proc."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from evit_cli.bench.machine.sysfs import usable_cores
from evit_cli.config.machine import read_text

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


@dataclass(frozen=True)
class CpuTimes:
    """CPU seconds since the machine started, over the cores this process may use.

    Attributes:
        busy: in which something ran.
        steal: which a hypervisor gave to other machines.
        total: all, idle too.
        cores: how many cores that is.
    """

    busy: float
    steal: float
    total: float
    cores: int

    def __sub__(self, before: CpuTimes) -> CpuTimes:
        return CpuTimes(
            self.busy - before.busy,
            self.steal - before.steal,
            self.total - before.total,
            self.cores,
        )


def machine_times(root: Path = Path("/")) -> CpuTimes | None:
    """From /proc/stat, None where it cannot be read (Android keeps it from applications)."""
    lines: dict[str, list[int]] = {}
    for line in _read_all(root / "proc/stat").splitlines():
        if not line.startswith("cpu"):
            break
        name, *values = line.split()
        lines[name] = [int(value) for value in values if value.isdecimal()]
    own = [f"cpu{number}" for number in usable_cores()]
    # Some containers are shown fewer cores than they count; there the sum has to do.
    chosen = own if all(name in lines for name in own) else ["cpu"]
    rows = [lines[name] for name in chosen if len(lines.get(name, ())) >= 8]
    if not rows:
        return None
    user, nice, system, idle, io_wait, irq, soft_irq, steal = (
        sum(row[column] for row in rows) / _TICKS_PER_S for column in range(8)
    )
    busy = user + nice + system + irq + soft_irq
    cores = len(rows) if chosen == own else max(len(lines) - 1, 1)
    return CpuTimes(busy, steal, busy + idle + io_wait + steal, cores)


def processes_s(
    pids: Iterable[int], root: Path = Path("/"), *, alone: Collection[int] = ()
) -> float:
    """CPU seconds of processes, their living descendants, and the children they waited for.

    Args:
        pids: the processes.
        root: where the file tree starts.
        alone: further processes, of which living children do not count.
    """
    all_of_them = {pid: _stat(root, pid) for pid in _all_pids(root)}
    parents = {pid: stat[0] for pid, stat in all_of_them.items() if stat}
    ticks = {pid: stat[1] for pid, stat in all_of_them.items() if stat}
    wanted = _with_descendants(set(pids), parents) | set(alone)
    return sum(ticks.get(pid, 0) for pid in wanted) / _TICKS_PER_S


def _stat(root: Path, pid: int) -> tuple[int, int] | None:
    """(parent, ticks of user and system time with those of waited children) of a process."""
    # The name before the last bracket may itself hold spaces and brackets.
    fields = read_text(root / f"proc/{pid}/stat").rpartition(")")[2].split()
    numbers = [fields[1], *fields[11:15]] if len(fields) >= 15 else []
    if not numbers or not all(field.isdecimal() for field in numbers):
        return None
    return int(numbers[0]), sum(map(int, numbers[1:]))


def _all_pids(root: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(root / "proc") if name.isdecimal()]
    except OSError:
        return []


def _with_descendants(pids: Collection[int], parents: dict[int, int]) -> set[int]:
    wanted = set(pids)
    while True:
        more = {pid for pid, parent in parents.items() if parent in wanted} - wanted
        if not more:
            return wanted
        wanted |= more


def _read_all(path: Path) -> str:
    """A file of any length: /proc/stat grows with the cores."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
