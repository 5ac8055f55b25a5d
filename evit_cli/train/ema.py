"""The exponential moving average of a model's weights, as the published training has it."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


class WeightAverage:
    """Keeps `average = d average + (1 - d) weights`, d = decay (1 - exp(-t / tau)) at step t >= 1.

    Early on the average follows the weights closely; later it remembers 1 / (1 - decay) steps.

    Args:
        model: its weights now are the average's start.
        decay: largest d.
        tau: steps in which d approaches it.
    """

    def __init__(self, model: nn.Module, *, decay: float, tau: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay, self.tau = decay, tau

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (from 1)."""
        d = self.decay * (1 - math.exp(-step / self.tau))
        ours, theirs = self._floats(self.model), self._floats(model)
        torch._foreach_lerp_(ours, theirs, 1 - d)

    @staticmethod
    def _floats(model: nn.Module) -> list[Tensor]:
        """Parameters and running statistics, in one order; counters stay behind."""
        return [t for t in model.state_dict().values() if t.is_floating_point()]
