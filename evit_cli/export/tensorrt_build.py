"""The build itself: its progress, stopping it, what is said when it fails, and the timing cache."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from evit_cli.errors import EvitError
from evit_cli.runtime.tensorrt_api import Complaints
from evit_cli.signals import handled
from evit_cli.types import Progress
from evit_cli.weights.atomic import atomic_file

_LOOK_S = 0.2  # how often the waiting thread looks up, which is when Python hears of signals


@dataclass(frozen=True)
class Build:
    """A network that is ready to be built, and what TensorRT complained of so far."""

    trt: ModuleType
    builder: Any
    network: Any
    config: Any
    complaints: Complaints


class Stop:
    """Whether the user asked to stop, and by which signal."""

    def __init__(self) -> None:
        self.asked: type[KeyboardInterrupt] | None = None

    def note(self, kind: type[KeyboardInterrupt]) -> None:
        """Called by the signal handler."""
        self.asked = self.asked or kind


def make_monitor(trt: ModuleType, progress: Progress, stop: Stop) -> Any:
    """An `IProgressMonitor` that shows the builder's steps and stops it when asked to.

    Documented: a subclass calls `trt.IProgressMonitor.__init__`; `phase_start(phase_name,
    parent_phase, num_steps)`, `step_complete(phase_name, step)`, where False cancels the build, and
    `phase_finish(phase_name)`, perhaps before all steps; from any thread, and phases overlap.
    """

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._lock = threading.Lock()
            self._steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            with self._lock:
                self._steps[phase_name] = num_steps
                progress.advance(0, phase=phase_name)

        def step_complete(self, phase_name: str, step: int) -> bool:
            with self._lock:
                total = self._steps.get(phase_name, 0)
                progress.advance(1, phase=f"{phase_name} {step + 1}/{total}")
            return stop.asked is None

        def phase_finish(self, phase_name: str) -> None:
            with self._lock:
                self._steps.pop(phase_name, None)

    return Monitor()


def build_serialized(build: Build, progress: Progress, *, timing_file: Path | None = None) -> bytes:
    """Build and serialise.

    TensorRT leaves Python while it builds, so the build runs in a thread of its own: the main
    thread hears Ctrl-C, and the next step then cancels the build.

    Args:
        build: what to build.
        progress: told of the steps.
        timing_file: measurements of earlier builds, used and written where given.

    Raises:
        EvitError: TensorRT built nothing.
        KeyboardInterrupt: Ctrl-C or SIGTERM.
    """
    stop = Stop()
    # The monitor must outlive the config that holds it: a local name does.
    monitor = make_monitor(build.trt, progress, stop)
    build.config.progress_monitor = monitor
    used = _load_timing(build.config, timing_file)
    answer: Future[Any] = Future()

    def work() -> None:
        try:
            made = build.builder.build_serialized_network(build.network, build.config)
        except BaseException as error:
            answer.set_exception(error)
        else:
            answer.set_result(made)

    progress.start(None, "step")
    try:
        with handled(stop.note):
            thread = threading.Thread(target=work, name="tensorrt-build", daemon=True)
            thread.start()
            while thread.is_alive():
                thread.join(_LOOK_S)
    finally:
        progress.close()
    if stop.asked is not None:
        raise stop.asked()
    serialized = answer.result()
    if serialized is None:
        raise _failure(build)
    if used:
        _save_timing(build.config, timing_file)
    return bytes(serialized)


def _failure(build: Build) -> EvitError:
    """Why there is no engine, by what TensorRT logged, and what may help."""
    told = build.complaints
    if told.mention("out of memory", "outofmemory", "insufficient memory", "memory allocation"):
        hint = "close other programs, stop the desktop or add swap, or export with a smaller --size"
    elif told.mention("could not find any implementation", "no implementation"):
        hint = "export with another --precision, or update TensorRT"
    else:
        hint = "export with --precision fp32, or report this with `evit doctor --json`"
    return EvitError(f"TensorRT {build.trt.__version__} built no engine: {told.first}", hint=hint)


def _load_timing(config: Any, path: Path | None) -> bool:
    """Give the builder what it measured before; whether it takes any.

    Documented: IBuilderConfig.create_timing_cache(serialized_timing_cache), whose argument may be
    empty, and set_timing_cache(cache, ignore_mismatch), which returns False for a cache of another
    GPU or TensorRT.
    """
    if path is None:
        return False
    held = b""
    with suppress(OSError):
        held = path.read_bytes()
    for content in (held, b"") if held else (b"",):
        cache = config.create_timing_cache(content)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return True
    return False


def _save_timing(config: Any, path: Path | None) -> None:
    """Keep what was measured; without it the next build is slower, and nothing else."""
    cache = config.get_timing_cache()
    if path is None or cache is None:
        return
    with suppress(EvitError), atomic_file(path) as file:
        file.write(bytes(cache.serialize()))
