"""docs/containers/requirements.py: what pip is told on a machine that has NVIDIA's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "containers" / "requirements.py"
PYPROJECT = """
[project]
dependencies = ["numpy>=1.26", "opencv-python-headless>=4.8", "rich>=13.9"]
[project.optional-dependencies]
torch = ["torch>=2.6"]
onnx = ["onnxruntime>=1.22"]
"""
CONSTRAINTS = """# exact
ml_dtypes==0.6.0
numpy==2.4.6; python_version >= "3.11"
onnxruntime==1.32.0
opencv-python-headless==5.0.0.93
rich==15.0.0
torch==2.13.0
"""


class Machine:
    """A Python with nothing of its own, and a folder of packages that it did not install."""

    def __init__(self, folder: Path) -> None:
        self.packages = folder / "system"
        self.folder = folder
        self.packages.mkdir()
        (folder / "pyproject.toml").write_text(PYPROJECT, "utf-8")
        (folder / "constraints.txt").write_text(CONSTRAINTS, "utf-8")

    def has(self, module: str, distribution: str = "", version: str = "") -> None:
        """Put a module there that cannot be imported, with a distribution if it has a version."""
        (self.packages / module).mkdir()
        (self.packages / module / "__init__.py").write_text("raise ImportError", "utf-8")
        if version:
            info = self.packages / f"{distribution.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            text = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
            (info / "METADATA").write_text(text, "utf-8")

    def run(self, *extras: str) -> subprocess.CompletedProcess[str]:
        """The script with a search path of this machine's packages and `packaging` alone."""
        start = (
            "try: import tomllib\nexcept ImportError: import tomli\n"
            "import runpy, sys, packaging.requirements, packaging.utils, packaging.version\n"
            "sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [sys.argv.pop(1)]\n"
            "sys.argv.pop(0)\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        )
        arguments = [str(self.packages), str(SCRIPT), "pyproject.toml", "constraints.txt", "out"]
        return subprocess.run(
            [sys.executable, "-c", start, *arguments, *extras],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": "", "PYTHONSAFEPATH": "1"},
            capture_output=True,
            text=True,
            check=False,
        )

    def lines(self, *extras: str) -> tuple[list[str], list[str]]:
        """The requirements and constraints that it writes."""
        done = self.run(*extras)
        assert done.returncode == 0, done.stderr
        written = [self.folder / "out" / f"{n}.txt" for n in ("requirements", "constraints")]
        requirements, constraints = (file.read_text("utf-8").splitlines() for file in written)
        return requirements, constraints


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_empty_machine_gets_everything(machine: Machine) -> None:
    requirements, constraints = machine.lines("torch")
    assert requirements == [
        "numpy>=1.26", "opencv-python-headless>=4.8", "rich>=13.9", "torch>=2.6"
    ]  # fmt: skip
    assert {"torch==2.13.0", "ml_dtypes==0.6.0"} <= set(constraints)
    assert 'numpy==2.4.6; python_version >= "3.11"' in constraints


def test_an_opencv_that_pip_does_not_see_stays(machine: Machine) -> None:
    machine.has("cv2")
    requirements, constraints = machine.lines()
    assert requirements == ["numpy>=1.26", "rich>=13.9"]
    assert not [line for line in constraints if "opencv" in line]


@pytest.mark.parametrize("name", ["opencv-python", "opencv-contrib-python"])
def test_an_opencv_of_another_name_stays(machine: Machine, name: str) -> None:
    machine.has("cv2", name, "4.11.0")
    requirements, constraints = machine.lines()
    assert "opencv-python-headless>=4.8" not in requirements
    assert f"{name}==4.11.0" in constraints


def test_nvidias_torch_stays_as_it_is(machine: Machine) -> None:
    machine.has("torch", "torch", "2.5.0a0+872d972e41.nv24.8")
    requirements, constraints = machine.lines("torch", "onnx")
    assert "onnxruntime>=1.22" in requirements
    assert not [line for line in requirements if line.startswith("torch")]
    assert "torch==2.5.0a0+872d972e41.nv24.8" in constraints
    assert "torch==2.13.0" not in constraints


def test_a_good_numpy_stays(machine: Machine) -> None:
    machine.has("numpy", "numpy", "1.26.4")
    requirements, constraints = machine.lines()
    assert "numpy>=1.26" not in requirements
    assert [line for line in constraints if line.startswith("numpy")] == ["numpy==1.26.4"]


def test_an_old_numpy_is_replaced_within_its_major_version(machine: Machine) -> None:
    machine.has("numpy", "numpy", "1.21.5")
    requirements, constraints = machine.lines()
    assert "numpy>=1.26" in requirements
    assert [line for line in constraints if line.startswith("numpy")] == ["numpy<2"]
    assert "ml_dtypes==0.6.0" not in constraints  # it wants numpy 2


def test_another_requirement_is_taken_unless_it_is_there(machine: Machine) -> None:
    assert "cuda-python==12.6.0" in machine.lines("cuda-python==12.6.0")[0]
    machine.has("cuda", "cuda-python", "12.9.0")
    requirements, constraints = machine.lines("cuda-python==12.6.0")
    assert not [line for line in requirements if "cuda" in line]
    assert "cuda-python==12.9.0" in constraints


def test_wrong_arguments(machine: Machine) -> None:
    done = machine.run("tourch")
    assert done.returncode == 1
    assert done.stderr == "error: evit has no extra tourch\n"
