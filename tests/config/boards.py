"""Fake file trees and tools of machines, as they answer on the real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evit_cli.config.machine import Machine, read_machine

_L4T = "# R{release} (release), REVISION: {revision}, GCID: 1, BOARD: {board}, EABI: aarch64\n"


@dataclass(frozen=True)
class Board:
    """What a machine shows: its architecture, files below its root, and answers of its tools."""

    machine: str
    files: dict[str, str] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)

    def tree(self, root: Path) -> Path:
        """Write the files below `root`."""
        for name, text in self.files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    @property
    def run(self) -> Callable[[Sequence[str]], str]:
        """Answers tools by the start of their command line."""

        def run(command: Sequence[str]) -> str:
            line = " ".join(command)
            return next((out for start, out in self.tools.items() if line.startswith(start)), "")

        return run

    def read(self, root: Path) -> Machine:
        """The facts evit reads of it."""
        return read_machine(self.tree(root), self.run, machine=self.machine)


def _meminfo(gib: float) -> str:
    kib = int(gib * (1 << 20))
    return f"MemTotal:       {kib} kB\nMemFree: 1 kB\nMemAvailable:   {kib // 2} kB\n"


def _jetson(model: str, compatible: str, l4t: tuple[int, str, str], *, gib: float) -> Board:
    release, revision, board = l4t
    return Board(
        "aarch64",
        {
            "proc/device-tree/model": model + "\0",
            "proc/device-tree/compatible": compatible.replace(" ", "\0") + "\0",
            "etc/nv_tegra_release": _L4T.format(release=release, revision=revision, board=board),
            "proc/meminfo": _meminfo(gib),
        },
    )


AGX_ORIN = _jetson(
    "NVIDIA Jetson AGX Orin Developer Kit",
    "nvidia,p3737-0000+p3701-0005 nvidia,tegra234",
    (36, "4.3", "generic"),
    gib=61.4,
)
ORIN_NANO = _jetson(
    "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
    "nvidia,p3768-0000+p3767-0005-super nvidia,tegra234",
    (36, "4.7", "generic"),
    gib=7.4,
)
ORIN_NX = _jetson(
    "NVIDIA Jetson Orin NX Engineering Reference Developer Kit",
    "nvidia,p3768-0000+p3767-0000 nvidia,tegra234",
    (36, "4.3", "generic"),
    gib=15.3,
)
XAVIER_NX = _jetson(
    "NVIDIA Jetson Xavier NX Developer Kit",
    "nvidia,p3509-0000+p3668-0000 nvidia,tegra194",
    (35, "5.0", "t186ref"),
    gib=6.7,
)
NANO = _jetson(
    "NVIDIA Jetson Nano Developer Kit",
    "nvidia,p3450-0000 nvidia,jetson-nano nvidia,tegra210",
    (32, "7.1", "t210ref"),
    gib=3.9,
)
# Docker masks the device tree; NVIDIA's container runtime mounts the release file.
AGX_ORIN_CONTAINER = Board(
    "aarch64",
    {
        "etc/nv_tegra_release": _L4T.format(release=36, revision="4.3", board="generic"),
        "proc/meminfo": _meminfo(61.4),
    },
    {"nvidia-smi --query-gpu": "Orin (nvgpu), 540.4.0, [N/A]\n"},
)
A_SMALL_ORIN_CONTAINER = Board(
    "aarch64",
    {
        "etc/nv_tegra_release": _L4T.format(release=36, revision="4.3", board="generic"),
        "proc/meminfo": _meminfo(7.4),
    },
)
NANO_CONTAINER = Board(
    "aarch64",
    {"etc/nv_tegra_release": _L4T.format(release=32, revision="7.1", board="t210ref")},
)
THOR = Board(
    "aarch64",
    {
        "etc/nv_tegra_release": _L4T.format(release=39, revision="2.0", board="generic"),
        "proc/meminfo": _meminfo(122),
    },
    {"nvidia-smi --query-gpu": "NVIDIA Thor, 580.00, [N/A]\n"},
)
A100 = Board(
    "x86_64",
    {"proc/meminfo": _meminfo(1007)},
    {"nvidia-smi --query-gpu": "NVIDIA A100-SXM4-40GB, 535.161.08, 40960 MiB\n" * 2},
)
A100_WITHOUT_SMI = Board(
    "x86_64",
    {"proc/driver/nvidia/gpus/0000:07:00.0/information": "Model: \t\t NVIDIA A100-PCIE-40GB\n"},
)
RTX = Board("x86_64", {}, {"nvidia-smi --query-gpu": "NVIDIA GeForce RTX 4090, 550, 24564 MiB\n"})


def phone(model: str, platform: str) -> Board:
    """An Android phone."""
    return Board(
        "aarch64",
        {"system/build.prop": "", "proc/meminfo": _meminfo(11)},
        {"getprop ro.soc.model": model + "\n", "getprop ro.board.platform": platform + "\n"},
    )


RASPBERRY = Board(
    "aarch64",
    {
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "proc/device-tree/compatible": "raspberrypi,5-model-b\0brcm,bcm2712\0",
        "proc/meminfo": _meminfo(7.9),
    },
)
DESKTOP = Board("x86_64", {"proc/meminfo": _meminfo(31)})
MAC = Board("arm64")
RISCV = Board("riscv64")
