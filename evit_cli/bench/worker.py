"""The process in which one model is timed: `python -m evit_cli.bench.worker`.

A process of its own keeps what one model does to memory, threads and caches away from the next, and
a model that dies for lack of memory takes nothing else with it. Orders come as JSON lines on
standard input; each is answered by one line.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TextIO

from evit_cli.errors import EvitError, MissingDependency

_FROM_S_TO_MS = 1e3


class Worker:
    """Answers orders: "open", "make", "block", "memory", "rates"."""

    def __init__(self) -> None:
        self._parts: dict[str, Callable[[], object]] = {}

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Do what an order says; see the methods below for its fields.

        Raises:
            EvitError: it cannot be done.
        """
        return dict(getattr(self, f"_{order['do']}")(order))

    def _open(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Open a subject (`evit_cli.bench.subject.open_subject`) and name its parts."""
        from evit_cli.bench.subject import open_subject

        subject = open_subject(order)
        self._parts = subject.parts()
        info, session = subject.session.info, subject.session
        return {
            "parts": list(self._parts),
            "name": info.name,
            "task": info.task.value,
            "precision": session.precision.value,
            "device": getattr(session, "device", "cpu"),
        }

    def _make(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Make an artifact (`evit_cli.bench.artifacts.make_artifact`)."""
        from evit_cli.bench.artifacts import make_artifact

        return {"artifact": str(make_artifact(order))}

    def _block(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Run a part for some time: "part", "seconds", "runs" (the fewest)."""
        run, clock = self._parts[order["part"]], time.perf_counter
        fewest, seconds = int(order["runs"]), float(order["seconds"])
        times: list[float] = []
        begun = clock()
        while len(times) < fewest or clock() - begun < seconds:
            before = clock()
            run()
            times.append(_FROM_S_TO_MS * (clock() - before))
        return {"ms": times}

    def _memory(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """The most memory this process has held so far."""
        from evit_cli.bench.machine.memory import peak_gpu_bytes, peak_rss_bytes

        return {
            "peak_rss_bytes": peak_rss_bytes(os.getpid()),
            "peak_gpu_bytes": peak_gpu_bytes(os.getpid()),
        }

    def _rates(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """What the device reaches in plain work: "device", "precision"."""
        from evit_cli.bench.machine.rates import measured_rates

        return measured_rates(order["device"], order["precision"])


def _error(error: BaseException) -> dict[str, Any]:
    if isinstance(error, EvitError):
        missing = isinstance(error, MissingDependency)
        return {"error": error.message, "hint": error.hint, "missing": missing}
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        return {"error": "out of memory", "hint": "", "missing": False}
    first = str(error).partition("\n")[0]
    return {"error": f"{type(error).__name__}: {first}", "hint": "", "missing": False}


def serve(orders: TextIO, answers: TextIO) -> None:
    """Answer orders until they end."""
    worker = Worker()
    for line in orders:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:
            answer = _error(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def main() -> None:
    """Serve on the standard streams; what libraries print goes to standard error."""
    with suppress(ValueError):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when it is over
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
