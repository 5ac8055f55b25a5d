"""What the processor is called, and what surrounds it: a virtual machine, a container."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

from evit_cli.bench.machine.cgroup import cpu_quota
from evit_cli.bench.machine.sysfs import find, hwmon, read_number, usable_cores
from evit_cli.config.machine import Runner, read_text

_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal")
_NO_PROCESSOR = ("iwlwifi", "INT3400")


def cpu_name(root: Path, run: Runner) -> str:
    """As "AMD EPYC", and on a board as "NAME OF THE BOARD (Cortex-A78AE)"; "" if unknown."""
    text = read_text(root / "proc/cpuinfo")
    # Of an old Arm kernel "Processor"; of a Mac nothing.
    named = re.search(r"^(?:model name|Processor)\s*:\s*(.+?)\s*$", text, re.MULTILINE)
    if named:
        model = named[1]
    else:
        said = re.findall(r"^Model name:\s*(.+?)\s*$", _lscpu(run), re.MULTILINE)
        parts = sorted(set(re.findall(r"^CPU part\s*:\s*(0x\w+)", text, re.MULTILINE)))
        model = ", ".join(dict.fromkeys(name for name in said if name != "-"))
        model = model or ", ".join(f"part {part}" for part in parts)
        model = model or run(("sysctl", "-n", "machdep.cpu.brand_string")).strip()
    board = read_text(root / "proc/device-tree/model")
    return f"{board} ({model})" if board and model else board or model


def core_count(root: Path) -> float | int:
    """Cores that may be used: by affinity and by the quota of a container."""
    cores: float = len(usable_cores())
    quota = cpu_quota(root)
    if quota is not None:
        cores = min(cores, quota)
    return int(cores) if cores == int(cores) else round(cores, 2)


def turbo(root: Path) -> bool | None:
    """Whether the processor may exceed its base clock, None where it is not told."""
    cpus = root / "sys/devices/system/cpu"
    off = read_number(cpus / "intel_pstate/no_turbo")
    if off is not None:
        return off == 0
    boost = read_number(cpus / "cpufreq/boost")
    return None if boost is None else boost == 1


def temperatures_c(root: Path) -> dict[str, float]:
    """Degrees Celsius by sensor; the hottest of several that share a name."""
    found: dict[str, float] = {}

    def note(name: str, thousandths: int | None) -> None:
        # Sensors that are switched off answer absurdities.
        if name and thousandths is not None and 0 < thousandths < 150_000:
            found[name] = max(found.get(name, 0.0), round(thousandths / 1e3, 1))

    for zone in find(root / "sys/class/thermal", "thermal_zone*"):
        kind = read_text(zone / "type")
        if not kind.startswith(_NO_PROCESSOR):
            note(kind, read_number(zone / "temp"))
    for chip, folder in hwmon(root):
        if chip in _SENSORS:
            for path in find(folder, "temp*_input"):
                note(chip, read_number(path))
    return found


def container(root: Path) -> str:
    """The kind of container: "docker", "podman", ...; "" outside of one."""
    named = read_text(root / "run/systemd/container")
    if named:
        return named.split()[0]
    for path, name in ((".dockerenv", "docker"), ("run/.containerenv", "podman")):
        if os.path.exists(root / path):
            return name
    group = read_text(root / "proc/1/cgroup") + read_text(root / "proc/self/cgroup")
    known = re.search(r"/(kubepods|docker|libpod|lxc)(?:/|-|\.slice|\.payload)", group)
    return {"kubepods": "kubernetes", "libpod": "podman"}.get(known[1], known[1]) if known else ""


def virtual_machine(root: Path, run: Runner) -> str:
    """What it runs under ("KVM", "VMware, Inc.", ...), "unknown" if only that, "" on bare metal."""
    said = re.search(r"^Hypervisor vendor:\s*(.+?)\s*$", _lscpu(run), re.MULTILINE)
    if said:
        return said[1]
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", read_text(root / "proc/cpuinfo"), re.MULTILINE)
    vendor = read_text(root / "sys/class/dmi/id/sys_vendor")
    if flags or vendor in ("QEMU", "Amazon EC2", "innotek GmbH", "VMware, Inc."):
        return vendor or read_text(root / "sys/hypervisor/type") or "unknown"
    return ""


def system(root: Path) -> str:
    """Operating system and kernel, without the machine's name."""
    release = read_text(root / "etc/os-release")
    pretty = re.search(r'^PRETTY_NAME="?(.*?)"?$', release, re.MULTILINE)
    kernel = read_text(root / "proc/sys/kernel/osrelease")
    if not kernel and root == Path("/"):
        kernel = f"{platform.system()} {platform.release()}"
    elif kernel:
        kernel = f"Linux {kernel}"
    return ", ".join(part for part in (pretty[1] if pretty else "", kernel) if part)


def _lscpu(run: Runner) -> str:
    return run(("env", "LC_ALL=C", "lscpu"))  # its words are translated otherwise
