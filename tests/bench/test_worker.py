"""The process that times a model: real workers on the model that travels with evit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evit_cli.bench.client import WorkerDied, WorkerProcess
from evit_cli.errors import EvitError
from evit_cli.weights.embedded import EMBEDDED

ARTIFACT = EMBEDDED["seg-b0-street"].artifact
ORDER: dict[str, Any] = {
    "artifact": str(ARTIFACT),
    "size_hw": [544, 960],
    "batch": 1,
    "threads": 1,
    "precision": "fp32",
    "form": "",
    "offline": True,
}


@pytest.fixture(scope="module")
def opened() -> Iterator[WorkerProcess]:
    with WorkerProcess() as worker:
        answer = worker.ask("open", **ORDER)
        assert answer["parts"] == ["compute", "host", "e2e"]
        assert (answer["name"], answer["task"]) == ("seg-b0-street", "segment")
        yield worker


@pytest.mark.parametrize("part", ["compute", "host", "e2e"])
def test_each_part_runs_as_often_as_ordered(opened: WorkerProcess, part: str) -> None:
    times = opened.block(part)(0.0, 3)
    assert len(times) == 3
    assert all(ms > 0 for ms in times)


def test_a_block_lasts_as_long_as_ordered(opened: WorkerProcess) -> None:
    times = opened.block("compute")(0.3, 1)
    assert sum(times) >= 300 * 0.9


def test_memory_is_of_the_process_that_runs_the_model(opened: WorkerProcess) -> None:
    peak = opened.ask("memory")["peak_rss_bytes"]
    assert 20e6 < peak < 1e9


def test_rates_are_those_of_plain_work(opened: WorkerProcess) -> None:
    pytest.importorskip("torch")
    rates = opened.ask("rates", device="cpu", precision="fp32")
    assert 1e-3 < rates["matmul_tera_ops_per_s"] < 100
    assert 0.01 < rates["copy_gb_per_s"] < 2000


def test_an_error_there_is_an_error_here(opened: WorkerProcess) -> None:
    with pytest.raises(EvitError, match="there is no file"):
        opened.ask("open", **{**ORDER, "artifact": "/nowhere/model.tflite"})
    assert opened.block("host")(0.0, 1)  # and it goes on


def test_a_process_that_the_system_ends_was_out_of_memory() -> None:
    with WorkerProcess() as worker:
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(WorkerDied, match="out of memory"):
            worker.ask("memory")


def test_a_crash_says_by_what() -> None:
    with WorkerProcess() as worker:
        os.kill(worker.pid, signal.SIGSEGV)
        with pytest.raises(WorkerDied, match="SIGSEGV"):
            worker.ask("memory")


def test_no_process_is_left_behind() -> None:
    with WorkerProcess() as worker:
        worker.ask("open", **ORDER)
        pid = worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_parent_that_is_gone_takes_the_worker_along() -> None:
    script = (
        "import os, time\n"
        "from evit_cli.bench.client import WorkerProcess\n"
        "print(WorkerProcess().pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_libraries_print_does_not_disturb_the_answers() -> None:
    script = "import os; os.write(1, b'noise\\n'); print('noise')"
    code = (
        "import sys\n"
        "from evit_cli.bench import worker\n"
        "old = worker.Worker.answer\n"
        f"def noisy(self, order): exec({script!r}); return old(self, order)\n"
        "worker.Worker.answer = noisy\n"
        "worker.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input='{"do": "memory"}\n',
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["peak_rss_bytes"] > 0
    assert done.stderr.count("noise") == 2
