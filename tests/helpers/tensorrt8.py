"""A board with JetPack 4 for tests of bundles: its trtexec, its `tensorrt`, and its Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]


class Board8:
    """Runs a bundle's programs as they would run on the board.

    Args:
        folder: for the stand-ins.
        bundle: a copy of a bundle.
        python: that runs `run.py`; it needs numpy and OpenCV only.
    """

    def __init__(self, folder: Path, bundle: Path, python: str = sys.executable) -> None:
        self.bundle, self.python = bundle, python
        self.calls_file = folder / "calls.txt"
        programs, modules = folder / "bin", folder / "modules"
        programs.mkdir(parents=True)
        modules.mkdir()
        shutil.copyfile(_HERE / "tensorrt8_module.py", modules / "tensorrt.py")
        trtexec = programs / "trtexec"
        trtexec.write_text(
            f"#!/bin/sh\nexec env PYTHONPATH={_ROOT} {sys.executable} "
            f'-m tests.helpers.tensorrt8_trtexec "$@"\n',
            "utf-8",
        )
        trtexec.chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "EVIT", "TRT"))}
        self.environment = kept | {
            "PATH": f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin",
            "PYTHONPATH": str(modules),
            "STANDIN_PYTHON": sys.executable,
            "STANDIN_COMPUTE": str(_HERE / "tensorrt8_compute.py"),
            "STANDIN_CALLS": str(self.calls_file),
        }

    def build(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """`sh build_engine.sh` from another folder than the bundle's."""
        return self._do(["sh", str(self.bundle / "build_engine.sh"), *words], settings)

    def run(self, *words: object, **settings: str) -> subprocess.CompletedProcess[str]:
        """`python3 run.py WORDS` from another folder than the bundle's."""
        return self._do(self.command(*words), settings)

    def command(self, *words: object) -> list[str]:
        return [self.python, str(self.bundle / "run.py"), *map(str, words)]

    def calls(self) -> list[list[str]]:
        """What trtexec was given, call by call."""
        return [json.loads(line) for line in self.calls_file.read_text("utf-8").splitlines()]

    def _do(self, words: list[str], settings: dict[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            cwd=self.bundle.parent,
            env=self.environment | settings,
            timeout=120,
            check=False,
        )
