"""From what a user names to a `Session`."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from evit_cli.errors import EvitError, UsageError, suggest
from evit_cli.runtime.session import Session
from evit_cli.types import RUNNABLE_BACKENDS, Backend, Precision, Progress

_ARTIFACT_BACKENDS = {
    ".onnx": Backend.ONNX,
    ".tflite": Backend.TFLITE,
    ".engine": Backend.TENSORRT,
    ".plan": Backend.TENSORRT,
    ".xml": Backend.OPENVINO,
}


E = TypeVar("E", Backend, Precision)


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
    threads: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Session:
    """A session for a catalog name, a file, a folder or an hf:// address.

    Args:
        model: the name; None with `weights` lets the weights say what they are.
        weights: weights to put in place of the published ones.
        backend: what shall run it; None chooses by the file.
        precision: None means float32.
        threads: CPU threads, None for the runtime's choice.
        offline: make no network request.
        progress: told how much of a download has arrived.

    Raises:
        EvitError: the model cannot be found, read or run by that backend.
        MissingDependency: the backend's library is not installed.
    """
    artifact = _ARTIFACT_BACKENDS.get(Path(model).suffix.lower()) if model else None
    wanted = backend or artifact or Backend.TORCH
    if wanted not in RUNNABLE_BACKENDS:
        raise EvitError(
            f"this version of evit has no {wanted.value} runtime yet",
            hint="name a model or its weights and use --backend torch",
        )
    if artifact is not None:
        raise UsageError(f"'{model}' is a {artifact.value} artifact, which torch cannot run")
    from evit_cli.runtime.torch_session import load_torch_session

    return load_torch_session(
        model,
        weights=weights,
        precision=precision or Precision.FP32,
        threads=threads,
        offline=offline,
        progress=progress,
    )
