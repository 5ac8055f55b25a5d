"""Clock rates of the CPU and of a board's GPU, and whether they changed while measuring."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from evit_cli.bench.machine.sysfs import find, read_number, read_numbers, usable_cores
from evit_cli.config.machine import read_text

_CHANGED = 0.05
_FEWEST_SAMPLES = 6


@dataclass(frozen=True)
class Clocks:
    """Rates in MHz and what governs them; None and empty where unknown.

    Attributes:
        now: of the fastest core at this moment.
        limit: the highest that the governor may choose.
        lowest: the lowest that it may choose.
        top: the highest that the processor has.
        governor: of the cores, comma separated where they differ.
        gpu: of a board's GPU now.
        gpu_limit: the highest it may have.
        gpu_lowest: the lowest it may have.
    """

    now: float | None = None
    limit: float | None = None
    lowest: float | None = None
    top: float | None = None
    governor: str = ""
    gpu: float | None = None
    gpu_limit: float | None = None
    gpu_lowest: float | None = None

    @property
    def pinned(self) -> bool | None:
        """Whether CPU and GPU run at one fixed rate, as after `jetson_clocks`."""
        if not self.limit or not self.lowest:
            return None
        return self.limit == self.lowest and self.gpu_limit == self.gpu_lowest


def read_clocks(root: Path = Path("/")) -> Clocks:
    """All rates."""
    policies = _policies(root)
    gpu = _gpu_folder(root)
    governors = {read_text(policy / "scaling_governor") for policy in policies} - {""}
    return Clocks(
        now=cpu_mhz(root),
        limit=_highest(policies, "scaling_max_freq"),
        lowest=_highest(policies, "scaling_min_freq"),
        top=_highest(policies, "cpuinfo_max_freq"),
        governor=", ".join(sorted(governors)),
        gpu=_mhz(gpu, "cur_freq"),
        gpu_limit=_mhz(gpu, "max_freq"),
        gpu_lowest=_mhz(gpu, "min_freq"),
    )


def cpu_mhz(root: Path = Path("/")) -> float | None:
    """The rate of the fastest core at this moment."""
    # Where /proc/cpuinfo has rates (x86) they are measured ones, all in one cheap reading.
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    rates = [
        float(rate) for rate in re.findall(r"^cpu MHz\s*:\s*(\d+(?:\.\d+)?)", text, re.MULTILINE)
    ]
    return max(rates) if rates else _highest(_policies(root), "scaling_cur_freq")


def _policies(root: Path) -> list[Path]:
    """Groups of cores with a clock of their own, those that this process may use."""
    folders = find(root / "sys/devices/system/cpu/cpufreq", "policy*")
    cores = usable_cores()
    own = [
        folder
        for folder in folders
        if cores & {int(n) for n in read_text(folder / "affected_cpus").split() if n.isdecimal()}
    ]
    return own or folders


def _highest(folders: list[Path], name: str) -> float | None:
    rates = read_numbers(folder / name for folder in folders)
    return max(rates) / 1e3 if rates else None  # kHz


def _gpu_folder(root: Path) -> Path | None:
    """Of a Jetson: 17000000.gpu, 17000000.ga10b, 57000000.gpu, by release and board."""
    for folder in find(root / "sys/class/devfreq", "*"):
        if re.search(r"\.(gpu|g[abpv]\d+b?)$|gpu-gpc-0$", folder.name):
            return folder
    return None


def _mhz(folder: Path | None, name: str) -> float | None:
    hertz = read_number(folder / name) if folder is not None else None
    return None if hertz is None else hertz / 1e6


class ClockEye:
    """Sees a clock that changed while measuring.

    A rate is read right after a block of runs, and only the fastest core's: the one that has just
    worked, or another like it. Whether idle cores sleep does not show. Single readings jump, so a
    change counts only when it lasts: every reading of the last third lies on one side of every
    reading of the first third, and their medians are more than 5 % apart. The first reading is made
    after the warm-up, so that a CPU that only wakes up is no change.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._before = Clocks()
        self._rates: list[float] = []

    def open(self) -> None:
        """Note governor and limits; the rate of the idle CPU now says nothing."""
        self._before, self._rates = read_clocks(self._root), []

    def look(self) -> None:
        """Note the rate after a block of runs."""
        rate = cpu_mhz(self._root)
        if rate:
            self._rates.append(rate)

    def close(self) -> list[str]:
        """What changed."""
        before, after = self._before, read_clocks(self._root)
        seen = []
        if before.governor != after.governor:
            seen.append(f"the CPU's governor changed from {before.governor} to {after.governor}")
        for name, old, new in (
            ("CPU", before.limit, after.limit),
            ("GPU", before.gpu_limit, after.gpu_limit),
        ):
            if old and new and abs(new - old) > _CHANGED * old:
                seen.append(f"the {name}'s highest clock went from {old:.0f} to {new:.0f} MHz")
        return seen + self._lasting_change()

    def _lasting_change(self) -> list[str]:
        if len(self._rates) < _FEWEST_SAMPLES:
            return []
        third = len(self._rates) // 3
        first, last = self._rates[:third], self._rates[-third:]
        apart = max(last) < min(first) or min(last) > max(first)
        old, new = median(first), median(last)
        if not apart or abs(new - old) <= _CHANGED * old:
            return []
        return [f"the CPU's clock went from {old:.0f} to {new:.0f} MHz"]
