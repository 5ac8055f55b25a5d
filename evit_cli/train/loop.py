"""The training loop, one for all tasks.

A step is: seed, read the micro-batches, add up gradients, make them those of one big batch, clip,
step, average. Everything random is a function of the recipe's seed and the step, so a run that goes
on from a checkpoint computes what the uninterrupted one would have: on a CPU bit by bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from evit_cli.config.recipe import Recipe, dump_recipe
from evit_cli.data.loader import Batch, load_batches, worker_count
from evit_cli.data.sampling import Plan, Request, share_of, step_seed
from evit_cli.errors import EvitError
from evit_cli.signals import handled
from evit_cli.train.batch_norm import freeze_batch_norm
from evit_cli.train.checkpoint import Snapshot, save_snapshot
from evit_cli.train.distributed import Group, synchronise_batch_norm
from evit_cli.train.ema import WeightAverage
from evit_cli.train.logbook import RunFolder
from evit_cli.train.meter import Meter
from evit_cli.train.optim import Schedule, build_optimizer, finish_gradients, set_lr
from evit_cli.train.start import seed_everything, set_drop_path
from evit_cli.train.task import Loss, TrainTask, normalise
from evit_cli.train.validate import keep, measure
from evit_cli.types import NoProgress, Progress

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_LISTED = 16
"""Files of a bad batch that a message names."""


class _Stop:
    """The first request to stop is noted, and the step finished; a second one interrupts."""

    def __init__(self) -> None:
        self.wanted: type[KeyboardInterrupt] | None = None

    def note(self, kind: type[KeyboardInterrupt]) -> None:
        """What a signal does."""
        if self.wanted is not None:
            raise kind
        self.wanted = kind


@dataclass(frozen=True)
class TrainResult:
    """What a finished training reached.

    Attributes:
        steps: optimiser steps.
        metric: its name.
        best: the best value, in [0, 1], or in dB.
        weights: the file that holds the weights of the best value.
        seconds: wall time of this process.
        first: whether this process is the one that talks.
    """

    steps: int
    metric: str
    best: float
    weights: Path
    seconds: float
    first: bool = True


class Trainer:
    """One run of one recipe.

    Args:
        recipe: what to do.
        task: the recipe's data, model and loss.
        folder: where files go.
        group: the processes that share the run.
        progress: told of every step and evaluation.
    """

    def __init__(
        self,
        recipe: Recipe,
        task: TrainTask,
        folder: RunFolder,
        *,
        group: Group,
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.task, self.folder, self.group = recipe, task, folder, group
        self.progress = progress or NoProgress()
        part = recipe.train
        if part.batch_size % (group.size * part.accumulate):
            raise EvitError(
                f"a batch of {part.batch_size} images does not divide into {group.size} processes"
                f" x {part.accumulate} micro-batches",
                hint="change train.batch_size or train.accumulate with --set",
            )
        self.plan = Plan(task.count, part.batch_size, task.sizes, part.seed)
        self.steps = part.steps or self.plan.steps(part.epochs or 1)
        warmup = part.warmup_steps or (
            self.plan.steps(part.warmup_epochs) if part.warmup_epochs else 0
        )
        self.schedule = Schedule(self.steps, warmup, part.final_lr)
        self.eval_every = self.plan.steps(part.eval_epochs)
        self.memory = torch.channels_last if part.channels_last else torch.contiguous_format
        task.network.to(group.device, memory_format=self.memory)  # type: ignore[call-overload]
        if part.batch_norm == "sync":
            synchronise_batch_norm(task.network, group)
        self.optimizer = build_optimizer(task.network, recipe.optimizer)
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=part.precision == "fp16")
        self.average = (
            None
            if part.ema is None
            else WeightAverage(task.model, decay=part.ema, tau=part.ema_tau)
        )
        self.step = 0
        self.best: float | None = None
        self.history: list[dict[str, Any]] = []
        self.meter = Meter(group)

    def resume(self, snapshot: Snapshot) -> None:
        """Go on from a checkpoint of the same recipe.

        Raises:
            EvitError: the checkpoint is of another model.
        """
        try:
            self.task.network.load_state_dict(snapshot.network)
            self.optimizer.load_state_dict(snapshot.optimizer)
            if self.average is not None and snapshot.average is not None:
                self.average.model.load_state_dict(snapshot.average)
        except (RuntimeError, ValueError) as error:
            raise EvitError(
                f"the checkpoint is of another model: {str(error).splitlines()[-1].strip()}",
                hint="resume with the recipe of its run folder",
            ) from error
        if snapshot.scaler:
            self.scaler.load_state_dict(snapshot.scaler)
        # In another folder, the weights of the best value so far are not there to be kept.
        self.step, self.best = snapshot.step, snapshot.best if self.folder.best.exists() else None
        self.history = list(snapshot.history)

    def run(self) -> TrainResult:
        """Train to the end.

        Raises:
            EvitError: the loss is not a number, an example cannot be read, or a write failed.
            KeyboardInterrupt: a stop was asked for; a checkpoint has been written.
        """
        started = time.monotonic()
        if self.group.first:
            text = dump_recipe(self.recipe)
            device = self.group.device.type
            if self.step == 0:  # nobody shall go on from the run that this one replaces
                self.folder.checkpoint.unlink(missing_ok=True)
            self.folder.begin(text, processes=self.group.size, device=device)
            self.folder.rewrite_log(self.history)
        stop = _Stop()
        self.progress.start((self.steps - self.step) * self.plan.batch_size, "image")
        try:
            with handled(stop.note):
                self._steps(stop)
        except RuntimeError as error:  # which PyTorch's errors of the CPU's allocator are
            if not any(words in str(error).lower() for words in _OUT_OF_MEMORY):
                raise
            raise EvitError(
                f"out of memory in step {self.step + 1}",
                hint="lower train.batch_size or the crop size, or raise train.accumulate",
            ) from error
        finally:
            self.progress.close()
        return TrainResult(
            steps=self.step,
            metric=self.task.metric,
            best=math.nan if self.best is None else self.best,
            weights=self.folder.best,
            seconds=time.monotonic() - started,
            first=self.group.first,
        )

    def _steps(self, stop: _Stop) -> None:
        network = self._forward_module()
        batches = self._batches()
        self._catch_up()
        saved = time.monotonic()
        while self.step < self.steps:
            stopping = self._train_step(network, batches, stop)
            done = self.step == self.steps
            if not stopping and self._due():
                self._evaluate()
            minutes = (time.monotonic() - saved) / 60
            if stopping or done or self._agreed(minutes >= self.recipe.train.save_minutes):
                self.save()
                saved = time.monotonic()
            if stopping:
                raise stop.wanted or KeyboardInterrupt

    def _due(self) -> bool:
        return self.step == self.steps or self.step % self.eval_every == 0

    def _catch_up(self) -> None:
        """Evaluate where a stop came between a step and its evaluation."""
        seen = any("eval" in line and line["step"] == self.step for line in self.history)
        if self.step and self._due() and not seen:
            self._evaluate()
            self.save()

    def _forward_module(self) -> nn.Module:
        network = self.group.wrap(self.task.network)
        if self.recipe.train.compile:
            return torch.compile(network)  # type: ignore[return-value]
        return network

    def _batches(self) -> Iterator[Batch]:
        part = self.recipe.train
        workers = worker_count(self.recipe.data.workers, self.group.size)

        def order() -> Iterator[list[Request]]:
            for step in range(self.step, self.steps):
                mine = share_of(self.plan.step(step), self.group.rank, self.group.size)
                yield from (share_of(mine, i, part.accumulate) for i in range(part.accumulate))

        pin = self.group.device.type == "cuda"
        return load_batches(self.task, order(), workers=workers, pin=pin)

    def _train_step(self, network: nn.Module, batches: Iterator[Batch], stop: _Stop) -> bool:
        """One optimiser step; returns whether all processes shall stop after it."""
        part = self.recipe.train
        seed = step_seed(part.seed, self.step, self.group.rank)
        seed_everything(seed)
        rng = np.random.default_rng(seed)
        network.train()
        if part.batch_norm == "frozen":
            freeze_batch_norm(network)
        # A rate that changes would make torch.compile begin anew at every step.
        progress = 1.0 if part.compile else self.step / self.steps
        set_drop_path(self.task.model, self.recipe.model, progress)
        lr = set_lr(self.optimizer, self.schedule.factor(self.step))
        self.optimizer.zero_grad(set_to_none=True)
        seen: list[Batch] = []
        losses: list[Loss] = []
        for micro in range(part.accumulate):
            with self.meter.waiting():
                batch = next(batches)
            seen.append(batch)
            last = micro == part.accumulate - 1
            with self._local_gradients(network, last):
                loss = self._loss(network, batch.to(self.group.device), rng)
                self.scaler.scale(loss.total).backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
        summed = self.meter.add(losses, images=self.plan.batch_size, stop=stop.wanted is not None)
        self._check_finite(summed.loss, seen, losses, "loss")
        self._apply(summed.weight, seen, losses)
        self.step += 1
        if self.average is not None:
            self.average.update(self.task.model, self.step)
        self._log(lr, summed.loss, done=self.step == self.steps)
        return summed.stop

    def _local_gradients(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Gradients are exchanged once per step, with the last micro-batch."""
        if self.group.size == 1 or last or not hasattr(network, "no_sync"):
            return nullcontext()
        return network.no_sync()  # type: ignore[no-any-return, operator]

    def _autocast(self) -> AbstractContextManager[Any]:
        precision = self.recipe.train.precision
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        return torch.autocast(self.group.device.type, dtype, enabled=precision != "fp32")

    def _loss(self, network: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        images = normalise(batch.tensors["image"], self.task.info)
        images = images.contiguous(memory_format=self.memory)
        images, batch = self.task.change(images, batch, rng)
        average = None
        with self._autocast():
            if self._mesa_now() and self.average is not None:
                with torch.no_grad():
                    average = self.average.model(images)
            outputs = network(images)
        return self.task.loss(outputs, batch, images=images, average=average)

    def _mesa_now(self) -> bool:
        part = self.recipe.train
        return part.mesa_ratio > 0 and self.step >= part.mesa_start * self.steps

    def _apply(self, weight: float, seen: list[Batch], losses: list[Loss]) -> None:
        """Turn the added gradients into those of one batch, clip them, and step."""
        part = self.recipe.optimizer
        if weight == 0:
            return  # nothing in the whole batch counted
        self.scaler.unscale_(self.optimizer)
        norm = finish_gradients(
            self.task.network.parameters(),
            scale=self.group.size / weight,
            clip_value=part.clip_value,
            clip_norm=part.clip_norm,
        )
        if not self.scaler.is_enabled():  # with fp16, the scaler skips such a step and goes on
            self._check_finite(float(norm), seen, losses, "gradient")
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def _check_finite(self, value: float, seen: list[Batch], losses: list[Loss], what: str) -> None:
        if math.isfinite(value):
            return
        guilty = [
            batch
            for batch, loss in zip(seen, losses, strict=True)
            if not bool(torch.isfinite(loss.total))
        ]
        files = [self.task.where(r.index) for batch in guilty or seen for r in batch.requests]
        if len(files) > _LISTED:
            files = [*files[:_LISTED], f"{len(files) - _LISTED} more"]
        kept = self.folder.checkpoint
        good = f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint yet"
        raise EvitError(
            f"the {what} is {value} at step {self.step + 1}, in a batch of {', '.join(files)}",
            hint=f"{good}; start anew from {self.folder.last.name} (model.init) with a lower"
            " optimizer.lr, clipped gradients, or in fp32 or bf16",
        )

    def _log(self, lr: float, loss: float, *, done: bool) -> None:
        speed = self.meter.lap(force=done)
        self.progress.advance(
            self.plan.batch_size,
            loss=loss,
            epoch=self.plan.epoch(self.step),
            **({} if self.best is None else {self.task.metric: self.best}),
        )
        if speed is not None:
            epoch = round(self.plan.epoch(self.step), 4)
            self._note({"step": self.step, "epoch": epoch, "lr": lr, **speed})

    def _note(self, line: dict[str, Any]) -> None:
        self.history.append(line)
        if self.group.first:
            self.folder.append_log(line)

    def _agreed(self, wish: bool) -> bool:
        """The first process decides, so that all save at the same step."""
        return bool(self.group.sum(torch.tensor(float(wish and self.group.first))).item())

    def _evaluate(self) -> None:
        started = time.monotonic()
        trained = self.task.model if self.average is None else self.average.model
        model, score = measure(self.recipe, self.task, trained, self.group)
        value = score.values[self.task.metric]
        seconds = round(time.monotonic() - started, 2)
        self._note({"step": self.step, "eval": dict(score.values), "seconds": seconds})
        # NaN, where no validation pixel has a label, is no best value.
        better = self.best is None or math.isnan(self.best) or value > self.best
        self.best = value if better or self.best is None else self.best
        if self.group.first:
            keep(self.folder, self.task, model, history=self.history, best=better)
        self.meter.restart()

    def save(self) -> None:
        """Write a checkpoint of the step that was just done."""
        if not self.group.first:
            return
        average = None if self.average is None else self.average.model.state_dict()
        save_snapshot(
            self.folder.checkpoint,
            Snapshot(
                step=self.step,
                recipe=dump_recipe(self.recipe),
                network=self.task.network.state_dict(),
                average=average,
                optimizer=self.optimizer.state_dict(),
                scaler=self.scaler.state_dict(),
                best=self.best,
                history=self.history,
            ),
        )
