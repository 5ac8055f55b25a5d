"""What this machine is, read from the files and tools that say so. Nothing here raises.

Every path is below `root` and every tool goes through `run`, so a test can show it any board.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

Runner = Callable[[Sequence[str]], str]

_TOOL_TIMEOUT_S = 5.0
_GPU_QUERY = ("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader")


@dataclass(frozen=True)
class Gpu:
    """A CUDA GPU: its name, and driver and memory where known (empty, None where not)."""

    name: str
    driver: str = ""
    memory_mib: int | None = None


@dataclass(frozen=True)
class Machine:
    """The facts by which a profile recognises a machine; empty where unknown.

    Attributes:
        machine: processor architecture as the system names it (x86_64, aarch64).
        device_tree_model: board name, e.g. "NVIDIA Jetson AGX Orin Developer Kit".
        device_tree_compatible: board and chip codes, comma and space separated.
        l4t_release: NVIDIA's Linux for Tegra, major release.
        l4t_board: its BOARD field.
        gpus: CUDA GPUs.
        android_soc: chip code of an Android phone, e.g. "SM8450 taro".
        memory_gib: main memory.
    """

    machine: str
    device_tree_model: str = ""
    device_tree_compatible: str = ""
    l4t_release: int | None = None
    l4t_board: str = ""
    gpus: tuple[Gpu, ...] = ()
    android_soc: str = ""
    memory_gib: float | None = None

    @property
    def is_tegra(self) -> bool:
        """Whether this is an NVIDIA Jetson, whichever."""
        return self.l4t_release is not None or "nvidia,tegra" in self.device_tree_compatible

    def __str__(self) -> str:
        parts = [self.device_tree_model, self.android_soc, *(gpu.name for gpu in self.gpus)]
        return ", ".join([self.machine, *(part for part in parts if part)])


def run_tool(command: Sequence[str]) -> str:
    """Standard output of a small tool, "" when it is absent, fails or hangs."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TOOL_TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def read_text(path: Path) -> str:
    """A small system file, NUL bytes as spaces, "" when it cannot be read."""
    try:
        text = path.read_bytes()[:65536].decode("utf-8", errors="replace")
    except OSError:
        return ""
    return text.replace("\0", " ").strip()


def read_machine(
    root: Path = Path("/"), run: Runner = run_tool, *, machine: str | None = None
) -> Machine:
    """Read what this machine is.

    Args:
        root: where the file tree starts; a test gives a fake one.
        run: runs a tool and returns its standard output, "" on any failure.
        machine: processor architecture, if not this one's.
    """
    release, board = _l4t(read_text(root / "etc/nv_tegra_release"))
    return Machine(
        machine=machine or platform.machine(),
        device_tree_model=read_text(root / "proc/device-tree/model"),
        device_tree_compatible=read_text(root / "proc/device-tree/compatible"),
        l4t_release=release,
        l4t_board=board,
        gpus=_gpus(root, run),
        android_soc=_android_soc(root, run),
        memory_gib=_memory_gib(read_text(root / "proc/meminfo")),
    )


def _l4t(text: str) -> tuple[int | None, str]:
    """(35, "t186ref") from "# R35 (release), REVISION: 4.1, GCID: ..., BOARD: t186ref, ..."."""
    release = re.search(r"R(\d+)\s*\(release\)", text)
    board = re.search(r"BOARD:\s*([^,\s]+)", text)
    return (int(release[1]) if release else None), (board[1] if board else "")


def _gpus(root: Path, run: Runner) -> tuple[Gpu, ...]:
    found = []
    for line in run(_GPU_QUERY).splitlines():
        name, *rest = (part.strip() for part in line.split(","))
        if not name:
            continue
        driver = rest[0] if rest else ""
        # A Jetson answers "[N/A]" or "Not Supported": its GPU has no memory of its own.
        size = re.match(r"(\d+) MiB", rest[1]) if len(rest) > 1 else None
        found.append(Gpu(name, driver, int(size[1]) if size else None))
    if found:
        return tuple(found)
    # In a container without nvidia-smi the driver still lists its GPUs here.
    for path in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        model = re.search(r"^Model:\s*(.+?)\s*$", read_text(path), re.MULTILINE)
        if model:
            found.append(Gpu(model[1]))
    return tuple(found)


def _android_soc(root: Path, run: Runner) -> str:
    """Chip codes of an Android phone; asked only there, since elsewhere getprop means nothing."""
    # os.path, because Path.exists raises where a folder above may not be searched.
    if not os.path.exists(root / "system/build.prop"):
        return ""
    names = ("ro.soc.model", "ro.board.platform")
    return " ".join(value for name in names if (value := run(("getprop", name)).strip()))


def _memory_gib(meminfo: str) -> float | None:
    total = re.search(r"^MemTotal:\s*(\d+) kB", meminfo, re.MULTILINE)
    return int(total[1]) / (1 << 20) if total else None
