"""The other end of `evit_cli.bench.worker`: starts the process, gives orders, notices its death."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from types import TracebackType
from typing import Any

from evit_cli.bench.protocol import Block
from evit_cli.errors import EvitError, MissingDependency

_ANSWER_WITHIN_S = 1800.0
_END_WITHIN_S = 5.0


class WorkerDied(EvitError):
    """The process ended in the middle; its message says by what."""


class WorkerProcess:
    """One worker; use it as a context.

    Attributes:
        pid: of the process.
    """

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evit_cli.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            # Ctrl-C goes to the parent, which ends the worker and keeps what is finished.
            start_new_session=True,
        )
        self.pid = self._process.pid
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """Give an order and wait for its answer.

        Raises:
            WorkerDied: the process ended, out of memory for example, or does not answer.
            MissingDependency: a library is missing there.
            EvitError: it could not be done.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            self._process.stdin.flush()
            line = self._lines.get(timeout=_ANSWER_WITHIN_S)
        except queue.Empty:
            self.close()
            raise WorkerDied(f"no answer within {_ANSWER_WITHIN_S:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise WorkerDied(*self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            kind = MissingDependency if answer["missing"] else EvitError
            raise kind(answer["error"], hint=answer["hint"])
        return answer

    def block(self, part: str) -> Block:
        """A part of the open subject, as the protocol runs it."""

        def run(seconds: float, fewest: int) -> list[float]:
            times: list[float] = self.ask("block", part=part, seconds=seconds, runs=fewest)["ms"]
            return times

        return run

    def _last_words(self) -> tuple[str]:
        """Why the process ended."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return ("out of memory: the system ended the process",)
        self._errors.seek(0)
        lines = self._errors.read()[-4096:].decode(errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()}" if lines else ""
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if lines and any(word in lines[-1] for word in ("bad_alloc", "MemoryError")):
            return ("out of memory",)
        return (f"the process ended with {name}{said}",)

    def close(self) -> None:
        """End the process, now if need be."""
        if self._process.poll() is None:
            assert self._process.stdin is not None
            try:
                self._process.stdin.close()
                self._process.wait(0.2)
            except (OSError, subprocess.TimeoutExpired):
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(_END_WITHIN_S)
        self._errors.close()
