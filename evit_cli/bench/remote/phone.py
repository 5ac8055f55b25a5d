"""What an Android phone says about itself: its chip, its heat, its battery, its space."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from evit_cli.bench.remote.adb_client import Adb
from evit_cli.config.device import detect_profile, list_profiles
from evit_cli.config.machine import Machine
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError

PLACE = "/data/local/tmp"
"""Where the shell of a phone may write and run programs."""

_PROPERTIES = (
    "ro.soc.manufacturer", "ro.soc.model", "ro.board.platform", "ro.product.manufacturer",
    "ro.product.model", "ro.build.version.release", "ro.product.cpu.abi", "ro.product.cpu.abilist",
)  # fmt: skip
_STATE = """
echo 'part thermal'; dumpsys thermalservice
echo 'part battery'; dumpsys battery
echo 'part saver'; settings get global low_power
"""
_FACTS = f"""
for name in {" ".join(_PROPERTIES)}; do echo "prop $name=$(getprop $name)"; done
echo 'part memory'; cat /proc/meminfo
echo 'part space'; df -k {PLACE}
{_STATE}
"""
_ARCHITECTURES = {"arm64-v8a": "aarch64", "armeabi-v7a": "armv7l", "x86_64": "x86_64"}
_HEAT = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
SEVERE = 3
_LOW_PERCENT = 20
_WARM_BATTERY_C = 40.0
_KIB = 1024


@dataclass(frozen=True)
class PhoneState:
    """How the phone is at the moment; None for what it does not say.

    Attributes:
        thermal: Android's thermal status, 0 (none) to 6 (shutdown); Android 10 began to tell it.
        battery_percent: how full the battery is.
        charging: whether it is plugged to power.
        battery_c: temperature of the battery in degrees Celsius.
        saver: whether Android's battery saver is on.
    """

    thermal: int | None = None
    battery_percent: int | None = None
    charging: bool | None = None
    battery_c: float | None = None
    saver: bool = False

    @classmethod
    def parse(cls, text: str) -> PhoneState:
        """Read what the phone printed; what makes no sense is left out."""
        parts = _parts(text)
        battery = parts.get("battery", "")
        thermal = _number(parts.get("thermal", ""), r"Thermal Status: (\d)\b")
        tenths = _number(battery, r"^\s*temperature: (-?\d{1,4})\b")
        level = _number(battery, r"^\s*level: (\d{1,3})\b")
        scale = _number(battery, r"^\s*scale: (\d{1,3})\b")
        powered = re.findall(r"^\s*\w+ powered: (true|false)", battery, re.MULTILINE)
        return cls(
            thermal=thermal if thermal is None or thermal < len(_HEAT) else None,
            battery_percent=level if level is None else round(100 * level / (scale or 100)),
            charging="true" in powered if powered else None,
            battery_c=None if tenths is None else tenths / 10,
            saver=parts.get("saver", "").strip() == "1",
        )

    @property
    def taints(self) -> list[str]:
        """Why numbers that are measured now may be off."""
        found = []
        if self.thermal:
            found.append(f"Android called the phone's heat {_HEAT[self.thermal]}")
        elif self.thermal is None and (self.battery_c or 0.0) >= _WARM_BATTERY_C:
            found.append(f"the phone's battery was at {self.battery_c:.0f} °C")
        if (self.battery_percent or 100) < _LOW_PERCENT:
            found.append(f"the phone's battery was at {self.battery_percent} %")
        if self.saver:
            found.append("the phone's battery saver was on")
        return found

    def refuse_heat(self) -> None:
        """Nothing measured on a phone that throttles means anything.

        Raises:
            EvitError: Android calls its heat severe or worse.
        """
        if self.thermal is not None and self.thermal >= SEVERE:
            raise EvitError(
                f"the phone is too hot to measure: Android calls its heat {_HEAT[self.thermal]}",
                hint="let it cool down: out of the sun and its case, off the charger",
            )


@dataclass(frozen=True)
class Phone:
    """What the phone is.

    Attributes:
        name: manufacturer and model, "Google Pixel 8".
        soc: codes of its chip, "SM8650 pineapple".
        android: version, "14".
        abis: of the programs it runs, the best first.
        memory_gib: main memory, None where it is not said.
        free_bytes: in `PLACE`, None where it is not said.
        state: how it was when it was asked.
    """

    name: str
    soc: str
    android: str
    abis: tuple[str, ...]
    memory_gib: float | None = None
    free_bytes: int | None = None
    state: PhoneState = field(default_factory=PhoneState)

    @classmethod
    def parse(cls, text: str) -> Phone:
        """Read what the phone printed; what makes no sense is left out."""
        said = dict(re.findall(r"^prop ([\w.]+)=[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
        parts = _parts(text)
        first = said.get("ro.product.cpu.abi", "")
        abis = [first, *said.get("ro.product.cpu.abilist", "").split(",")]
        chip = (said.get("ro.soc.model", ""), said.get("ro.board.platform", ""))
        kib = _number(parts.get("memory", ""), r"^MemTotal:\s+(\d{1,12}) kB")
        return cls(
            name=_name(said.get("ro.product.manufacturer", ""), said.get("ro.product.model", "")),
            soc=" ".join(dict.fromkeys(filter(None, chip))),
            android=said.get("ro.build.version.release", ""),
            abis=tuple(dict.fromkeys(filter(None, abis))),
            memory_gib=None if kib is None else kib / (1 << 20),
            free_bytes=_free_bytes(parts.get("space", "")),
            state=PhoneState.parse(text),
        )

    @cached_property
    def profile(self) -> str:
        """Name of the device profile of its chip, "" where there is none."""
        abi = self.abis[0] if self.abis else ""
        machine = Machine(_ARCHITECTURES.get(abi, abi), android_soc=self.soc)
        try:
            return detect_profile(machine=machine, profiles=_chips()).profile.name
        except EvitError:
            return ""

    def environment(self) -> dict[str, Any]:
        """For a row."""
        facts: Mapping[str, Any] = {
            "cpu": self.soc,
            "machine": self.abis[0] if self.abis else "",
            "memory_gib": None if self.memory_gib is None else round(self.memory_gib, 1),
            "os": f"Android {self.android}" if self.android else "Android",
            "power_mode": "battery saver" if self.state.saver else "",
            "battery_percent": self.state.battery_percent,
            "charging": self.state.charging,
            "battery_c": self.state.battery_c,
            "thermal_status": None if self.state.thermal is None else _HEAT[self.state.thermal],
        }
        return {name: value for name, value in facts.items() if value not in (None, "")}


def read_phone(adb: Adb) -> Phone:
    """What the phone is, and how it is.

    Raises:
        PhoneLost: it went away.
    """
    return Phone.parse(adb.shell(_FACTS).out)


def read_state(adb: Adb) -> PhoneState:
    """How it is now.

    Raises:
        PhoneLost: it went away.
    """
    return PhoneState.parse(adb.shell(_STATE).out)


@cache
def _chips() -> tuple[Profile, ...]:
    """Profiles of phones; others could fit a phone's processor, and say nothing of its chip."""
    profiles = list_profiles()
    return tuple(p for p in profiles if any(rule.android_soc for rule in p.detect.rules))


def _name(maker: str, model: str) -> str:
    if maker and not model.lower().startswith(maker.lower()):
        model = f"{maker[:1].upper()}{maker[1:]} {model}".strip()
    return model or "Android phone"


def _parts(text: str) -> dict[str, str]:
    """What stands under each "part NAME" line."""
    pieces = re.split(r"^part (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def _number(text: str, pattern: str) -> int | None:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else None


def _free_bytes(text: str) -> int | None:
    """Of df: its header names the columns, and old ones call the fourth "Free"."""
    rows = list(_rows(text))
    if len(rows) < 2 or "1K-blocks" not in rows[0]:
        return None
    column = next((i for i, word in enumerate(rows[0]) if word in ("Available", "Avail")), None)
    # A long device name pushes its numbers into a line of their own.
    values = [word for row in rows[1:] for word in row]
    if column is None or len(values) <= column or not re.fullmatch(r"\d{1,15}", values[column]):
        return None
    return int(values[column]) * _KIB


def _rows(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        if line.strip():
            yield line.split()
