"""What stands on a board in tests: programs that act as evit and trtexec, and files to measure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from pathlib import Path

from evit_cli.bench.remote.over_ssh import RemoteRequest, measure_over_ssh
from evit_cli.bench.row import Kind, Latency, Point, Row
from evit_cli.runtime.container import write_text
from evit_cli.runtime.description import Description, description_path, encode_description
from evit_cli.types import (
    Backend,
    ImageSize,
    ModelInfo,
    NoProgress,
    Precision,
    Preprocess,
    Task,
)
from tests.helpers.ssh_server import SshBoard
from tests.helpers.trtexec_texts import Said

SIZE, LARGE = ImageSize(64, 128), ImageSize(96, 160)
INFO = ModelInfo("tiny", Task.SEGMENT, Preprocess(SIZE), sha256="0" * 64)
PLAIN = RemoteRequest()
ROW = Row(
    Kind.MEASURED,
    Point("tiny", Task.SEGMENT, Backend.TFLITE, Precision.FP32, SIZE, weights="0" * 64),
    host=Latency(120, 1.0, 2.0, 3.0, 3.5, 4.0, 2.1, 0.01),
    environment={"cpu": "a small one"},
)


def artifact(
    folder: Path,
    suffix: str = ".tflite",
    *,
    profile: str = "",
    size: int = 4096,
    largest: ImageSize | None = None,
) -> Path:
    """A file that says what it is; nothing here runs it."""
    path = folder / f"model{suffix}"
    path.write_bytes(b"" if suffix == ".onnx" else b"\1" * size)
    own = Description(INFO, SIZE, Precision.FP16, profile=profile, largest_hw=largest)
    text = encode_description(own)
    if suffix in (".onnx", ".engine"):
        write_text(path, text)
    description_path(path).write_text(text)
    return path


def measure(
    board: SshBoard,
    path: Path,
    request: RemoteRequest = PLAIN,
    said: list[str] | None = None,
) -> list[Row]:
    told = [] if said is None else said
    return measure_over_ssh(board.target, path, request, notice=told.append, progress=NoProgress())


def evit_shim(board: SshBoard, bench: str, version: str = "evit 0.9.0") -> Path:
    """An evit whose `bench` is a few lines of shell."""
    return board.install(
        "evit", f'case $1 in --version) echo "{version}";;\nbench) shift\n{bench}\n;; esac\n'
    )


def printing(text: str, board: SshBoard, name: str) -> str:
    """A shell command that prints a text."""
    path = board.folder / name
    path.write_text(text)
    return f"cat {shlex.quote(str(path))}"


def trtexec_shim(
    board: SshBoard, version: str = "10.3.0", *, times: str = "", build: str = ""
) -> Path:
    """A trtexec that insists on its input file, keeps its command lines, and prints a log."""
    run = printing(Said(version).text(), board, "run.txt")
    built = build or printing(Said(version).text(), board, "build.txt")
    exported = printing(times, board, "times.txt") if times else ":"
    return board.install(
        "trtexec",
        f"""
echo "$@" >>{board.folder}/calls
engine= onnx= save= times=
for word; do case $word in
  --help) head -n 1 {board.folder}/run.txt; exit 0;;
  --onnx=*) onnx=${{word#*=}};; --loadEngine=*) engine=${{word#*=}};;
  --saveEngine=*) save=${{word#*=}};; --exportTimes=*) times=${{word#*=}};;
esac; done
if [ "$onnx" ]; then
  [ -f "$onnx" ] || exit 9
  {built} && [ -z "{"x" if build else ""}" ] && echo engine >"$save"
  exit
fi
wc -c <"$engine" >{board.folder}/engine_bytes || exit 8
{exported} >"$times"
{run}
""",
    )


def calls(board: SshBoard) -> list[list[str]]:
    path = board.folder / "calls"
    words = [line.split() for line in path.read_text().splitlines()]
    path.unlink()
    return [line for line in words if line != ["--help"]]


def lasting(board: SshBoard) -> tuple[Callable[[], int], Callable[[], list[int]]]:
    """An evit that never ends: (waits for it and gives its pid, those of its processes alive)."""
    pids = board.folder / "pids"
    pids.unlink(missing_ok=True)
    evit_shim(board, f"sleep 1000 & echo $$ >{pids}.part; echo $! >>{pids}.part\n"
              f"mv {pids}.part {pids}\nwait")  # fmt: skip

    def started() -> int:
        wait_until(pids.exists)
        return int(pids.read_text().split()[0])

    def alive() -> list[int]:
        return [pid for pid in map(int, pids.read_text().split()) if Path(f"/proc/{pid}").exists()]

    return started, alive


def wait_until(true: Callable[[], object], seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def sysroot(folder: Path, milli: dict[str, str], coolers: dict[str, str] | None = None) -> str:
    """A fake /sys with thermal zones and cooling devices."""
    base = folder / "root" / "sys" / "class" / "thermal"
    for index, (kind, value) in enumerate(milli.items()):
        zone = base / f"thermal_zone{index}"
        zone.mkdir(parents=True)
        (zone / "type").write_text(kind + "\n")
        (zone / "temp").write_text(value + "\n")
    for index, (kind, value) in enumerate((coolers or {}).items()):
        cooler = base / f"cooling_device{index}"
        cooler.mkdir(parents=True)
        (cooler / "type").write_text(kind + "\n")
        (cooler / "cur_state").write_text(value + "\n")
    return str(folder / "root")
