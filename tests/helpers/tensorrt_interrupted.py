"""A build that a signal stops, in a process of its own: a stray signal would end the test runner.

`python -m tests.helpers.tensorrt_interrupted VERSION SIGNAL FOLDER` prints what was seen as JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from evit_cli.export.tensorrt import EngineRequest, build_engine
from tests.helpers.tensorrt_models import Tiny
from tests.helpers.tensorrt_standin import install


class Counted:
    """A `Progress` that remembers."""

    def __init__(self) -> None:
        self.started: list[tuple[int | None, str]] = []
        self.steps, self.closed = 0, 0
        self.phases: list[object] = []

    def start(self, total: int | None, unit: str) -> None:
        self.started.append((total, unit))

    def advance(self, done: int, **fields: object) -> None:
        self.steps += done
        self.phases.append(fields["phase"])

    def close(self) -> None:
        self.closed += 1


def main(version: str, number: str, folder: str) -> None:
    """Build into FOLDER and send SIGNAL in the builder's second step."""
    board, seen, tiny = install(pytest.MonkeyPatch(), version), Counted(), Tiny()

    def interrupt(phase: str, step: int) -> None:
        if (phase, step) == ("Timing Kernels", 1):
            os.kill(os.getpid(), int(number))
            time.sleep(0.6)  # the main thread looks up five times a second

    board.on_step = interrupt
    onnx_file = tiny.save(Path(folder) / "tiny.onnx")
    exit_code = 0
    try:
        build_engine(
            onnx_file,
            Path(folder) / "tiny.engine",
            request=EngineRequest(tiny.description),
            progress=seen,
        )
    except KeyboardInterrupt as error:
        exit_code = getattr(error, "exit_code", 130)
    print(json.dumps({"exit_code": exit_code, "steps": seen.steps, "closed": seen.closed}))


if __name__ == "__main__":
    main(*sys.argv[1:])
