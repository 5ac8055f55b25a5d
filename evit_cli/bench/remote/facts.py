"""What a board said about itself: its tools, its processors, how hot it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evit_cli.bench.remote.trtexec_output import version_of
from evit_cli.config.device import detect_profile
from evit_cli.config.machine import Machine, read_machine
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError

_NOT_A_CHIP = ("pmic", "battery", "wifi", "modem")
"""Zones that say nothing of the processors; PMIC-Die of a Jetson reads 100 °C whatever it is."""
_PLAUSIBLE_C = (-40.0, 150.0)
_SLOWING = ("cpufreq", "devfreq", "throttle", "alert", "processor")
"""In the names of cooling devices that cool by slowing down; fans and displays are others."""
_PI = (
    "its voltage is too low",
    "its clock is capped",
    "it is throttled",
    "it is warm",
)
"""Bits 0 to 3 of a Raspberry Pi's get_throttled: what holds now."""


@dataclass(frozen=True)
class BoardState:
    """Temperatures and whether the board slows itself down.

    Attributes:
        zones_c: degrees Celsius by name of the thermal zone.
        throttled: what slows it down, a few words each; empty where nothing does.
    """

    zones_c: Mapping[str, float] = field(default_factory=dict)
    throttled: tuple[str, ...] = ()

    @classmethod
    def parse(cls, line: str) -> BoardState:
        """Read a "state" line of the board; what makes no sense in it is left out."""
        zones: dict[str, float] = {}
        throttled: list[str] = []
        for item in line.split("\t")[1:]:
            what, _, rest = item.partition(":")
            kind, _, value = rest.rpartition(":")
            if what == "zone":
                celsius = _celsius(value)
                if celsius is not None and not any(word in kind.lower() for word in _NOT_A_CHIP):
                    zones[kind] = max(celsius, zones.get(kind, celsius))
            elif what == "cool" and any(word in kind.lower() for word in _SLOWING):
                if value.isdecimal() and int(value):  # -1 is "not in use"
                    throttled.append(f"{kind} is active")
            elif what == "pi":
                throttled += _pi_flags(value)
        return cls(zones, tuple(dict.fromkeys(throttled)))

    @property
    def hottest(self) -> tuple[str, float] | None:
        """(zone, degrees Celsius), None where no zone can be read."""
        return max(self.zones_c.items(), key=lambda item: item[1], default=None)

    def merged(self, later: BoardState) -> BoardState:
        """The highest of both."""
        zones = {
            name: max(self.zones_c.get(name, celsius), celsius)
            for name, celsius in (*self.zones_c.items(), *later.zones_c.items())
        }
        return BoardState(zones, tuple(dict.fromkeys((*self.throttled, *later.throttled))))


def _celsius(value: str) -> float | None:
    try:
        celsius = int(value) / 1000
    except ValueError:
        return None
    return celsius if _PLAUSIBLE_C[0] < celsius < _PLAUSIBLE_C[1] else None


def _pi_flags(value: str) -> list[str]:
    try:
        bits = int(value, 16)
    except ValueError:
        return []
    return [words for bit, words in enumerate(_PI) if bits >> bit & 1]


@dataclass(frozen=True)
class BoardFacts:
    """What is there; empty where unknown.

    Attributes:
        machine: as `evit_cli.config.machine` knows this one.
        system: of the kernel, "Linux".
        hostname: as it calls itself.
        cpu: name of its processor.
        governor: of its clocks.
        power_mode: of a Jetson, "MAXN".
        python: version of python3.
        evit: path of the command.
        evit_version: what it says of itself.
        trtexec: path of the tool.
        tensorrt: its version.
        folder: evit's own there, for as long as the connection holds.
        free_kib: where the folder is.
        state: when it was asked.
    """

    machine: Machine
    system: str = ""
    hostname: str = ""
    cpu: str = ""
    governor: str = ""
    power_mode: str = ""
    python: str = ""
    evit: str = ""
    evit_version: str = ""
    trtexec: str = ""
    tensorrt: str = ""
    folder: str = ""
    free_kib: int = 0
    state: BoardState = BoardState()

    @classmethod
    def parse(cls, lines: Iterable[str]) -> BoardFacts:
        """Read what KEEP prints; unknown lines mean nothing."""
        said: dict[str, list[str]] = {}
        for line in lines:
            key, tab, value = line.partition("\t")
            if tab or key == "state":
                said.setdefault(key, []).append(line if key == "state" else value.strip())
        one = {key: values[0] for key, values in said.items()}
        machine = _machine(one, said.get("gpu", []))
        free = one.get("free", "")
        return cls(
            machine=machine,
            cpu=one.get("cpu") or machine.device_tree_model,
            power_mode=one.get("power", ""),
            python=one.get("python", "").removeprefix("Python "),
            tensorrt=version_of(one.get("tensorrt", "")),
            free_kib=int(free) if free.isdecimal() else 0,
            state=BoardState.parse(one.get("state", "")),
            **{name: one.get(name, "") for name in _AS_SAID},
        )

    def profile(self) -> Profile | None:
        """The device profile that recognises it, if one does."""
        try:
            return detect_profile(machine=self.machine).profile
        except EvitError:
            return None

    def environment(self) -> dict[str, Any]:
        """For a row that evit did not write there itself."""
        gpus = [gpu.name for gpu in self.machine.gpus]
        hottest = self.state.hottest
        facts: dict[str, Any] = {
            "cpu": self.cpu,
            "gpu": gpus[0] if gpus else "",
            "board": self.machine.device_tree_model,
            "system": f"{self.system} {self.machine.machine}".strip(),
            "hostname": self.hostname,
            "governor": self.governor,
            "power_mode": self.power_mode,
            "versions": {"tensorrt": self.tensorrt} if self.tensorrt else {},
            "temperature_c": None if hottest is None else hottest[1],
        }
        return {key: value for key, value in facts.items() if value not in ("", None)}


_AS_SAID = ("system", "hostname", "governor", "evit", "evit_version", "trtexec", "folder")


def _machine(one: Mapping[str, str], gpus: Sequence[str]) -> Machine:
    """By the same reading as for this machine, over copies of the board's files."""
    files = {
        "etc/nv_tegra_release": one.get("l4t", ""),
        "proc/device-tree/model": one.get("model", ""),
        "proc/device-tree/compatible": one.get("compatible", ""),
        "proc/meminfo": one.get("memory", ""),
    }
    with tempfile.TemporaryDirectory(prefix="evit-board-") as folder:
        for name, text in files.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        return read_machine(
            Path(folder),
            lambda command: "\n".join(gpus) if command[0] == "nvidia-smi" else "",
            machine=one.get("machine", "unknown"),
        )
