"""What a control group (a container, a systemd slice) grants of CPU time; v1 and v2."""

from __future__ import annotations

import os
from pathlib import Path

from evit_cli.bench.machine.sysfs import read_fields, read_number
from evit_cli.config.machine import read_text


def cpu_quota(root: Path = Path("/")) -> float | None:
    """Cores' worth of CPU time that may be used at most, None without a limit."""
    quotas = []
    for folder in _folders(root, "cpu"):
        words = read_text(folder / "cpu.max").split()
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal():
            quotas.append(int(words[0]) / max(int(words[1]), 1))
        quota = read_number(folder / "cpu.cfs_quota_us")
        period = read_number(folder / "cpu.cfs_period_us")
        if quota is not None and quota > 0 and period:
            quotas.append(quota / period)
    return min(quotas, default=None)


def held_back_s(root: Path = Path("/")) -> float:
    """Seconds so far in which the quota let nothing run, 0 where unknown."""
    seconds = [0.0]
    for folder in _folders(root, "cpu"):
        stat = read_fields(folder / "cpu.stat")
        seconds.append(stat.get("throttled_usec", 0) / 1e6)  # v2
        seconds.append(stat.get("throttled_time", 0) / 1e9)  # v1
    return max(seconds)


def cpu_used_s(root: Path = Path("/")) -> float | None:
    """CPU seconds of everything in the own group so far."""
    for folder in _folders(root, "cpu"):
        used = read_fields(folder / "cpu.stat").get("usage_usec")
        if used is not None:
            return used / 1e6
    for folder in _folders(root, "cpuacct"):
        nanoseconds = read_number(folder / "cpuacct.usage")
        if nanoseconds is not None:
            return nanoseconds / 1e9
    return None


def _folders(root: Path, controller: str) -> list[Path]:
    """The own group's folder and those above it, which limit it too; lowest first."""
    base, path = root / "sys/fs/cgroup", "/"
    for line in read_text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controller in controllers.split(","):
            base, path = root / "sys/fs/cgroup" / controller, own
            break
        if not controllers:
            path = own
    # A container sees its own group as the topmost, yet may read the path that it has outside.
    inner = base / path.lstrip("/")
    above = [inner, *inner.parents]
    return [folder for folder in above[: above.index(base) + 1] if os.path.isdir(folder)]
