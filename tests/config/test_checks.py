"""The checks of `evit doctor`: right findings, exact mends, and nothing that raises."""

from __future__ import annotations

import re
import subprocess
import sys
import time
import types
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from evit_cli.config import trial
from evit_cli.config.checks import libraries, media, run_checks
from evit_cli.config.checks.result import (
    Check,
    Level,
    Status,
    Surroundings,
    guarded,
    ok,
)
from evit_cli.types import Backend
from tests.config import boards
from tests.config.surroundings import find, on
from tests.helpers.paths import REPOSITORY

PYPROJECT = (REPOSITORY / "pyproject.toml").read_text()
TORCH, ONNX, TFLITE, TENSORRT, OPENVINO = libraries.RUNTIMES


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a module of one's own in front of an installed one."""
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))

    def write(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)

    return write


def test_everything_here_is_fast_and_required_things_are_fine(around: Surroundings) -> None:
    start_s = time.monotonic()
    checks = run_checks(around)
    assert time.monotonic() - start_s < 10  # two seconds, on a machine that is not busy
    names = [check.check for check in checks]
    assert len(set(names)) == len(names)
    base = {"python", "evit", "shipped data", "any runtime", *libraries.BASE_LIBRARIES}
    assert {check.check for check in checks if check.level is Level.REQUIRED} == base
    assert all(check.detail and "\n" not in check.detail + check.mend for check in checks)
    assert not [check for check in checks if check.broken and check.check != "any runtime"]
    assert not [check for check in checks if "the check itself failed" in check.detail]
    assert "network" not in names


def test_torch_is_not_imported_for_its_version() -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from evit_cli.config.checks import *\n"
        "from evit_cli.config.machine import Machine\n"
        "hub = HubSettings(Path('.'), True, '')\n"
        "run_checks(Surroundings(Machine('x86_64'), hub))\n"
        "heavy = {'torch', 'onnxruntime', 'ai_edge_litert', 'tensorrt', 'openvino'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr


def test_base_libraries_are_pyprojects() -> None:
    block = PYPROJECT.partition("\ndependencies = [")[2].partition("]")[0]
    declared = re.findall(r'"([A-Za-z0-9-]+)', block)
    known = [*libraries.BASE_LIBRARIES, *TFLITE.distributions]
    assert set(libraries.BASE_LIBRARIES) <= set(declared) <= set(known)


@pytest.mark.parametrize("runtime", libraries.RUNTIMES, ids=lambda runtime: runtime.backend.value)
def test_mends_name_extras_that_exist(runtime: libraries.Runtime) -> None:
    extra = re.search(r"evit-cli\[(\w+)\]", runtime.mend)
    assert extra is None or f"\n{extra[1]} = [" in PYPROJECT
    assert runtime.mend.startswith("pip install ")


def test_each_backend_has_a_runtime_and_a_trial() -> None:
    assert [runtime.backend for runtime in libraries.RUNTIMES] == list(Backend)
    assert set(trial.TRIALS) == {backend.value for backend in Backend}


def test_guard_turns_anything_into_a_finding() -> None:
    def raises(error: BaseException) -> Callable[[], Check]:
        def look() -> Check:
            raise error

        return look

    for error in (RuntimeError("first\nsecond"), SystemExit(3), ImportError("no libGL")):
        (found,) = guarded("x", raises(error), level=Level.REQUIRED)
        assert found.broken
        assert found.detail.startswith("the check itself failed: ")
        assert "second" not in found.detail
    with pytest.raises(KeyboardInterrupt):
        guarded("x", raises(KeyboardInterrupt()))
    assert guarded("x", lambda: ok("x", "fine"))[0].status is Status.OK


@pytest.mark.parametrize(
    ("text", "status", "detail", "mend"),
    [
        ("__version__ = '1.5'", Status.OK, "1.5", ""),
        ("__version__ = '1.1.9'", Status.PROBLEM, "1.1.9 is older than 1.2", '"some-lib>=1.2"'),
        (
            "raise ImportError('bad\\nmore')",
            Status.PROBLEM,
            "ImportError: bad",
            "--force-reinstall",
        ),
        ("raise SystemExit(1)", Status.PROBLEM, "SystemExit: 1", "--force-reinstall"),
        ("1 / 0", Status.PROBLEM, "ZeroDivisionError", "--force-reinstall some-lib"),
    ],
)
def test_base_library(
    module: Callable[[str, str], None], text: str, status: Status, detail: str, mend: str
) -> None:
    module("some_lib_of_the_tests", text)
    found = libraries.check_base_library("some-lib", "some_lib_of_the_tests", at_least="1.2")
    assert (found.status, found.level) == (status, Level.REQUIRED)
    assert detail in found.detail
    assert mend in found.mend


def test_absent_base_library() -> None:
    found = libraries.check_base_library("no-such-lib", "no_such_module")
    assert (found.status, found.mend) == (Status.MISSING, "pip install no-such-lib")
    assert found.broken


def test_opencv_without_libgl_names_the_headless_build(module: Callable[[str, str], None]) -> None:
    module("cv2", "raise ImportError('libGL.so.1: cannot open shared object file')")
    found = libraries.check_base_library("opencv-python-headless", "cv2")
    assert "libGL.so.1" in found.detail
    assert found.mend.startswith("pip uninstall -y opencv-python && ")


def test_two_opencvs_clash(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"opencv-python": "4.9", "opencv-python-headless": "4.10"}
    monkeypatch.setattr(libraries, "version_of", lambda names: both.get(names[0], ""))
    (found,) = libraries.check_opencv_clash()
    assert found.mend == (
        "pip uninstall -y opencv-python opencv-python-headless"
        " && pip install opencv-python-headless"
    )
    del both["opencv-python"]
    assert libraries.check_opencv_clash() == []


def test_minimum_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["numpy>=1.26", "huggingface_hub (>=1.0)", 'torch>=2.4; extra == "torch"', "rich"]
    monkeypatch.setattr(libraries.importlib.metadata, "requires", lambda name: wanted)
    assert libraries.minimum_versions() == {"numpy": "1.26", "huggingface-hub": "1.0"}

    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(libraries.importlib.metadata, "requires", absent)
    assert libraries.minimum_versions() == {}


def _install(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    monkeypatch.setattr(libraries, "is_there", lambda name: name in modules)
    monkeypatch.setattr(libraries, "version_of", lambda names: "1.0")


def test_no_runtime_is_an_error(monkeypatch: pytest.MonkeyPatch, around: Surroundings) -> None:
    _install(monkeypatch)
    checks = libraries.check_runtimes(around)
    assert find(checks, "any runtime").broken
    assert find(checks, "any runtime").mend == 'pip install "evit-cli[torch]"'
    assert find(checks, "tensorrt").mend == ""  # there is no GPU that it could use
    assert not any(check.broken for check in checks[1:])


@pytest.mark.parametrize(
    ("backend", "module"),
    [
        ("torch", "torch"),
        ("onnx", "onnxruntime"),
        ("tflite", "ai_edge_litert"),
        ("tflite", "tflite_runtime"),
        ("tensorrt", "tensorrt"),
        ("openvino", "openvino"),
    ],
)
def test_one_runtime_is_enough(
    backend: str, module: str, monkeypatch: pytest.MonkeyPatch, around: Surroundings
) -> None:
    _install(monkeypatch, module)
    checks = libraries.check_runtimes(around)
    assert not find(checks, "any runtime").broken
    assert find(checks, "any runtime").detail == backend
    assert find(checks, backend).detail == f"{module} 1.0, not tried (--deep tries it)"


def test_a_jetson_is_never_told_to_install_plain_torch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _install(monkeypatch)
    checks = libraries.check_runtimes(on(boards.AGX_ORIN, tmp_path))
    for name in ("any runtime", "torch", "tensorrt"):
        assert "pip install" not in find(checks, name).mend
    assert "NVIDIA's own" in find(checks, "torch").mend
    assert "python3-libnvinfer" in find(checks, "tensorrt").mend


def test_tensorrt_is_offered_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _install(monkeypatch)
    found = libraries.check_runtime(TENSORRT, on(boards.A100, tmp_path))
    assert found.mend == 'pip install "evit-cli[tensorrt]"'


@pytest.mark.parametrize(
    ("code", "stderr", "status", "detail"),
    [
        (0, "INFO: something", Status.OK, "works (tried in"),
        (1, "Traceback\n  File\nOSError: libcuda.so\n", Status.PROBLEM, "OSError: libcuda.so"),
        (-11, "", Status.PROBLEM, "it crashed (signal 11)"),
        (7, "", Status.PROBLEM, "exit code 7"),
    ],
)
def test_deep(
    monkeypatch: pytest.MonkeyPatch,
    around: Surroundings,
    code: int,
    stderr: str,
    status: Status,
    detail: str,
) -> None:
    _install(monkeypatch, "onnxruntime")
    done = subprocess.CompletedProcess(["x"], code, "", stderr)
    checks = libraries.check_runtimes(around, lambda name: done)
    assert find(checks, "onnx").status is status
    assert detail in find(checks, "onnx").detail
    assert find(checks, "any runtime").broken == (code != 0)
    if code:
        assert find(checks, "onnx").mend == "pip install --force-reinstall onnxruntime"


def test_deep_survives_a_hanging_and_an_impossible_trial(
    monkeypatch: pytest.MonkeyPatch, around: Surroundings
) -> None:
    _install(monkeypatch, "onnxruntime", "torch")

    def spawn(name: str) -> subprocess.CompletedProcess[str]:
        raise subprocess.TimeoutExpired("x", 180) if name == "onnx" else OSError("no processes")

    checks = libraries.check_runtimes(around, spawn)
    assert "hangs: no answer after 180 s" in find(checks, "onnx").detail
    assert "no processes" in find(checks, "torch").detail
    assert len(checks) == len(libraries.RUNTIMES) + 1


def test_trial_in_a_process_of_its_own_reports_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os; os.abort()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert libraries.try_backend("onnx").returncode < 0


@pytest.mark.slow
@pytest.mark.parametrize("runtime", [TORCH, ONNX, TFLITE, OPENVINO], ids=lambda r: r.backend.value)
def test_trial_of_what_is_installed(runtime: libraries.Runtime) -> None:
    if not any(libraries.is_there(name) for name in runtime.modules):
        pytest.skip(f"{runtime.backend.value} is not installed")
    done = libraries.try_backend(runtime.backend.value)
    assert done.returncode == 0, done.stderr


def test_trial_of_tensorrt_asks_for_an_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a stand-in with TensorRT 10's names; not run on hardware by us."""
    built: list[object] = []

    class Builder:
        engine: bytes | None = b"engine"

        def __init__(self, logger: object) -> None:
            pass

        def create_network(self, flags: int) -> types.SimpleNamespace:
            assert flags == 1
            layer = types.SimpleNamespace(get_output=lambda index: "y")
            return types.SimpleNamespace(
                add_input=lambda name, kind, shape: (name, kind, shape),
                add_elementwise=lambda a, b, operation: layer,
                mark_output=built.append,
            )

        def create_builder_config(self) -> object:
            return object()

        def build_serialized_network(self, network: object, config: object) -> bytes | None:
            return self.engine

    logger = types.SimpleNamespace(ERROR=1)
    fake = types.SimpleNamespace(
        Logger=type("Logger", (), {"ERROR": logger.ERROR, "__init__": lambda self, level: None}),
        Builder=Builder,
        NetworkDefinitionCreationFlag=types.SimpleNamespace(EXPLICIT_BATCH=0),
        ElementWiseOperation=types.SimpleNamespace(SUM=0),
        float32="float32",
    )
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    trial.try_tensorrt()
    assert built == ["y"]
    Builder.engine = None
    with pytest.raises(RuntimeError, match="builds no engine"):
        trial.try_tensorrt()


def test_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    def codec(name: str, mode: str) -> None:
        if name == "libx264":
            raise ValueError(name)

    monkeypatch.setitem(sys.modules, "av", types.SimpleNamespace(Codec=codec))
    monkeypatch.setattr(media, "is_there", lambda name: True)
    found = media.check_codecs()
    assert [check.status for check in found] == [Status.MISSING, *[Status.OK] * 3]
    assert found[0].mend == "pip install --force-reinstall --only-binary av av"


@pytest.mark.parametrize(
    ("line", "status"),
    [("GUI: NONE", Status.MISSING), ("GUI:\t QT5", Status.OK), ("", Status.MISSING)],
)
def test_opencv_windows(monkeypatch: pytest.MonkeyPatch, line: str, status: Status) -> None:
    text = f"  {line}\n    GStreamer:    NO\n"
    fake = types.SimpleNamespace(getBuildInformation=lambda: text)
    monkeypatch.setitem(sys.modules, "cv2", fake)
    monkeypatch.setattr(media, "is_there", lambda name: True)
    (found,) = media.check_opencv_build()
    assert found.status is status


def test_a_broken_library_does_not_hide_the_other_media_checks(
    monkeypatch: pytest.MonkeyPatch, module: Callable[[str, str], None]
) -> None:
    module("av", "raise SystemExit(1)")
    module("cv2", "raise OSError('broken')")
    monkeypatch.setattr(media.shutil, "which", lambda name: None)
    found = media.check_media()
    assert [check.status for check in found] == [Status.PROBLEM, Status.PROBLEM, Status.MISSING]
    assert "gstreamer1.0-tools" in found[-1].mend
