"""From what a user names to a `Session`."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from evit_cli.errors import EvitError, UsageError, suggest
from evit_cli.runtime.description import read_description
from evit_cli.runtime.litert_session import LitertSession, litert_available
from evit_cli.runtime.onnx_session import OnnxSession
from evit_cli.runtime.openvino_session import OpenvinoSession
from evit_cli.runtime.session import Session
from evit_cli.runtime.tensorrt_session import TensorRTSession
from evit_cli.types import Backend, ImageSize, Precision, Progress

_ARTIFACT_BACKENDS = {
    ".onnx": Backend.ONNX,
    ".tflite": Backend.TFLITE,
    ".engine": Backend.TENSORRT,
    ".plan": Backend.TENSORRT,
    ".xml": Backend.OPENVINO,
}


E = TypeVar("E", Backend, Precision)


def backend_of(model: str | None) -> Backend | None:
    """What runs an artifact, by its suffix; None for anything that is no artifact."""
    return _ARTIFACT_BACKENDS.get(Path(model).suffix.lower()) if model else None


def _parse(kind: type[E], name: str | None) -> E | None:
    known = {member.value: member for member in kind}
    if name is None or name.lower() in known:
        return None if name is None else known[name.lower()]
    raise UsageError(f"there is no {kind.__name__.lower()} '{name}'", hint=suggest(name, known))


def parse_backend(name: str | None) -> Backend | None:
    """The value of `--backend`.

    Raises:
        UsageError: there is no such backend.
    """
    return _parse(Backend, name)


def parse_precision(name: str | None) -> Precision | None:
    """The value of `--precision`.

    Raises:
        UsageError: there is no such precision.
    """
    return _parse(Precision, name)


def open_session(
    model: str | None,
    *,
    weights: Path | None = None,
    backend: Backend | None = None,
    precision: Precision | None = None,
    size_hw: ImageSize | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Session:
    """A session for a catalog name, an artifact, a file, a folder or an hf:// address.

    A model that travels with evit runs as its artifact, unless another backend, precision or size
    is asked for.

    Args:
        model: the name; None with `weights` lets the weights say what they are.
        weights: weights to put in place of the published ones.
        backend: what shall run it; None chooses by the file.
        precision: None means float32.
        size_hw: the input size that will be asked for, None for the model's own choice.
        threads: CPU threads, None for the runtime's choice.
        offline: make no network request.
        progress: told how much of a download has arrived.

    Raises:
        EvitError: the model cannot be found, read or run by that backend.
        MissingDependency: the backend's library is not installed.
    """
    kind = backend_of(model)
    wanted = backend or kind or Backend.TORCH
    if kind is not None:
        return _open_artifact(Path(model or ""), kind, wanted, precision, threads)
    embedded = _embedded_artifact(model, backend, precision, size_hw) if weights is None else None
    if embedded is not None:
        return LitertSession(embedded, threads=threads)
    if wanted is not Backend.TORCH:
        raise UsageError(
            f"{model or weights} has no {wanted.value} artifact that fits",
            hint=f"make one: evit export --target {wanted.value}; or use --backend torch",
        )
    from evit_cli.runtime.torch_session import load_torch_session

    return load_torch_session(
        model,
        weights=weights,
        precision=precision or Precision.FP32,
        threads=threads,
        offline=offline,
        progress=progress,
    )


def open_artifact(path: Path, *, threads: int | None = None) -> Session:
    """A session for an artifact file, by its suffix.

    Raises:
        EvitError: the file or its description is missing or damaged, or it has no known suffix.
        MissingDependency: the library that runs it is not installed.
    """
    kind = backend_of(str(path))
    if kind is Backend.TFLITE:
        return LitertSession(path, threads=threads)
    if kind is Backend.ONNX:
        return OnnxSession(path, threads=threads)
    if kind is Backend.OPENVINO:
        return OpenvinoSession(path, threads=threads)
    if kind is Backend.TENSORRT:
        return TensorRTSession(path, threads=threads)
    raise EvitError(f"{path} is no artifact", hint=suggest(path.suffix, _ARTIFACT_BACKENDS))


def _open_artifact(
    path: Path,
    kind: Backend,
    wanted: Backend,
    precision: Precision | None,
    threads: int | None,
) -> Session:
    """A session for an artifact file, which decides backend and precision itself."""
    if wanted is not kind:
        raise UsageError(f"'{path}' is for {kind.value}, which {wanted.value} cannot run")
    session = open_artifact(path, threads=threads)
    if precision is not None and precision is not session.precision:
        session.close()
        raise UsageError(f"'{path}' is {session.precision.value}, not {precision.value}")
    return session


def _embedded_artifact(
    model: str | None,
    backend: Backend | None,
    precision: Precision | None,
    size_hw: ImageSize | None,
) -> Path | None:
    """The artifact of a model that travels with evit, where it is what was asked for."""
    from evit_cli.weights.embedded import EMBEDDED

    if model not in EMBEDDED or backend not in (None, Backend.TFLITE):
        return None
    path = EMBEDDED[model].artifact
    own = read_description(path)
    if precision not in (None, own.precision) or size_hw not in (None, own.size_hw):
        return None
    return path if backend is not None or litert_available() else None
