"""Checks of the machine: interpreter, processor, memory, disk, GPU and device profile."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from evit_cli import __version__
from evit_cli.config.checks.result import Check, Level, Surroundings, missing, ok, problem
from evit_cli.config.machine import read_text, run_tool
from evit_cli.errors import EvitError

_GIB = 1 << 30
_LOW_DISK_GIB = 1.0
_LOW_MEMORY_GIB = 1.0
_PYTHON_AT_LEAST = (3, 10)


def check_python() -> Check:
    """The interpreter that runs evit."""
    version = platform.python_version()
    detail = f"{version} ({platform.python_implementation()}) at {sys.executable}"
    if sys.version_info[:2] < _PYTHON_AT_LEAST:
        return problem(
            "python", f"{detail}; evit needs 3.10", "use python3.10 or later", level=Level.REQUIRED
        )
    return ok("python", detail, level=Level.REQUIRED)


def check_evit() -> Check:
    """Evit itself."""
    return ok("evit", __version__, level=Level.REQUIRED)


def check_os(around: Surroundings) -> Check:
    """Operating system and architecture."""
    pretty = re.search(
        r'^PRETTY_NAME="?([^"\n]+)', read_text(around.root / "etc/os-release"), re.MULTILINE
    )
    name = pretty[1] if pretty else platform.system()
    return ok("system", f"{name}, {platform.system()} {platform.release()} {platform.machine()}")


def check_cpu(around: Surroundings) -> Check:
    """Processor, and how many of its cores this process may use."""
    total = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total
    cores = f"{allowed} cores" if allowed == total else f"{allowed} of {total} cores (affinity)"
    quota = _cgroup_cpus(around.root)
    if quota is not None and quota < allowed:
        cores += f", a cgroup allows {quota:g}"
    return ok("cpu", f"{_cpu_name(around)}, {cores}")


def _cpu_name(around: Surroundings) -> str:
    info = read_text(around.root / "proc/cpuinfo")
    for key in ("model name", "Hardware", "Model"):
        found = re.search(rf"^{key}\s*:\s*(.+)$", info, re.MULTILINE)
        if found:
            return found[1].strip()
    board = around.machine.device_tree_model
    return board or platform.processor() or around.machine.machine


def _cgroup_cpus(root: Path) -> float | None:
    """CPUs that the cgroup's quota amounts to, None when there is no quota."""
    quota, _, period = read_text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota = read_text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = read_text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:
        return None
    return int(quota) / int(period)


def check_memory(around: Surroundings) -> Check:
    """Main memory, and how much of it is free."""
    info = read_text(around.root / "proc/meminfo")
    available = re.search(r"^MemAvailable:\s*(\d+) kB", info, re.MULTILINE)
    total_gib = around.machine.memory_gib
    if total_gib is None or available is None:
        return ok("memory", "unknown on this system")
    free_gib = int(available[1]) / (1 << 20)
    detail = f"{total_gib:.1f} GiB, {free_gib:.1f} GiB free"
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = read_text(around.root / name)
        if limit.isdigit() and int(limit) / _GIB < total_gib:
            detail += f", a cgroup allows {int(limit) / _GIB:.1f} GiB"
            free_gib = min(free_gib, int(limit) / _GIB)
            break
    if free_gib < _LOW_MEMORY_GIB:
        return problem("memory", detail, "close other programs, or use a smaller --size")
    return ok("memory", detail)


def check_disk(around: Surroundings) -> list[Check]:
    """Free space where outputs and weights are written."""
    # Under the hub cache's nearest existing parent: the cache appears with its first file.
    cache = next(p for p in (around.hub.cache, *around.hub.cache.parents) if p.exists())
    places = {"disk (here)": (around.cwd, "free some space, or write elsewhere with --out")}
    places["disk (hub cache)"] = (cache, "free some space, or set HF_HOME to another disk")
    found = []
    for name, (path, mend) in places.items():
        free_gib = shutil.disk_usage(path).free / _GIB
        detail = f"{free_gib:.1f} GiB free at {path.resolve()}"
        if not os.access(path, os.W_OK):
            found.append(problem(name, f"{detail}, but it cannot be written", mend))
        elif free_gib < _LOW_DISK_GIB:
            found.append(problem(name, detail, mend))
        else:
            found.append(ok(name, detail))
    return found


def check_gpu(around: Surroundings) -> list[Check]:
    """CUDA GPUs, by nvidia-smi or by what the driver lists."""
    found = []
    gpus = around.machine.gpus
    for index, gpu in enumerate(gpus):
        name = f"gpu {index}" if len(gpus) > 1 else "gpu"
        memory = f", {gpu.memory_mib / 1024:.0f} GiB" if gpu.memory_mib else ""
        driver = f", driver {gpu.driver}" if gpu.driver else ""
        found.append(ok(name, f"{gpu.name}{memory}{driver}"))
    if found:
        return found
    if around.machine.is_tegra:
        return [ok("gpu", f"the GPU of {around.machine.device_tree_model or 'a Jetson'}")]
    if shutil.which("nvidia-smi") and not run_tool(("nvidia-smi", "-L")):
        return [
            problem(
                "gpu",
                "nvidia-smi is here but finds no working driver",
                "sudo ubuntu-drivers install && sudo reboot",
            )
        ]
    return [missing("gpu", "no NVIDIA GPU; evit uses the processor")]


def check_profile(around: Surroundings) -> Check:
    """The device profile that `--device auto` means here."""
    # Imported here: without pydantic this check alone shall fail, not the doctor.
    from evit_cli.config.device import detect_profile

    try:
        found = detect_profile(machine=around.machine)
    except EvitError as error:
        return problem("device profile", error.message, "evit devices ls")
    return ok("device profile", f"{found.profile.name}, because {found.reason}")


def check_data() -> Check:
    """The profiles and recipes that come with evit."""
    from evit_cli.config.device import list_profiles

    try:
        count = len(list_profiles())
    except EvitError as error:
        return problem("shipped data", error.message, error.hint, level=Level.REQUIRED)
    return ok("shipped data", f"{count} device profiles", level=Level.REQUIRED)
