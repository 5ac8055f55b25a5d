"""A Jetson's power mode, clocks and load, as NVIDIA's own tools tell them. Nothing here raises.

The tools' words were taken from recordings of JetPack 4, 5 and 6; none was run on hardware by us.
Without root `nvpmodel` tells the mode and complains afterwards, `tegrastats` leaves out the rate
of the memory, and `jetson_clocks` may tell nothing.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from evit_cli.config.machine import Runner, read_text, run_tool

MODE, CLOCKS, STATS = ("nvpmodel", "-q"), ("jetson_clocks", "--show"), ("tegrastats",)
ABSENT = "not installed"
REFUSED = "it needs root"
_INTERVAL_MS = "100"
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Answer:
    """What a tool said on both streams, and why it said no more ("" if nothing is amiss)."""

    text: str = ""
    failed: str = ""


class Ask(Protocol):
    """Runs a tool."""

    def __call__(self, command: Sequence[str], *, until: str = "") -> Answer:
        """Ask; with `until`, the tool is stopped at the first line that has this in it."""


def ask_tool(command: Sequence[str], *, until: str = "", timeout_s: float = _TIMEOUT_S) -> Answer:
    """Run a tool that may be absent, refuse, hang, or never end.

    Args:
        command: the tool and its arguments.
        until: stop it at the first line with this in it; "" waits for its end.
        timeout_s: after this it is killed, with all that it started.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        return Answer(failed=ABSENT)
    except OSError as error:
        return Answer(failed=(error.strerror or str(error)).lower())
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(timeout_s, give_up)
    lines, found = [], False
    with process:
        timer.start()
        for line in process.stdout or ():
            lines.append(line)
            found = bool(until) and until in line
            if found:
                break
        timer.cancel()
        if found:
            _kill(process)  # tegrastats goes on for ever
    if late.is_set():
        return Answer("".join(lines), f"no answer after {timeout_s:g} s")
    return Answer("".join(lines), "" if found else _why(process.returncode, lines))


def _kill(process: subprocess.Popen[str]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)


def _why(code: int, lines: Sequence[str]) -> str:
    """Why a tool that ended by itself is not content."""
    if re.search(r"permission denied|root|sudo|Error opening .*: 13\b", "".join(lines), re.I):
        return REFUSED
    said = [line.strip() for line in lines if line.strip()]
    return (said[-1] if said else f"exit code {code}") if code else ""


def asking(run: Runner) -> Ask:
    """The same for a runner; the usual one is replaced by `ask_tool`, which knows more."""
    if run is run_tool:
        return ask_tool

    def ask(command: Sequence[str], *, until: str = "") -> Answer:
        return Answer(run(command))

    return ask


@dataclass(frozen=True)
class PowerMode:
    """A mode of `nvpmodel`: its name, and its number for `nvpmodel -m`."""

    name: str = ""
    number: int | None = None

    def __str__(self) -> str:
        number = "" if self.number is None else f"mode {self.number}"
        return f"{self.name} ({number})" if self.name and number else self.name or number


@dataclass(frozen=True)
class BoardState:
    """One line of `tegrastats`; None and empty where it does not say.

    Attributes:
        ram_mb: main memory in use, MB.
        ram_total_mb: main memory, MB.
        gpu_percent: load of the GPU.
        memory_percent: load of the memory controller.
        memory_mhz: its rate; told to root only on some releases.
        power_mw: rail to milliwatts, in the line's order.
        temperatures_c: zone to degrees Celsius, without those that are asleep.
    """

    ram_mb: int | None = None
    ram_total_mb: int | None = None
    gpu_percent: int | None = None
    memory_percent: int | None = None
    memory_mhz: int | None = None
    power_mw: dict[str, int] = field(default_factory=dict)
    temperatures_c: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class JetsonPower:
    """What NVIDIA's tools say of a board.

    Attributes:
        mode: the power mode now.
        fastest: the mode without a limit (MAXN), if the board has one.
        pinned: whether CPU, GPU and memory are held at one rate, as after `jetson_clocks`.
        memory_mhz: rate of the memory.
        state: load, power and heat.
        failed: tool to why it did not answer.
    """

    mode: PowerMode = PowerMode()
    fastest: PowerMode = PowerMode()
    pinned: bool | None = None
    memory_mhz: int | None = None
    state: BoardState = BoardState()
    failed: dict[str, str] = field(default_factory=dict)


def read_power(root: Path = Path("/"), ask: Ask = ask_tool) -> JetsonPower:
    """Ask all three tools.

    Args:
        root: where the file tree starts; a test gives a fake one.
        ask: runs a tool.
    """
    said = {command[0]: ask(command) for command in (MODE, CLOCKS)}
    said[STATS[0]] = ask((*STATS, "--interval", _INTERVAL_MS), until="RAM ")
    mode = _mode(root, said[MODE[0]].text)
    pinned, memory_mhz = parse_clocks(said[CLOCKS[0]].text)
    state = parse_tegrastats(said[STATS[0]].text)
    answered = {
        MODE[0]: bool(mode.name),
        CLOCKS[0]: pinned is not None,
        STATS[0]: state != BoardState(),
    }
    return JetsonPower(
        mode=mode,
        fastest=_fastest(read_text(root / "etc/nvpmodel.conf")),
        pinned=pinned,
        memory_mhz=memory_mhz or state.memory_mhz,
        state=state,
        failed={
            tool: answer.failed or "it says nothing that is understood"
            for tool, answer in said.items()
            if not answered[tool]
        },
    )


def _mode(root: Path, text: str) -> PowerMode:
    """From "NV Power Mode: MAXN" and the number below it.

    A container has not the tool, but may see its files.
    """
    named = re.search(r"NV Power Mode:[ \t]*(\S.*?)[ \t]*$(?:\s*^([0-9]+)\s*$)?", text, re.M)
    if named:
        return PowerMode(named[1], int(named[2]) if named[2] else None)
    kept = re.search(r"pmode:([0-9]+)", read_text(root / "var/lib/nvpmodel/status"))
    if not kept:
        return PowerMode()
    number = int(kept[1])
    return PowerMode(_modes(read_text(root / "etc/nvpmodel.conf")).get(number, ""), number)


def _modes(conf: str) -> dict[int, str]:
    """Number to name from lines "< POWER_MODEL ID=0 NAME=MAXN >"."""
    found = re.findall(r"<\s*POWER_MODEL\s+ID=([0-9]+)\s+NAME=([^\s>]+)", conf)
    return {int(number): name for number, name in found}


def _fastest(conf: str) -> PowerMode:
    """MAXN, or MAXN_SUPER where there is that too."""
    unlimited = [(name, n) for n, name in _modes(conf).items() if name.startswith("MAXN")]
    return PowerMode(*max(unlimited)) if unlimited else PowerMode()


def parse_clocks(text: str) -> tuple[bool | None, int | None]:
    """Whether everything is pinned, and the memory's rate in MHz, from `jetson_clocks --show`.

    The memory's lowest rate stays where it is when it is pinned; FreqOverride says it instead.
    """
    core = r"^cpu[0-9]+:\s+Online=1 .*?MinFreq=([0-9]+) MaxFreq=([0-9]+)"
    ranges = re.findall(core, text, re.M)
    ranges += re.findall(r"^GPU MinFreq=([0-9]+) MaxFreq=([0-9]+)", text, re.M)
    memory = re.search(r"^EMC .*?CurrentFreq=([0-9]+)(?: FreqOverride=([01]))?", text, re.M)
    if not ranges:
        return None, None
    pinned = all(low == high for low, high in ranges)
    if memory is None:
        return pinned, None
    return pinned and memory[2] != "0", int(memory[1]) // 1_000_000


def parse_tegrastats(text: str) -> BoardState:
    """One line of `tegrastats`, from JetPack 4 to 6.

    Loads come with a rate, with one per cluster in brackets, or alone; rails without a unit on
    JetPack 4 (they are milliwatts too), and as "now/mean".
    """
    line = next((line for line in text.splitlines() if re.search(r"\bRAM [0-9]", line)), "")
    ram = re.search(r"\bRAM ([0-9]+)/([0-9]+)MB", line)
    gpu = re.search(r"\bGR3D_FREQ ([0-9]+)%", line)
    memory = re.search(r"\bEMC_FREQ ([0-9]+)%(?:@([0-9]+))?", line)
    rails = re.findall(r"\b([A-Z][A-Z0-9_]*) ([0-9]+)(?:mW)?/[0-9]+(?:mW)?(?=\s|$)", line)
    zones = re.findall(r"\b(\w+)@(-?[0-9]+(?:\.[0-9]+)?)C\b", line)
    return BoardState(
        ram_mb=int(ram[1]) if ram else None,
        ram_total_mb=int(ram[2]) if ram else None,
        gpu_percent=int(gpu[1]) if gpu else None,
        memory_percent=int(memory[1]) if memory else None,
        memory_mhz=int(memory[2]) if memory and memory[2] else None,
        # NC is a channel of the sensor that is connected to nothing.
        power_mw={name: int(value) for name, value in rails if name != "NC"},
        # A part that is switched off is told to be at -256 °C; PMIC is a constant 100 or 50.
        temperatures_c={n: float(c) for n, c in zones if float(c) > -100 and n != "PMIC"},
    )
