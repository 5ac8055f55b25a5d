"""What is wrong with a model: its engine, its TensorRT, its network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.fault_drills.run import (
    PATIENCE_S,
    ROOT,
    Ending,
    Run,
    film,
)


def _engine(folder: Path, version: str) -> Path:
    """An engine of the stand-in's TensorRT."""
    script = (
        "import sys, pytest; from pathlib import Path\n"
        "from tests.helpers.tensorrt_standin import install\n"
        "from tests.helpers.tensorrt_models import Tiny\n"
        "from evit_cli.export.tensorrt import EngineRequest, build_engine\n"
        "install(pytest.MonkeyPatch(), sys.argv[1]); tiny = Tiny(); here = Path('.')\n"
        "build_engine(tiny.save(here / 'tiny.onnx'), here / 'tiny.engine',\n"
        "             request=EngineRequest(tiny.description))"
    )
    subprocess.run(
        [sys.executable, "-c", script, version], cwd=folder, check=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=PATIENCE_S,
    )  # fmt: skip
    return folder / "tiny.engine"


def _refused(folder: Path, expected: int, *words: str, stand_in: str = "") -> Ending:
    film(folder, 25)
    arguments = ("drive.mp4", "--model", "tiny.engine", "--out", "out/drive.mp4")
    with Run(folder, *arguments, stand_in=stand_in) as run:
        code = run.end()
        assert code == expected and all(word in run.sentence() for word in words), run.said
        assert not (folder / "out").exists()
        return Ending(code, f"before the first frame: `{run.sentence()}`")


def unreadable_engine(folder: Path) -> Ending:
    path = _engine(folder, "10.3.0")
    path.write_bytes(path.read_bytes()[:200])
    return _refused(folder, 1, "is no engine that TensorRT", stand_in="tensorrt=10.3.0")


def other_tensorrt(folder: Path) -> Ending:
    _engine(folder, "10.3.0")
    words = ("was built with another TensorRT", "evit export")
    return _refused(folder, 1, *words, stand_in="tensorrt=10.13.2")


def without_tensorrt(folder: Path) -> Ending:
    _engine(folder, "10.3.0")
    return _refused(folder, 5, "needs TensorRT")


def without_network(folder: Path) -> Ending:
    film(folder, 25)
    with Run(folder, "drive.mp4", "--model", "seg-b0-cityscapes", "--out", "out/drive.mp4") as run:
        code = run.end()
        assert code == 1 and not (folder / "out").exists()
        return Ending(code, f"`{run.sentence()}`")
