"""One training in several processes, on one machine or many, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor, nn

from evit_cli.errors import EvitError

T = TypeVar("T")
_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class Group:
    """The processes of a run; a single one needs no communication.

    Attributes:
        rank: this process, from 0.
        size: how many there are.
        device: what this one computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, on the device; the same everywhere."""
        values = values.to(self.device, copy=True)
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def total(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sum of integer arrays over all processes."""
        if self.size == 1:
            return counts
        return np.asarray(self.sum(torch.from_numpy(counts)).cpu().numpy(), dtype=np.int64)

    def share(self, items: Sequence[T]) -> list[T]:
        """Every `size`-th item, beginning at `rank`."""
        return list(items[self.rank :: self.size])

    def align(self, model: nn.Module) -> None:
        """Give all processes the running statistics of the first, whose weights are kept."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        """End the communication."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose gradients are averaged over the processes."""
        if self.size == 1:
            return model
        ids = [self.device] if self.device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(model, device_ids=ids)


def join() -> Group:
    """Join the processes that torchrun started; alone without it.

    Raises:
        EvitError: torchrun's variables are set, and the others cannot be reached.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    cuda = torch.cuda.is_available()
    device = torch.device("cuda", local) if cuda else torch.device("cpu")
    if cuda:
        torch.cuda.set_device(device)
    if size == 1:
        return Group(0, 1, device)
    try:
        dist.init_process_group("nccl" if cuda else "gloo", timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise EvitError(
            f"the other processes of this run cannot be reached: {error}",
            hint="start all of them with torchrun; see docs/train.md",
        ) from error
    return Group(dist.get_rank(), dist.get_world_size(), device)


class _AllSum(torch.autograd.Function):
    """Sum over processes whose gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


class SyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes, on any device.

    PyTorch's own runs on GPUs only. All processes must have batches of one size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out; in training with the statistics of all processes."""
        mean_seen, var_seen, seen = self.running_mean, self.running_var, self.num_batches_tracked
        if not self.training or mean_seen is None or var_seen is None or seen is None:
            return super().forward(x)
        n = x.numel() / x.shape[1] * dist.get_world_size()
        wide = x.float()  # sums of bfloat16 would be rounded to three digits
        own = torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))])
        sums: Tensor = _AllSum.apply(own)  # type: ignore[no-untyped-call]
        mean = sums[0] / n
        var = (sums[1] / n - mean.square()).clamp(min=0)
        with torch.no_grad():
            seen.add_(1)
            # Without a momentum, the plain mean over all batches.
            newest = 1 / float(seen) if self.momentum is None else self.momentum
            mean_seen.lerp_(mean, newest)
            var_seen.lerp_(var * (n / (n - 1)), newest)
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return (x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)).to(x.dtype)


def synchronise_batch_norm(model: nn.Module, group: Group) -> nn.Module:
    """Make every BatchNorm of `model` count the batches of all processes."""
    if group.size == 1:
        return model
    if group.device.type == "cuda":
        converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return cast(nn.Module, converted)
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm
    return model
