"""AdamW with parameter groups, the learning rate of each step, and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evit_cli.config.recipe_parts import OptimizerPart


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up from 0, then half a cosine, per step.

    Attributes:
        steps: of the whole training.
        warmup: steps of them that warm up.
        final: share of the peak at the end.
    """

    steps: int
    warmup: int = 0
    final: float = 0.0

    def factor(self, step: int) -> float:
        """The share of the peak learning rate that `step` (from 0) is run with."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


def parameter_groups(model: nn.Module, part: OptimizerPart) -> list[dict[str, object]]:
    """Up to four groups: backbone or not, with weight decay or without.

    Biases and everything else with one dimension (the norms) are not decayed.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = ("backbone." in name, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "peak_lr": part.lr * (part.backbone_lr_scale if backbone else 1.0),
            "lr": 0.0,
            "weight_decay": part.weight_decay if decays else 0.0,
        }
        for (backbone, decays), parameters in sorted(groups.items())
    ]


def build_optimizer(model: nn.Module, part: OptimizerPart) -> torch.optim.AdamW:
    """AdamW over the groups of `parameter_groups`."""
    return torch.optim.AdamW(
        parameter_groups(model, part), lr=part.lr, betas=part.betas, eps=part.eps
    )


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    """Give every group its peak times `factor`; returns the largest."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor
    return max(float(group["lr"]) for group in optimizer.param_groups)


def finish_gradients(
    parameters: Iterable[nn.Parameter],
    *,
    scale: float,
    clip_value: float | None = None,
    clip_norm: float | None = None,
) -> Tensor:
    """Scale the gradients in place, then clip them; returns their norm before clipping (0-d)."""
    with_gradient = [p for p in parameters if p.grad is not None]
    gradients: list[Tensor] = [p.grad for p in with_gradient if p.grad is not None]
    torch._foreach_mul_(gradients, scale)
    if clip_value is not None:
        norm = nn.utils.get_total_norm(gradients)
        nn.utils.clip_grad_value_(with_gradient, clip_value)
        return norm
    limit = math.inf if clip_norm is None else clip_norm
    return nn.utils.clip_grad_norm_(with_gradient, limit)
