"""Checks of Python libraries: those evit cannot do without, and the runtimes."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from evit_cli.config.checks.result import (
    Check,
    Status,
    Surroundings,
    first_line,
    guarded,
    missing,
    ok,
    problem,
    required,
)
from evit_cli.config.find import package_root
from evit_cli.config.versions import version_key
from evit_cli.types import Backend

# Distribution on PyPI and module, for each of pyproject's dependencies (a test compares them).
BASE_LIBRARIES = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "av": "av",
    "typer": "typer",
    "rich": "rich",
    "huggingface-hub": "huggingface_hub",
    "safetensors": "safetensors",
    "pydantic": "pydantic",
    "pyyaml": "yaml",
}

_OPENCV_DISTRIBUTIONS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
_DEEP_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Runtime:
    """A library that can run a model: any of `modules`, published as any of `distributions`."""

    backend: Backend
    modules: tuple[str, ...]
    distributions: tuple[str, ...]
    mend: str
    mend_on_jetson: str = ""


RUNTIMES = (
    Runtime(
        Backend.TORCH,
        ("torch",),
        ("torch",),
        'pip install "evit-cli[torch]"',
        "install NVIDIA's own build: "
        "https://docs.nvidia.com/deeplearning/frameworks/install-pytorch-jetson-platform/",
    ),
    Runtime(
        Backend.ONNX,
        ("onnxruntime",),
        ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
        "pip install onnxruntime",
    ),
    Runtime(
        Backend.TFLITE,
        ("ai_edge_litert", "tflite_runtime"),
        ("ai-edge-litert", "tflite-runtime"),
        "pip install ai-edge-litert",
    ),
    Runtime(
        Backend.TENSORRT,
        ("tensorrt",),
        ("tensorrt",),
        'pip install "evit-cli[tensorrt]"',
        # A virtual environment sees the system's own only when it was made to.
        "sudo apt-get install python3-libnvinfer libnvinfer-bin "
        "&& python3 -m venv --system-site-packages .venv",
    ),
    Runtime(Backend.OPENVINO, ("openvino",), ("openvino",), "pip install openvino"),
)

Spawn = Callable[[str], "subprocess.CompletedProcess[str]"]


def is_there(module: str) -> bool:
    """Whether a top-level module can be found, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def version_of(distributions: tuple[str, ...]) -> str:
    """The installed version of the first distribution that is installed, "" for none."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def minimum_versions() -> dict[str, str]:
    """The lower bounds evit was installed with; empty when it runs from a bare checkout."""
    try:
        wanted = importlib.metadata.requires("evit-cli") or []
    except importlib.metadata.PackageNotFoundError:
        return {}
    bounds = {}
    for line in wanted:
        found = re.match(r"([A-Za-z0-9_.-]+)[^;]*?>=\s*([\d.]+)", line)
        if found and "extra ==" not in line:
            bounds[found[1].lower().replace("_", "-")] = found[2]
    return bounds


def check_base_library(distribution: str, module: str, *, at_least: str = "") -> Check:
    """One of the libraries evit cannot do without: present, importable and new enough."""
    wanted = f'"{distribution}>={at_least}"' if at_least else distribution
    mend = f"pip install {wanted}"
    if not is_there(module):
        return required(missing(distribution, f"the module {module} is not installed", mend))
    try:
        imported = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        again = f"pip install --force-reinstall {distribution}"
        if module == "cv2" and "libGL" in str(error):
            # The desktop build of OpenCV on a machine without a display.
            again = "pip uninstall -y opencv-python && " + again
        return required(problem(distribution, f"does not import: {first_line(error)}", again))
    version = str(getattr(imported, "__version__", "") or version_of((distribution,)))
    if at_least and version and version_key(version) < version_key(at_least):
        detail = f"{version} is older than {at_least}, which evit needs"
        return required(problem(distribution, detail, mend))
    return required(ok(distribution, version or "installed, version unknown"))


def check_base_libraries() -> list[Check]:
    """All of them, in pyproject's order."""
    bounds = minimum_versions()
    found = [
        check_base_library(distribution, module, at_least=bounds.get(distribution, ""))
        for distribution, module in BASE_LIBRARIES.items()
    ]
    return found + check_opencv_clash()


def check_opencv_clash() -> list[Check]:
    """Two OpenCV distributions write into the same folder and break each other."""
    installed = [name for name in _OPENCV_DISTRIBUTIONS if version_of((name,))]
    if len(installed) < 2:
        return []
    mend = f"pip uninstall -y {' '.join(installed)} && pip install opencv-python-headless"
    detail = f"{' and '.join(installed)} overwrite each other's files"
    return [problem("opencv packages", detail, mend)]


def check_runtimes(around: Surroundings, spawn: Spawn | None = None) -> list[Check]:
    """Each runtime, and whether there is any.

    Args:
        around: what to look at.
        spawn: runs a backend's trial in a process of its own; None does not try.
    """
    found: list[Check] = []
    for runtime in RUNTIMES:
        look = partial(check_runtime, runtime, around, spawn=spawn)
        found += guarded(runtime.backend.value, look)
    runnable = [backend.value for backend in Backend]
    usable = [c.check for c in found if c.status is Status.OK and c.check in runnable]
    if usable:
        return [required(ok("any runtime", ", ".join(usable))), *found]
    torch = RUNTIMES[0]
    mend = torch.mend_on_jetson if around.machine.is_tegra else torch.mend
    if any(check.status is Status.PROBLEM for check in found):
        none = problem("any runtime", "every installed runtime is broken, see below", mend)
    else:
        none = missing("any runtime", f"needs one of: {', '.join(runnable)}", mend)
    return [required(none), *found]


def check_runtime(runtime: Runtime, around: Surroundings, *, spawn: Spawn | None = None) -> Check:
    """One runtime: installed, its version and, with `spawn`, whether it computes."""
    name = runtime.backend.value
    mend = (around.machine.is_tegra and runtime.mend_on_jetson) or runtime.mend
    module = next((module for module in runtime.modules if is_there(module)), None)
    if module is None:
        if runtime.backend is Backend.TENSORRT and not (
            around.machine.gpus or around.machine.is_tegra
        ):
            return missing(name, "not installed, and there is no NVIDIA GPU to use it")
        return missing(name, "not installed", mend)
    version = version_of(runtime.distributions) or "version unknown"
    detail = f"{module} {version}"
    if spawn is None:
        return ok(name, f"{detail}, not tried (--deep tries it)")
    again = mend.replace("pip install", "pip install --force-reinstall")
    start_s = time.monotonic()
    try:
        done = spawn(name)
    except subprocess.TimeoutExpired as error:
        return problem(name, f"{detail} hangs: no answer after {error.timeout:.0f} s", again)
    if done.returncode == 0:
        return ok(name, f"{detail}, works (tried in {time.monotonic() - start_s:.1f} s)")
    return problem(name, f"{detail} does not work: {_why(done)}", again)


def _why(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a failed trial wrote, which of a traceback is the exception."""
    if done.returncode < 0:
        return f"it crashed (signal {-done.returncode})"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"


def try_backend(name: str) -> subprocess.CompletedProcess[str]:
    """Run a backend on a tiny sum, in a process of its own: a broken one may crash it."""
    paths = [str(package_root().parent), os.environ.get("PYTHONPATH", "")]
    return subprocess.run(
        [sys.executable, "-m", "evit_cli.config.trial", name],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_DEEP_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)},
    )
