"""From a recipe to trained weights: `evit train` and `evit distill` as one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from evit_cli.config.recipe import Recipe, dump_recipe
from evit_cli.errors import EvitError, UsageError
from evit_cli.train.build import build_task
from evit_cli.train.checkpoint import Snapshot, load_snapshot
from evit_cli.train.distributed import Group, join
from evit_cli.train.logbook import RunFolder
from evit_cli.train.loop import Trainer, TrainResult
from evit_cli.types import Progress

_FREE_TO_CHANGE = {"data.dir", "data.workers", "train.save_minutes", "train.compile", "expected"}
"""Keys that may differ between a checkpoint and the run that goes on from it."""


@dataclass(frozen=True)
class TrainRequest:
    """What to train, and where.

    Attributes:
        recipe: with `data.dir` set.
        out: the run folder.
        resume: "auto" goes on if `out` has a checkpoint, a file goes on from that one.
        force: start again in a folder that holds a run.
        offline: make no network request.
    """

    recipe: Recipe
    out: Path
    resume: str | None = None
    force: bool = False
    offline: bool = False


def train(request: TrainRequest, progress: Progress | None = None) -> TrainResult:
    """Train by a recipe, alone or as one of torchrun's processes.

    Raises:
        EvitError: the data, the weights or the machine are not as the recipe needs them.
        UsageError: the request contradicts what is in the run folder.
        KeyboardInterrupt: stopped by a signal, after a checkpoint was written.
    """
    folder = RunFolder(request.out)
    snapshot = _snapshot(request, folder)
    group = join()
    try:
        return _train(request, folder, snapshot, group=group, progress=progress)
    finally:
        group.leave()


def _train(
    request: TrainRequest,
    folder: RunFolder,
    snapshot: Snapshot | None,
    *,
    group: Group,
    progress: Progress | None,
) -> TrainResult:
    shown = progress if group.first else None
    task = build_task(
        request.recipe,
        group=group,
        cache=folder.root / "teacher",
        offline=request.offline,
        progress=shown,
    )
    trainer = Trainer(request.recipe, task, folder, group=group, progress=shown)
    if snapshot is not None:
        trainer.resume(snapshot)
    return trainer.run()


def _snapshot(request: TrainRequest, folder: RunFolder) -> Snapshot | None:
    """The checkpoint to go on from; None starts anew."""
    if request.resume is None or (request.resume == "auto" and not folder.checkpoint.exists()):
        if folder.checkpoint.exists() and not request.force:
            raise UsageError(
                f"{folder.root} holds a run already",
                hint="pass --resume auto to go on with it, or --force to start again",
            )
        return None
    path = folder.checkpoint if request.resume == "auto" else Path(request.resume)
    snapshot = load_snapshot(path)
    changed = differences(snapshot.recipe, dump_recipe(request.recipe))
    if changed:
        key, before, now = changed[0]
        raise EvitError(
            f"{path} was trained with {key} = {before}, and the recipe now says {now}",
            hint="resume with the same recipe; for another one, start anew with model.init",
        )
    return snapshot


def differences(before: str, now: str) -> list[tuple[str, Any, Any]]:
    """Keys that matter and differ between two recipes' texts, with both values."""
    one, two = (dict(_flat(yaml.safe_load(text))) for text in (before, now))
    keys = sorted(one.keys() | two.keys())
    return [
        (key, one.get(key), two.get(key))
        for key in keys
        if one.get(key) != two.get(key)
        and not any(key == free or key.startswith(free + ".") for free in _FREE_TO_CHANGE)
    ]


def _flat(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested keys as "a.b.c"."""
    pairs: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, Mapping):
            pairs.extend(_flat(value, f"{prefix}{key}."))
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs
