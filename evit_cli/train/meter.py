"""Sums over micro-batches and processes, and how fast the loop goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from evit_cli.train.distributed import Group
from evit_cli.train.task import Loss

_LAP_S = 10.0


@dataclass(frozen=True)
class StepSum:
    """One step over all processes: the mean loss, the weight, and whether any shall stop."""

    loss: float
    weight: float
    stop: bool


class Meter:
    """Adds up losses, and times the loop and its waiting for data."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.restart()

    def restart(self) -> None:
        """Begin a lap; what was spent outside the loop (an evaluation) does not count."""
        self._begun = time.monotonic()
        self._waited = 0.0
        self._images = 0
        self._sums: dict[str, float] = {}
        self._steps = 0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent here is time without data."""
        begun = time.monotonic()
        try:
            yield
        finally:
            self._waited += time.monotonic() - begun

    def add(self, losses: Sequence[Loss], *, images: int, stop: bool) -> StepSum:
        """Take in one step; the exchange with the other processes happens here."""
        names = sorted(losses[0].parts)
        values = [
            torch.stack([loss.total.detach() for loss in losses]).sum(),
            torch.stack([loss.weight for loss in losses]).sum(),
            losses[0].total.new_tensor(float(stop)),
            *(torch.stack([loss.parts[n].detach() for loss in losses]).sum() for n in names),
        ]
        total, weight, stops, *parts = self._group.sum(torch.stack(values).double()).tolist()
        safe = weight or 1.0
        self._images += images
        self._steps += 1
        for name, value in zip(["loss", *names], [total, *parts], strict=True):
            self._sums[name] = self._sums.get(name, 0.0) + value / safe
        return StepSum(total / safe, weight, stops > 0)

    def lap(self, *, force: bool = False) -> dict[str, float] | None:
        """Every ten seconds: mean losses, images per second and the share of time waited."""
        elapsed = time.monotonic() - self._begun
        if (elapsed < _LAP_S and not force) or not self._steps:
            return None
        line = {name: value / self._steps for name, value in self._sums.items()}
        line["images_per_s"] = round(self._images / elapsed, 3)
        line["data_wait"] = round(self._waited / elapsed, 4)
        self.restart()
        return line
