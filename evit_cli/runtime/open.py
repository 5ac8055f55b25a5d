"""From what a user names to a `Session`."""

from __future__ import annotations

from pathlib import Path

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


def parse_backend(name: str | None) -> Backend | None:
    """The value of `--backend`.

    Raises:
        UsageError: there is no such backend.
    """
    if name is None:
        return None
    try:
        return Backend(name.lower())
    except ValueError as error:
        raise UsageError(
            f"there is no backend '{name}'", hint=suggest(name, [b.value for b in Backend])
        ) from error


def parse_precision(name: str | None) -> Precision | None:
    """The value of `--precision`.

    Raises:
        UsageError: there is no such precision.
    """
    if name is None:
        return None
    try:
        return Precision(name.lower())
    except ValueError as error:
        raise UsageError(
            f"there is no precision '{name}'", hint=suggest(name, [p.value for p in Precision])
        ) from error


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
