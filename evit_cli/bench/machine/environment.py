"""The machine and its state, as every row of a benchmark carries it.

What is unknown is left out. Names of hosts and users and paths are never read.
"""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from evit_cli import __version__
from evit_cli.bench.machine.clocks import Clocks, read_clocks
from evit_cli.bench.machine.nvidia import number, query_gpu
from evit_cli.bench.machine.processor import (
    container,
    core_count,
    cpu_name,
    system,
    temperatures_c,
    turbo,
    virtual_machine,
)
from evit_cli.config.machine import Machine, Runner, read_machine, read_text, run_tool
from evit_cli.config.power import JetsonPower, asking, read_power
from evit_cli.types import Backend

# Names under which a runtime may be installed; the first that is there counts.
_RUNTIMES: dict[Backend, tuple[str, ...]] = {
    Backend.TORCH: ("torch",),
    Backend.ONNX: ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    Backend.TFLITE: ("ai-edge-litert", "tflite-runtime"),
    Backend.TENSORRT: ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    Backend.OPENVINO: ("openvino",),
}


def read_environment(
    *,
    backend: Backend | None = None,
    threads: int | None = None,
    root: Path = Path("/"),
    run: Runner = run_tool,
) -> dict[str, Any]:
    """All that may explain a latency, ready for JSON. Nothing here raises.

    Args:
        backend: whose runtime library's version is wanted.
        threads: CPU threads that were asked for.
        root: where the file tree starts; a test gives a fake one.
        run: runs a tool and returns its standard output, "" on any failure.

    Returns:
        Of these keys those that are known: cpu, architecture, cores (that may be used), threads,
        memory_gib, os, container, virtual_machine, governor, turbo, clocks_mhz (now, limit, max,
        gpu, memory), gpu (name, driver), power_mode, jetson_clocks, tegrastats (gpu_percent,
        memory_percent, power_mw by rail, all before the runs), temperatures_c, load (1, 5 and 15
        minutes), versions (evit, python, numpy and the backend's runtime).
    """
    machine = read_machine(root, run)
    clocks = read_clocks(root)
    power = read_power(root, asking(run)) if machine.is_tegra else JetsonPower()
    parts: dict[str, Callable[[], Any]] = {
        "cpu": lambda: cpu_name(root, run) or machine.android_soc,
        "architecture": lambda: machine.machine,
        "cores": lambda: core_count(root),
        "threads": lambda: threads,
        "memory_gib": lambda: machine.memory_gib and round(machine.memory_gib, 1),
        "os": lambda: system(root),
        "container": lambda: container(root),
        "virtual_machine": lambda: virtual_machine(root, run),
        "governor": lambda: clocks.governor,
        "turbo": lambda: turbo(root),
        "clocks_mhz": lambda: _clocks_mhz(clocks, power),
        "gpu": lambda: _gpu(machine),
        "power_mode": lambda: _power_mode(machine, power, root, run),
        "jetson_clocks": lambda: _pinned(clocks, power) if machine.is_tegra else None,
        "tegrastats": lambda: _tegrastats(power),
        "temperatures_c": lambda: temperatures_c(root),
        "load": lambda: _load(root),
        "versions": lambda: _versions(backend),
    }
    environment: dict[str, Any] = {}
    for name, read in parts.items():
        # Drivers write what they like: a row without one of these is better than no row.
        with suppress(OSError, ValueError, LookupError):
            value = read()
            if value not in (None, "", {}, []):
                environment[name] = value
    return environment


def _clocks_mhz(clocks: Clocks, power: JetsonPower) -> dict[str, int]:
    rates = {"now": clocks.now, "limit": clocks.limit, "max": clocks.top, "gpu": clocks.gpu}
    rates["memory"] = power.memory_mhz
    return {name: round(rate) for name, rate in rates.items() if rate}


def _gpu(machine: Machine) -> dict[str, str]:
    """Name and driver of the first CUDA GPU."""
    if not machine.gpus:
        return {}
    first = machine.gpus[0]
    return {"name": first.name, **({"driver": first.driver} if first.driver else {})}


def _pinned(clocks: Clocks, power: JetsonPower) -> bool | None:
    """`jetson_clocks --show` knows the memory too, but tells root only; files know CPU and GPU."""
    return clocks.pinned if power.pinned is None else power.pinned


def _tegrastats(power: JetsonPower) -> dict[str, Any]:
    state = power.state
    seen = {
        "gpu_percent": state.gpu_percent,
        "memory_percent": state.memory_percent,
        "power_mw": state.power_mw or None,
    }
    return {name: value for name, value in seen.items() if value is not None}


def _power_mode(machine: Machine, power: JetsonPower, root: Path, run: Runner) -> str:
    """A Jetson's mode, a GPU's power limit, or a laptop's profile."""
    if machine.is_tegra:
        return power.mode.name or str(power.mode)
    limit = query_gpu(run, "power.limit") if machine.gpus else None
    watts = number(limit[0]) if limit else None
    if watts is not None:
        return f"GPU limit {watts:.0f} W"
    return read_text(root / "sys/firmware/acpi/platform_profile")


def _load(root: Path) -> list[float]:
    words = read_text(root / "proc/loadavg").split()
    return [load for load in map(float, words[:3]) if math.isfinite(load)]


def _versions(backend: Backend | None) -> dict[str, str]:
    versions = {"evit": __version__, "python": platform.python_version()}
    wanted = [("numpy",)] if backend is None else [("numpy",), _RUNTIMES[backend]]
    for names in wanted:
        for name in names:
            with suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
                break
    return versions
