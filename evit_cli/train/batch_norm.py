"""BatchNorm in training: frozen statistics, and their re-estimation before evaluation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evit_cli.train.distributed import Group

_KINDS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def batch_norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """All BatchNorm layers, in order."""
    return [module for module in model.modules() if isinstance(module, _KINDS)]  # type: ignore[misc]


def freeze_batch_norm(model: nn.Module) -> None:
    """Normalise with the running statistics, and leave them as they are.

    `model.train()` would undo it: call this after.
    """
    for norm in batch_norms(model):
        norm.eval()


@torch.no_grad()
def reestimate(model: nn.Module, batches: Iterable[Tensor], group: Group) -> None:
    """Replace the running statistics by the mean over `batches`, as the published training does.

    The running averages of training belong to weights that have moved on, and those of an averaged
    model (EMA) to no weights at all.

    Args:
        model: changed in place; left in evaluation mode.
        batches: normalised RGB (B, 3, H, W); each process brings its own.
        group: the processes; all end with the same statistics.
    """
    norms = batch_norms(model)
    model.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over all batches
        norm.train()
    seen = 0
    for images in batches:
        model(images)
        seen += 1
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                statistic.copy_(group.sum(statistic * seen) / group.sum(torch.tensor(float(seen))))
