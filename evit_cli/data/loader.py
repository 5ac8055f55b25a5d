"""Batches from worker processes, in the order of a `Plan`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from evit_cli.data.sampling import Request
from evit_cli.errors import EvitError

if TYPE_CHECKING:
    import torch

Sample = Mapping[str, "npt.NDArray[Any] | np.generic | int | float"]
_MOST_WORKERS = 16
_PREFETCHED = 3


class TrainExamples(Protocol):
    """A set that makes training examples."""

    def sample(self, request: Request) -> Sample:
        """One example: arrays of one shape per name and size, for example "image" and "target"."""

    def where(self, index: int) -> str:
        """The file of an example, for messages."""


@dataclass(frozen=True)
class Batch:
    """Examples of one micro-batch: tensors of shape (B, ...), by name."""

    requests: Sequence[Request]
    tensors: Mapping[str, torch.Tensor]

    def __len__(self) -> int:
        return len(self.requests)

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        moved = {name: t.to(device, non_blocking=True) for name, t in self.tensors.items()}
        return Batch(self.requests, moved)

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU can fetch from; the loader calls it."""
        return Batch(self.requests, {name: t.pin_memory() for name, t in self.tensors.items()})


class _Mapped:
    """What a worker process works on; an error becomes a value, so that it arrives as it was."""

    def __init__(self, examples: TrainExamples) -> None:
        self._examples = examples

    def __getitem__(self, requests: list[Request]) -> Batch | EvitError:
        try:
            return Batch(requests, stack([self._examples.sample(r) for r in requests]))
        except EvitError as error:
            return EvitError(error.message, hint=error.hint, exit_code=error.exit_code)


def stack(samples: Sequence[Sample]) -> dict[str, torch.Tensor]:
    """Samples of equal shapes -> one tensor per name."""
    import torch

    return {
        name: torch.from_numpy(np.stack([np.asarray(sample[name]) for sample in samples]))
        for name in samples[0]
    }


def worker_count(wanted: int | Literal["auto"], processes: int = 1) -> int:
    """Loader workers per training process: by default the cores, shared among the processes.

    Two cores or fewer get one worker: more would only take turns with the model.
    """
    if wanted != "auto":
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(_MOST_WORKERS, (cores or 1) // max(processes, 1) - 1))


def _start_worker(_: int) -> None:
    import cv2

    cv2.setNumThreads(0)  # the workers themselves are the parallelism
    for number in (signal.SIGINT, signal.SIGTERM):  # the training answers those sent to the group
        signal.signal(number, signal.SIG_IGN)


def load_batches(
    examples: TrainExamples, batches: Iterable[list[Request]], *, workers: int, pin: bool = False
) -> Iterator[Batch]:
    """Batches in the order of `batches`, read ahead by `workers` processes (0: in this one).

    Raises:
        EvitError: an example cannot be read; the message names its file.
    """
    import torch
    from torch.utils.data import DataLoader

    options: dict[str, Any] = {}
    if workers:
        options = {"prefetch_factor": _PREFETCHED, "worker_init_fn": _start_worker}
    loader: DataLoader[Any] = DataLoader(
        _Mapped(examples),  # type: ignore[arg-type]
        batch_size=None,
        sampler=batches,
        num_workers=workers,
        pin_memory=pin,
        generator=torch.Generator(),  # else the loader would draw from the global one
        **options,
    )
    for loaded in loader:
        if isinstance(loaded, EvitError):
            raise loaded
        yield loaded
