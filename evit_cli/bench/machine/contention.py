"""Others that want the same machine: processes, other virtual machines, a quota, the swap."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from pathlib import Path

from evit_cli.bench.machine.cgroup import cpu_used_s, held_back_s
from evit_cli.bench.machine.cpu_time import CpuTimes, machine_times, processes_s
from evit_cli.bench.machine.sysfs import read_fields, usable_cores

_OTHERS = 0.05
# On a machine of many cores one busy process is few per cent, and yet takes cache and memory.
_OTHERS_CORES = 0.5
_STEAL = 0.02
_HELD_BACK = 0.02
_SWAPPED_BYTES = 1 << 20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# Counters of CPU time move in steps of 10 ms, and the machine's are sampled.
_SHORTEST_S = 0.15


class ContentionEye:
    """Sees what others took between two moments.

    Args:
        pids: the processes that are measured; their descendants count as theirs, and so do this
            process and the tools that it ran and waited for.
        root: where the file tree starts.
    """

    def __init__(self, pids: Collection[int], root: Path) -> None:
        self._pids, self._root = pids, root
        self._begun_s = 0.0

    def open(self) -> None:
        """Note all counters."""
        self._machine = machine_times(self._root)
        self._group_s = cpu_used_s(self._root)
        self._own_s = self._own()
        self._held_s = held_back_s(self._root)
        self._swapped = self._swap_bytes()
        self._begun_s = time.monotonic()

    def look(self) -> None:
        """Nothing: the counters lose nothing in between."""

    def close(self) -> list[str]:
        """What others took."""
        # In the order of `open`: what passes between two readings then passes at both ends.
        machine, group_s = machine_times(self._root), cpu_used_s(self._root)
        own_s = self._own() - self._own_s
        wall_s = time.monotonic() - self._begun_s
        seen = []
        spent = machine - self._machine if machine and self._machine else None
        if spent is not None and spent.total > 0:
            seen = _steal(spent) + _others(spent, own_s)
        elif group_s is not None and self._group_s is not None:
            # A sandbox that hides the machine's time still counts the group's.
            cores = len(usable_cores())
            spent = CpuTimes(group_s - self._group_s, 0.0, wall_s * cores, cores)
            seen = _others(spent, own_s)
        held_s = held_back_s(self._root) - self._held_s
        if wall_s > 0 and held_s / wall_s > _HELD_BACK:
            seen.append(f"the CPU quota let nothing run for {held_s / wall_s:.0%} of the time")
        swapped = self._swap_bytes() - self._swapped
        if swapped > _SWAPPED_BYTES:
            seen.append(f"the machine swapped {swapped / (1 << 20):.0f} MiB")
        return seen

    def _own(self) -> float:
        # Of this process no living children: what it started beside the measured is not measured.
        return processes_s(self._pids, self._root, alone=(os.getpid(),))

    def _swap_bytes(self) -> int:
        counts = read_fields(self._root / "proc/vmstat")
        return (counts.get("pswpin", 0) + counts.get("pswpout", 0)) * _PAGE_BYTES


def _steal(spent: CpuTimes) -> list[str]:
    share = spent.steal / spent.total
    return [f"other virtual machines took {share:.0%} of the CPU time"] if share > _STEAL else []


def _others(spent: CpuTimes, own_s: float) -> list[str]:
    others_s = spent.busy - own_s
    # The cores' own sum of time, and not the clock's: a paused machine has less.
    allowed_s = min(_OTHERS * spent.cores, _OTHERS_CORES) * spent.total / spent.cores
    if others_s <= max(allowed_s, _SHORTEST_S):
        return []
    return [f"other processes took {others_s / spent.total:.0%} of the CPU time"]
