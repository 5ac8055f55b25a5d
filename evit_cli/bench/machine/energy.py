"""Energy counters of processors, boards and GPUs.

Read the joules as those of the whole package, module or card, with what it draws when idle.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from evit_cli.bench.machine.energy_meter import EnergySum, PowerSum
from evit_cli.bench.machine.nvidia import gpu_index, power_w
from evit_cli.bench.machine.sysfs import find, hwmon, read_number
from evit_cli.config.machine import Runner, read_text, run_tool

_INA_EVERY_S = 0.1
_SMI_EVERY_S = 0.5
# Rails through which all power of a Jetson module comes; with one of them nothing needs adding.
_INPUT_RAILS = ("VDD_IN", "VIN", "POM_5V_IN", "5V_IN")
# Measured at 5 V on the AGX Orin, behind VIN_SYS_5V0, which holds it already.
_INNER_RAILS = ("VDDQ_VDD2_1V8AO",)


class EnergyCounter(Protocol):
    """Counts energy from `start` to `stop`; it can be used again.

    Attributes:
        name: "rapl" (processor package), "ina" (Jetson module) or "nvml" (NVIDIA GPU).
    """

    name: str

    def start(self) -> None:
        """Begin to count."""

    def stop(self) -> float | None:
        """End, and say how many joules it was; None if the counter stopped answering."""


def open_energy_counter(
    *, root: Path = Path("/"), run: Runner = run_tool, on_gpu: bool = False
) -> EnergyCounter | None:
    """The counter that covers what does the work; None if there is none, or it may not be read.

    Args:
        root: where the file tree starts.
        run: runs a tool.
        on_gpu: whether an NVIDIA GPU does the work; a Jetson counts CPU and GPU together.
    """
    board = _ina(root)
    if board is not None:
        return board
    return _nvidia(root, run) if on_gpu else _rapl(root)


def why_no_energy(*, root: Path = Path("/"), run: Runner = run_tool, on_gpu: bool = False) -> str:
    """One sentence on why `open_energy_counter` gives nothing, and the mend if there is one."""
    if open_energy_counter(root=root, run=run, on_gpu=on_gpu) is not None:
        return ""
    if on_gpu:
        return "the GPU's driver does not tell its power"
    if _packages(root):
        return (
            "RAPL is readable by root only: "
            "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"
        )
    return "no energy counter was found (RAPL, INA3221)"


def _packages(root: Path) -> list[Path]:
    """RAPL domains of whole packages; psys, the memory-mapped copy and parts of a package not."""
    folders = find(root / "sys/class/powercap", "intel-rapl:*")
    return [folder for folder in folders if read_text(folder / "name").startswith("package")]


def _rapl(root: Path) -> EnergySum | None:
    packages = _packages(root)
    ranges = [read_number(folder / "max_energy_range_uj") or 0 for folder in packages]

    def read() -> list[int] | None:
        counts = [read_number(folder / "energy_uj") for folder in packages]
        return [count for count in counts if count is not None]

    if not packages or len(read() or ()) != len(packages):
        return None
    return EnergySum("rapl", read, ranges=ranges, unit_j=1e-6)


def _ina(root: Path) -> PowerSum | None:
    """Rails of the INA3221 sensors of a Jetson (JetPack 5 and 6): millivolts times milliamperes."""
    rails: dict[str, tuple[Path, Path]] = {}
    for name, folder in hwmon(root):
        if name != "ina3221":
            continue
        for label in find(folder, "in[123]_label"):
            channel = label.name[2]
            rail = read_text(label)
            volts, amperes = folder / f"in{channel}_input", folder / f"curr{channel}_input"
            if rail not in ("", "NC") and _product_w(volts, amperes) is not None:
                rails[rail] = (volts, amperes)
    whole = [rail for rail in _INPUT_RAILS if rail in rails][:1]
    chosen = [rails[rail] for rail in whole or rails if rail not in _INNER_RAILS]
    if not chosen:
        return None

    def read_w() -> float | None:
        watts = [_product_w(*rail) for rail in chosen]
        return None if None in watts else sum(w for w in watts if w is not None)

    return PowerSum("ina", read_w, every_s=_INA_EVERY_S)


def _product_w(millivolts: Path, milliamperes: Path) -> float | None:
    voltage, current = read_number(millivolts), read_number(milliamperes)
    return None if voltage is None or current is None else voltage * current / 1e6


def _nvidia(root: Path, run: Runner) -> EnergyCounter | None:
    if root == Path("/") and run is run_tool:
        counter = _nvml_energy()
        if counter is not None:
            return EnergySum("nvml", counter, ranges=(0,), unit_j=1e-3)
    if power_w(run) is None:
        return None
    return PowerSum("nvml", lambda: power_w(run), every_s=_SMI_EVERY_S)


def _nvml_energy() -> Callable[[], Sequence[int] | None] | None:
    """The GPU's own counter in millijoules (Volta and newer), where pynvml is installed."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    index = gpu_index()
    try:
        nvml.nvmlInit()
        if re.fullmatch(r"\d+", index):
            gpu = nvml.nvmlDeviceGetHandleByIndex(int(index))
        else:
            gpu = nvml.nvmlDeviceGetHandleByUUID(os.fsencode(index))
        nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    except nvml.NVMLError:
        return None

    def read() -> Sequence[int] | None:
        try:
            return (int(nvml.nvmlDeviceGetTotalEnergyConsumption(gpu)),)
        except nvml.NVMLError:
            return None

    return read
