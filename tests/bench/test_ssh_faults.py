"""What goes wrong on the way to a board and on it: one sentence, and the board is left clean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from evit_cli.bench.remote.over_ssh import RemoteRequest, measure_over_ssh
from evit_cli.bench.row import encode_row
from evit_cli.errors import EvitError, MissingDependency
from evit_cli.types import (
    NoProgress,
)
from tests.helpers.boards import (
    ROW,
    artifact,
    calls,
    evit_shim,
    lasting,
    measure,
    printing,
    sysroot,
    trtexec_shim,
    wait_until,
)
from tests.helpers.ssh_server import SshBoard
from tests.helpers.trtexec_texts import Said

# What goes wrong: the connection.


@pytest.mark.parametrize(
    ("known", "key", "message", "mend"),
    [
        ("host", "other", "refused the key", "ssh-copy-id"),
        ("", "client", "host key of .* is not known", "ssh -p"),
        ("other", "client", "not the one it had before", "ssh-keygen -R"),
    ],
)
def test_keys(
    each_board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    known: str, key: str, message: str, mend: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("EVIT_SSH", each_board.client(known=known, key=key))
    with pytest.raises(EvitError, match=message) as caught:
        measure(each_board, artifact(tmp_path))
    assert mend in caught.value.hint and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("target", "message"),
    [("nobody.invalid", "there is no host"), ("127.0.0.1:1", "refuses ssh connections at port 1")],
)
def test_hosts(target: str, message: str, tmp_path: Path, board: SshBoard) -> None:
    with pytest.raises(EvitError, match=message):
        measure_over_ssh(
            target, artifact(tmp_path), RemoteRequest(), notice=print, progress=NoProgress()
        )


def test_no_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIT_SSH", "no-such-ssh")
    with pytest.raises(MissingDependency, match="there is no 'no-such-ssh'"):
        measure_over_ssh(
            "board", artifact(tmp_path), RemoteRequest(), notice=print, progress=NoProgress()
        )


def test_a_connection_lost_in_the_middle(each_board: SshBoard, tmp_path: Path) -> None:
    started, alive = lasting(each_board)
    said: list[str] = []

    def cut() -> None:
        with suppress(AssertionError):
            started()
        each_board.relay.cut()

    threading.Thread(target=cut, daemon=True).start()
    with pytest.raises(EvitError, match="lost in the middle"):
        measure(each_board, artifact(tmp_path), said=said)
    assert any("could not confirm" in words for words in said)
    wait_until(lambda: not each_board.left_behind() and not alive())


def test_a_connection_lost_while_copying(
    each_board: SshBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evit_shim(each_board, "exit 1")
    path = artifact(tmp_path, size=30 << 20)

    class Cutting(NoProgress):
        def advance(self, done: int, **fields: object) -> None:
            each_board.relay.cut()

    with pytest.raises(EvitError, match="lost in the middle"):
        measure_over_ssh(
            each_board.target, path, RemoteRequest(), notice=lambda _: None, progress=Cutting()
        )
    wait_until(lambda: not each_board.left_behind())


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(
            pytest.param(number, marks=pytest.mark.slow)
            for number in (signal.SIGTERM, signal.SIGKILL)
        ),
    ],
)
def test_a_run_that_is_interrupted_leaves_the_board_clean(
    each_board: SshBoard, tmp_path: Path, number: signal.Signals
) -> None:
    started, alive = lasting(each_board)
    path = artifact(tmp_path)
    script = (
        "import sys; from pathlib import Path\n"
        "from evit_cli.bench.remote.over_ssh import RemoteRequest, measure_over_ssh\n"
        "from evit_cli.types import NoProgress\n"
        "measure_over_ssh(sys.argv[1], Path(sys.argv[2]), RemoteRequest(),\n"
        "    notice=lambda words: print(words, flush=True), progress=NoProgress())\n"
    )
    words = [sys.executable, "-c", script, each_board.target, str(path)]
    with (
        tempfile.TemporaryDirectory() as here,  # what is killed leaves a folder
        subprocess.Popen(
            words,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": here},
        ) as process,
    ):
        started()
        process.send_signal(number)
        process.wait(20)
    assert process.returncode != 0
    if number is signal.SIGINT:  # it waits for the board to confirm
        assert each_board.left_behind() == []
    wait_until(lambda: not each_board.left_behind() and not alive())


# What goes wrong: the board.


def test_no_space_before(board: SshBoard, tmp_path: Path) -> None:
    board.install(
        "df",
        'echo "Filesystem 1024-blocks Used Available Capacity Mounted on"\n'
        'echo "/dev/mmcblk0p1 100000 99000 1000 99% /"\n',
    )
    with pytest.raises(EvitError, match=r"has 1\.0 MiB free in .*, and 32\.0 MiB are needed"):
        measure(board, artifact(tmp_path))


def test_no_space_in_the_middle(each_board: SshBoard, tmp_path: Path) -> None:
    evit_shim(each_board, "exit 1")
    each_board.install(
        "cat", 'head -c 100000; echo "cat: write error: No space left on device" >&2; exit 1'
    )
    with pytest.raises(EvitError, match="no space is left on"):
        measure(each_board, artifact(tmp_path, size=3 << 20))


@pytest.mark.parametrize("by", ["evit", "trtexec"])
def test_no_space_while_it_runs(board: SshBoard, tmp_path: Path, by: str) -> None:
    fails = 'echo "error: no space: [Errno 28] No space left on device" >&2; exit 1'
    if by == "evit":
        evit_shim(board, fails)
    else:
        trtexec_shim(board, build=fails)
    with pytest.raises(EvitError, match="no space is left on"):
        measure(board, artifact(tmp_path, ".onnx"))
    (board.folder / "calls").unlink(missing_ok=True)


def test_a_file_that_arrives_damaged(board: SshBoard, tmp_path: Path) -> None:
    evit_shim(board, "exit 1")
    board.install("cat", "tr 1 2 | tr '\\001' '\\002'")
    with pytest.raises(EvitError, match="arrived damaged"):
        measure(board, artifact(tmp_path))


def test_too_hot(board: SshBoard, tmp_path: Path) -> None:
    evit_shim(board, "exit 1")
    root = sysroot(tmp_path, {"CPU-therm": "41000", "GPU-therm": "91500", "PMIC-Die": "100000"})
    with pytest.raises(EvitError, match=r"too hot to measure: GPU-therm is at 92 °C, and 80 °C"):
        measure(board, artifact(tmp_path), RemoteRequest(sysroot=root))


def test_throttled_already(board: SshBoard, tmp_path: Path) -> None:
    evit_shim(board, "exit 1")
    coolers = {"pwm-fan": "3", "cpu-throttle-alert": "1", "intel_powerclamp": "-1"}
    root = sysroot(tmp_path, {"CPU-therm": "41000"}, coolers)
    with pytest.raises(
        EvitError, match=r"slows itself down already: cpu-throttle-alert is active$"
    ):
        measure(board, artifact(tmp_path), RemoteRequest(sysroot=root))


def test_getting_hot_meanwhile_taints(board: SshBoard, tmp_path: Path) -> None:
    root = sysroot(tmp_path, {"cpu-thermal": "41000"}, {"cpufreq-cpu0": "0"})
    thermal = Path(root) / "sys/class/thermal"
    rows = printing(encode_row(ROW), board, "rows")
    evit_shim(board, f"echo 95000 >{thermal}/thermal_zone0/temp\n"
              f"echo 2 >{thermal}/cooling_device0/cur_state\n{rows}")  # fmt: skip
    (row,) = measure(board, artifact(tmp_path), RemoteRequest(sysroot=root))
    assert row.tainted == (
        "the board slowed itself down: cpufreq-cpu0 is active",
        "cpu-thermal of the board came to 95 °C",
    )


def test_nothing_there_that_runs_it(board: SshBoard, tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"can run model\.tflite$") as caught:
        measure(board, artifact(tmp_path))
    assert 'pip install "evit-cli"' in caught.value.hint
    trtexec_shim(board)
    with pytest.raises(EvitError, match=r"trtexec is there, and takes no .tflite file"):
        measure(board, artifact(tmp_path))
    calls(board)


@pytest.mark.parametrize(
    "bench",
    [
        'echo \'{"format": 99, "kind": "measured"}\'',
        'echo \'{"format": 1, "kind": "measured"}\'',
        "printf 'Usage: evit [OPTIONS] COMMAND\\n| No such command '\"'bench'.\\n\" >&2; exit 2",
    ],
)
def test_another_evit(board: SshBoard, tmp_path: Path, bench: str) -> None:
    evit_shim(board, bench, "evit 0.1.0")
    with pytest.raises(EvitError, match=r"evit 0\.1\.0 on .* is another than this one") as caught:
        measure(board, artifact(tmp_path))
    assert "pip install --upgrade" in caught.value.hint


def test_evit_that_fails_says_why(board: SshBoard, tmp_path: Path) -> None:
    evit_shim(board, "printf 'error: it broke\\n  mend: glue\\n' >&2; exit 1")
    with pytest.raises(EvitError, match=r"measured nothing: it broke$"):
        measure(board, artifact(tmp_path))


def test_trtexec_that_fails_says_why(board: SshBoard, tmp_path: Path) -> None:
    errors = ("Error[10]: Could not find any implementation for node X.", "Engine set up failed")
    text = Said(passed=False, errors=errors).text()
    trtexec_shim(board, build=printing(text, board, "failed.txt"))
    with pytest.raises(
        EvitError, match=r"trtexec 10\.3\.0 on .* could not build .*: Could not find .* node X$"
    ):
        measure(board, artifact(tmp_path, ".onnx"))
    calls(board)
