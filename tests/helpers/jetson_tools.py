"""Stand-ins of NVIDIA's board tools: executables that print in the formats of recorded output.

The shapes are those seen in public recordings of JetPack 4.6 (Nano), 5.1 (AGX Orin, Xavier NX) and
6.2 (AGX Orin, Orin Nano), as root and as a user; the numbers are our own.
"""

from __future__ import annotations

import shlex
from pathlib import Path

_CORE = "cpu{n}:  Online=1 Governor=schedutil MinFreq={low} MaxFreq={high} CurrentFreq={high} "
_CORE += "IdleStates: WFI=1 c7=1 "

NANO_STATS = (
    "RAM 1402/3956MB (lfb 3x4MB) SWAP 12/1978MB (cached 1MB) IRAM 0/252kB(lfb 252kB) "
    "CPU [11%@1479,9%@1479,off,off] EMC_FREQ 4%@1600 GR3D_FREQ 37%@921 APE 25 PLL@31C CPU@34.5C "
    "PMIC@100C GPU@32C AO@39.5C thermal@33.25C POM_5V_IN 2911/2864 POM_5V_GPU 205/188 "
    "POM_5V_CPU 569/541"
)
ORIN_STATS_5 = (
    "03-02-2024 10:00:01 RAM 2211/62795MB (lfb 9152x4MB) SWAP 0/31398MB (cached 0MB) "
    "CPU [2%@729,0%@729,1%@729,0%@729,off,off,off,off,off,off,off,off] EMC_FREQ 1%@2133 "
    "GR3D_FREQ 12%@305 GR3D2_FREQ 12%@305 VIC_FREQ 729 APE 174 CV0@-256C CPU@43.5C Tboard@33C "
    "SOC2@40C GPU@-256C tj@43.75C VDD_GPU_SOC 2410mW/2400mW VDD_CPU_CV 405mW/400mW "
    "VIN_SYS_5V0 4033mW/4032mW NC 0mW/0mW VDDQ_VDD2_1V8AO 302mW/301mW NC 0mW/0mW"
)
XAVIER_STATS = (
    "RAM 2702/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU [3%@1904,7%@1906,off,off] "
    "EMC_FREQ 5%@1600 GR3D_FREQ 8%@[510] VIC_FREQ 601 APE 150 AUX@39C CPU@40.5C AO@37.5C GPU@37.5C "
    "PMIC@50C VDD_IN 5102mW/5079mW VDD_CPU_GPU_CV 701mW/696mW VDD_SOC 1104mW/1104mW"
)
ORIN_STATS_6 = (
    "03-02-2026 11:00:01 RAM 5140/62841MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) "
    "CPU [1%@729,25%@729,1%@729,1%@729] EMC_FREQ 3%@3199 GR3D_FREQ 64%@[1300,1300] NVENC 79%@166 "
    "NVDEC off VIC 36%@115 APE 174 cpu@52.875C soc2@48.656C tj@53.125C "
    "VDD_GPU_SOC 3181mW/3178mW VDD_CPU_CV 795mW/794mW VIN_SYS_5V0 4544mW/4543mW"
)
ORIN_NANO_STATS_6_USER = (
    "03-02-2026 12:00:01 RAM 3165/7620MB (lfb 8x4MB) SWAP 0/3810MB (cached 0MB) "
    "CPU [1%@1510,0%@1510,0%@729,0%@729,0%@729,0%@729] GR3D_FREQ 0% cpu@50.031C soc0@48.5C "
    "tj@50.25C VDD_IN 4953mW/4952mW VDD_CPU_GPU_CV 1014mW/1013mW VDD_SOC 1545mW/1544mW"
)
CONF = """< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
{modes}
CPU_ONLINE CORE_0 1
"""
DENIED = "NVPM ERROR: Error opening /sys/kernel/nvpmodel_clk_cap/emc: 13"


def conf(*names: str) -> str:
    """/etc/nvpmodel.conf with these modes, numbered from 0."""
    modes = "\n".join(f"< POWER_MODEL ID={n} NAME={name} >" for n, name in enumerate(names))
    return CONF.format(modes=modes)


def clocks(*, low: int, high: int, gpu_low: int, gpu_high: int, memory: int, override: int) -> str:
    """`jetson_clocks --show`; CPU rates in kHz, the others in Hz."""
    cores = "\n".join(_CORE.format(n=n, low=low, high=high) for n in range(4))
    return (
        f"SOC family:tegra234  Machine:Jetson\nOnline CPUs: 0-3\n{cores}\n"
        f"GPU MinFreq={gpu_low} MaxFreq={gpu_high} CurrentFreq={gpu_low}\nActive GPU TPCs: 8\n"
        f"EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq={memory} FreqOverride={override}\n"
        "FAN Dynamic Speed Control=nvfancontrol hwmon0_pwm1=69\nNV Power Mode: MAXN\n"
    )


PINNED = clocks(
    low=2201600, high=2201600, gpu_low=1300500000, gpu_high=1300500000,
    memory=3199000000, override=1,
)  # fmt: skip
MOVING = clocks(
    low=729600, high=2201600, gpu_low=306000000, gpu_high=1300500000,
    memory=2133000000, override=0,
)  # fmt: skip


def says(text: str, *, code: int = 0) -> str:
    """The body of a tool that prints and ends."""
    return f"printf '%s\\n' {shlex.quote(text)}\nexit {code}"


def for_ever(line: str) -> str:
    """The body of `tegrastats`: the line again and again, at the interval that was asked for."""
    return (
        f'[ "$1" = --interval ] || exit 2\n'
        f"while :; do sleep 0.1; printf '%s\\n' {shlex.quote(line)}; done"
    )


HANGS = "echo starting\nsleep 600 & wait"
"""Prints something that is of no use, and hangs together with a child of its own."""


def install(folder: Path, **bodies: str) -> Path:
    """Write executables, a shell script each, into a folder for PATH."""
    folder.mkdir(exist_ok=True)
    for name, body in bodies.items():
        path = folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    return folder
