"""Slowing down for heat, power or voltage, as different machines report it."""

from __future__ import annotations

import re
import time
from pathlib import Path

from evit_cli.bench.machine.nvidia import number, query_gpu
from evit_cli.bench.machine.sysfs import find, read_number, read_numbers
from evit_cli.config.machine import Runner, read_text

# What slows the machine down, of all that the kernel calls cooling; fans and displays do not.
_SLOWS = re.compile(r"processor|cpufreq|devfreq|cpuidle|powerclamp|throttle", re.IGNORECASE)
# Trip points of this zone are where a daemon wants to be told, not limits.
_NO_LIMITS = ("x86_pkg_temp",)
_PLAUSIBLE_LIMIT_MC = 40_000

_PI_REASONS = (
    (0, "the Raspberry Pi's supply voltage was too low"),
    (1, "the Raspberry Pi capped its clock"),
    (2, "the Raspberry Pi throttled"),
    (3, "the Raspberry Pi reached its soft temperature limit"),
)
_PI_SINCE_START = 16  # the same four bits again, set for good once it has happened

_GPU_HEAT = "the GPU slowed down for heat"
_GPU_POWER = "the GPU's hardware slowed it down (heat or power supply)"
_GPU_FLAGS = (
    ("sw_thermal_slowdown", _GPU_HEAT),
    ("hw_thermal_slowdown", _GPU_HEAT),
    ("hw_power_brake_slowdown", _GPU_POWER),
)
_GPU_NEW, _GPU_OLD = "clocks_event_reasons", "clocks_throttle_reasons"  # new since driver 535
_GPU_EVERY_S = 2.0


class HeatEye:
    """Sees what Linux reports: throttle counters, cooling that slows down, zones at their limit."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._counters: dict[str, int] = {}
        self._cooling: list[tuple[str, Path]] = []
        self._limits: list[tuple[str, Path, int]] = []
        self._seen: dict[str, None] = {}

    def open(self) -> None:
        """Find what there is to look at."""
        thermal = self._root / "sys/class/thermal"
        self._seen = {}
        self._counters = self._count()
        self._cooling = [
            (kind, folder / "cur_state")
            for folder in find(thermal, "cooling_device*")
            if _SLOWS.search(kind := read_text(folder / "type"))
        ]
        self._limits = [
            (read_text(zone / "type"), zone / "temp", limit)
            for zone in find(thermal, "thermal_zone*")
            if (limit := _limit(zone)) is not None
        ]
        self.look()

    def look(self) -> None:
        """Note what is slowed down or too hot at this moment."""
        for kind, path in self._cooling:
            if (read_number(path) or 0) > 0:
                self._seen[f"heat slowed the machine down ({kind})"] = None
        for zone, path, limit in self._limits:
            if (read_number(path) or 0) >= limit:
                self._seen[f"{zone} reached its limit of {limit / 1e3:.0f} °C"] = None

    def close(self) -> list[str]:
        """What was seen, and which counters moved."""
        self.look()
        after = self._count()
        for what, before in self._counters.items():
            if after.get(what, before) > before:
                self._seen[f"the {what} {after[what] - before} times"] = None
        return list(self._seen)

    def _count(self) -> dict[str, int]:
        cpus = self._root / "sys/devices/system/cpu"
        heat = read_numbers(find(cpus, "cpu[0-9]*/thermal_throttle/*_throttle_count"))
        # Of a Jetson: three thresholds, one of them of voltage.
        current = read_numbers(find(self._root / "sys/class/hwmon", "hwmon*/oc*_event_cnt"))
        return {
            "CPU throttled for heat": sum(heat),
            "board throttled for over-current or low voltage": sum(current),
        }


def _limit(zone: Path) -> int | None:
    """The temperature in thousandths of °C above which a zone surely slows the machine down."""
    if read_text(zone / "type") in _NO_LIMITS:
        return None
    limits = [
        temperature
        for kind in find(zone, "trip_point_*_type")
        if read_text(kind) in ("passive", "hot")
        for temperature in read_numbers([kind.with_name(kind.name.replace("_type", "_temp"))])
        if temperature >= _PLAUSIBLE_LIMIT_MC
    ]
    # At the lower of several passive points some kernels only begin to watch.
    return max(limits, default=None)


class RaspberryPiEye:
    """Sees what the firmware of a Raspberry Pi reports by `vcgencmd get_throttled`."""

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._before: int | None = None
        self._now = 0

    def open(self) -> None:
        """Ask once; elsewhere nobody answers, and nothing more is asked."""
        self._before = self._ask()
        self._now = self._before or 0

    def look(self) -> None:
        """Note the state at this moment."""
        if self._before is not None:
            self._now |= self._ask() or 0

    def close(self) -> list[str]:
        """What was seen now and then, and what happened for the first time since the start."""
        self.look()
        new = self._now & ~(self._before or 0)
        return [
            reason
            for bit, reason in _PI_REASONS
            if self._now >> bit & 1 or new >> (bit + _PI_SINCE_START) & 1
        ]

    def _ask(self) -> int | None:
        answer = re.search(r"throttled=0x([0-9a-fA-F]+)", self._run(("vcgencmd", "get_throttled")))
        return int(answer[1], 16) if answer else None


class NvidiaEye:
    """Sees an NVIDIA GPU slow down for heat or power supply; its power limit is no fault.

    nvidia-smi takes a while, so it is asked between blocks at most every two seconds. Drivers that
    count the time (microseconds) are asked for that too, and miss nothing.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._fields: list[tuple[str, str]] = []
        self._before: list[str] = []
        self._asked_s = 0.0
        self._seen: dict[str, None] = {}

    def open(self) -> None:
        """Find out what the driver knows; it refuses a question that holds one unknown field."""
        self._fields, self._seen = [], {}
        if query_gpu(self._run, "name") is None:
            return
        for families in ((_GPU_NEW, f"{_GPU_NEW}_counters"), (_GPU_NEW,), (_GPU_OLD,)):
            fields = [(f"{family}.{name}", why) for family in families for name, why in _GPU_FLAGS]
            values = query_gpu(self._run, *(name for name, _ in fields))
            if values is not None:
                self._fields, self._before = fields, values
                self._note(values)
                return

    def look(self) -> None:
        """Note the state, if it was not asked for just now."""
        if self._fields and time.monotonic() - self._asked_s >= _GPU_EVERY_S:
            self._ask()

    def close(self) -> list[str]:
        """What was seen."""
        if self._fields:
            self._ask()
        return list(self._seen)

    def _ask(self) -> None:
        values = query_gpu(self._run, *(name for name, _ in self._fields))
        if values is not None:
            self._note(values)

    def _note(self, values: list[str]) -> None:
        for (_, why), old, new in zip(self._fields, self._before, values, strict=True):
            before, after = number(old), number(new)
            counted = before is not None and after is not None and after > before
            if new == "Active" or counted:
                self._seen[why] = None
        self._asked_s = time.monotonic()
