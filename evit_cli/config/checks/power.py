"""Checks of a Jetson's power mode, clocks and load: what decides how fast it is today."""

from __future__ import annotations

from evit_cli.config.checks.result import Check, Surroundings, missing, ok, problem
from evit_cli.config.power import ABSENT, CLOCKS, MODE, REFUSED, STATS, Ask, JetsonPower, read_power


def check_power(around: Surroundings, ask: Ask | None = None) -> list[Check]:
    """Nothing elsewhere than on a Jetson.

    Args:
        around: what to look at.
        ask: runs a tool; the usual way if None.
    """
    if not around.machine.is_tegra:
        return []
    power = read_power(around.root, ask) if ask else read_power(around.root)
    return [_mode(power), _clocks(power, around.clocks_pinned), _state(power)]


def _mode(power: JetsonPower) -> Check:
    if not power.mode.name and power.mode.number is None:
        return _silent("power mode", power, MODE)
    detail = str(power.mode)
    fastest = power.fastest
    if fastest.name and fastest.name != power.mode.name:
        detail += f"; {fastest.name} is the fastest: sudo nvpmodel -m {fastest.number}"
    return ok("power mode", detail)


def _clocks(power: JetsonPower, pinned: bool | None) -> Check:
    """What `jetson_clocks` says, or what the files of CPU and GPU say where it needs root."""
    memory = f", memory at {power.memory_mhz} MHz" if power.memory_mhz else ""
    known = pinned if power.pinned is None else power.pinned
    if known is None:
        return _silent("clocks", power, CLOCKS)
    unseen = "" if power.pinned is not None else ", the memory's were not told (they need root)"
    if known:
        return ok("clocks", f"pinned{memory}{unseen}")
    return ok("clocks", f"they move with the load{memory}: sudo jetson_clocks before a benchmark")


def _state(power: JetsonPower) -> Check:
    """Load, power and heat now, in one line."""
    name = STATS[0]
    if name in power.failed:
        return _silent(name, power, STATS)
    state, parts = power.state, []
    if state.gpu_percent is not None:
        parts.append(f"GPU {state.gpu_percent} %")
    if state.memory_percent is not None:
        parts.append(f"memory bus {state.memory_percent} %")
    if state.ram_mb is not None:
        parts.append(f"{state.ram_mb} of {state.ram_total_mb} MB used")
    parts += [f"{rail} {mw / 1e3:.1f} W" for rail, mw in state.power_mw.items() if mw]
    if state.temperatures_c:
        zone, degrees = max(state.temperatures_c.items(), key=lambda item: item[1])
        parts.append(f"hottest {zone} {degrees:.0f} °C")
    return ok(name, ", ".join(parts))


def _silent(check: str, power: JetsonPower, command: tuple[str, ...]) -> Check:
    """A tool that said nothing."""
    tool, why = command[0], power.failed[command[0]]
    if why == ABSENT:
        return missing(check, f"{tool} is not here, as in a container; look on the board itself")
    mend = f"sudo {' '.join(command)}" if why == REFUSED else ""
    return problem(check, f"{tool} does not tell: {why}", mend)
