"""What happens between steps: BatchNorm statistics anew, the metric, and the files that show it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.data.loader import load_batches, worker_count
from evit_cli.data.sampling import Plan, share_of
from evit_cli.train.batch_norm import reestimate
from evit_cli.train.distributed import Group
from evit_cli.train.logbook import RunFolder
from evit_cli.train.report import write_report
from evit_cli.train.task import Score, TrainTask, normalise
from evit_cli.types import NoProgress
from evit_cli.weights.checkpoint import save_weights

_BN_BATCH = 0x424E
"""Added to the seed of the examples for BatchNorm, so that they are not the training's next."""


def measure(
    recipe: Recipe, task: TrainTask, model: nn.Module, group: Group
) -> tuple[nn.Module, Score]:
    """A copy of `model` with fresh BatchNorm statistics, and its score on the validation set.

    Args:
        recipe: says on how many images the statistics are taken.
        task: has the examples.
        model: the trained or averaged model; it is not changed.
        group: the processes that share the work; all end with the first one's weights.
    """
    model = copy.deepcopy(model)
    group.align(model)
    if recipe.train.bn_images:
        reestimate(model, _batches(recipe, task, group), group)
    return model, task.evaluate(model.eval(), group, NoProgress())


def keep(
    folder: RunFolder,
    task: TrainTask,
    model: nn.Module,
    *,
    history: Sequence[Mapping[str, Any]],
    best: bool,
) -> None:
    """Write the weights that were measured, and the report.

    Args:
        folder: of the run.
        task: describes the weights.
        model: from `measure`.
        history: the lines of the log so far.
        best: whether no earlier weights were as good.
    """
    state = model.state_dict()
    for path in [folder.last, *([folder.best] if best else [])]:
        save_weights(path, state, task.info, task.variant)
    write_report(folder, history, task.metric, task.picture(model))


def _batches(recipe: Recipe, task: TrainTask, group: Group) -> Iterator[Tensor]:
    """Training images, changed as in training, for the statistics of BatchNorm."""
    part = recipe.train
    plan = Plan(task.count, part.batch_size, task.sizes[-1:], part.seed + _BN_BATCH)
    steps = max(1, math.ceil(part.bn_images / part.batch_size))
    mine = (share_of(plan.step(i), group.rank, group.size) for i in range(steps))
    memory = torch.channels_last if part.channels_last else torch.contiguous_format
    workers = worker_count(recipe.data.workers, group.size)
    for batch in load_batches(task, mine, workers=workers):
        images = normalise(batch.to(group.device).tensors["image"], task.info)
        yield images.contiguous(memory_format=memory)
