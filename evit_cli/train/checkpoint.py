"""Everything that a training needs to go on, in one file that is whole or not there."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from evit_cli.errors import EvitError
from evit_cli.weights.atomic import atomic_file

FORMAT = 1
FILE_NAME = "last.ckpt"


@dataclass
class Snapshot:
    """A training between two steps.

    There is no random state in it, nor a position in the data: both follow from the recipe's seed
    and `step` (`evit_cli.data.sampling`).

    Attributes:
        step: optimiser steps done.
        recipe: the recipe's text, with all defaults.
        network: state of everything that is trained.
        average: state of the averaged model (EMA), None without.
        optimizer: its state.
        scaler: state of the fp16 loss scaler, empty without.
        best: the best value of the metric so far, None before the first evaluation.
        history: every line of the log.
    """

    step: int
    recipe: str
    network: dict[str, Any]
    average: dict[str, Any] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    best: float | None = None
    history: list[dict[str, Any]] = field(default_factory=list)


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a snapshot; on failure the previous file stays as it was.

    Raises:
        EvitError: the system refused, for example because the disk is full.
    """
    try:
        with atomic_file(path) as file:
            torch.save({"format": FORMAT, **vars(snapshot)}, file)
    except (EvitError, RuntimeError) as error:
        reason = _reason(error)
        kept = "; the previous checkpoint is untouched" if path.exists() else ""
        raise EvitError(
            f"cannot write the checkpoint {path} at step {snapshot.step}: {reason.lower()}{kept}",
            hint="free some space, then continue with --resume auto",
        ) from error


def _reason(error: BaseException) -> str:
    """The system's words; torch's zip writer makes a RuntimeError of its own of a failed write."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, OSError):
        inner = inner.__cause__ or inner.__context__
    words = None if inner is None else inner.strerror
    return words or str(error).partition("\n")[0]


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot; only tensors and plain values are accepted.

    Raises:
        EvitError: the file is missing, damaged, or of another evit.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise EvitError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise EvitError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    except (RuntimeError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise _foreign(path) from error
    except Exception as error:  # pickle.UnpicklingError and its kin
        raise _foreign(path) from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise _foreign(path)
    try:
        return Snapshot(**content)
    except TypeError as error:
        raise _foreign(path) from error


def _foreign(path: Path) -> EvitError:
    return EvitError(
        f"{path} is not a training checkpoint of this evit, or is damaged",
        hint=f"continue from a run folder's {FILE_NAME}; weights go into model.init of a recipe",
    )
