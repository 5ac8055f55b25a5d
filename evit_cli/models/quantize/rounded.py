"""A model in training that computes as its int8 form will (quantisation-aware training).

Weights and activations are rounded in the forward pass, and gradients go straight through the
rounding (Jacob et al., arXiv 1712.05877, section 3). What is trained are the float weights of the
ordinary model, so what is saved is an ordinary checkpoint, and its int8 form is made by the export
like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from evit_cli.models.fuse import fuse
from evit_cli.models.layers import ConvNorm
from evit_cli.models.quantize.bias import correct_biases
from evit_cli.models.quantize.equalise import equalise
from evit_cli.models.quantize.layers import QuantizedConv2d, Range, weight_scales
from evit_cli.models.quantize.quantise import quantise
from evit_cli.models.quantize.ranges import METHOD, collect_ranges
from evit_cli.models.quantize.sixfold import sixfold, sixths

MEASURE_EVERY = 100
"""Training passes after which ranges and corrections are measured anew. In a trial on the published
B0, 400 steps of 4 images (CamVid val at 384x512, every fifth image, simulated: mean IoU 0.612 in
float32), an export found 0.605 of what was trained with them (and the equalisation) taken anew
every 100 steps, and 0.581 with those of the start."""


def simulate_fast(
    model: nn.Module, batches: Sequence[Tensor], *, islands: Collection[str]
) -> nn.Module:
    """The int8 form without gates as an export makes it: equalised, measured, corrected.

    Args:
        model: classifier or segmenter; it is copied, not changed.
        batches: its inputs, normalised RGB (B, 3, H, W).
        islands: paths of modules that stay float.
    """
    equal = equalise(fuse(model), batches, islands=islands, gates=())
    plain = sixfold(equal, islands=islands)
    int8 = quantise(plain, collect_ranges(plain, batches, method=METHOD), islands=islands)
    correct_biases(plain, int8, batches)
    return int8


@torch.no_grad()
def equalise_inside(
    model: nn.Module, batches: Sequence[Tensor], *, islands: Collection[str]
) -> None:
    """Equalise a model in place and in its own layout; its outputs stay the same.

    The fused weights go into the convolutions and what BatchNorm added into its bias; the rest of
    BatchNorm becomes the identity. So the optimiser's steps are alike for all channels, where the
    published weights differ by two decades, and the export, which equalises too, finds little left
    to do.

    Args:
        model: classifier or segmenter with its BatchNorm.
        batches: its inputs, normalised RGB (B, 3, H, W).
        islands: paths of modules that are left as they are.
    """
    equal = equalise(fuse(model), batches, islands=islands, gates=())
    state = dict(equal.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.weight.fill_(1.0)
            module.bias.copy_(state[f"{name.removesuffix('norm')}conv.bias"])
            module.running_mean.fill_(0.0)
            module.running_var.fill_(1.0 - module.eps)
        elif isinstance(module, nn.Conv2d):
            module.weight.copy_(state[f"{name}.weight"])
            if module.bias is not None:
                module.bias.copy_(state[f"{name}.bias"])


def fused_tensors(model: nn.Module) -> dict[str, tuple[Tensor, Tensor | None]]:
    """Weight and bias of every convolution after fusing, by its path, with their gradients."""
    found: dict[str, tuple[Tensor, Tensor | None]] = {
        name: (module.weight, module.bias)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    for name, module in model.named_modules():
        if isinstance(module, ConvNorm) and isinstance(module.norm, nn.BatchNorm2d):
            norm = module.norm
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight = module.conv.weight * scale.view(-1, 1, 1, 1)
            found[f"{name}.conv"] = (weight, norm.bias - norm.running_mean * scale)
    return found


class RoundedModel(nn.Module):
    """Runs a model as its fast int8 form, on the model's own weights.

    Ranges of activations, and what correcting the biases adds to them, are constants to the
    gradient; every `MEASURE_EVERY` training passes the weights are equalised, and these measured
    anew.

    Args:
        model: classifier or segmenter; it is equalised in place.
        batches: its inputs to measure on, normalised RGB (B, 3, H, W).
        islands: paths of modules that stay float.
    """

    def __init__(
        self, model: nn.Module, batches: Sequence[Tensor], *, islands: Collection[str]
    ) -> None:
        super().__init__()
        self.model = model
        self._batches, self._islands, self._passes = batches, islands, 0
        names = {module: name for name, module in model.named_modules()}
        self._sixths = {names[following] for _, following in sixths(model, islands=islands)}
        self.measure()

    @torch.no_grad()
    def measure(self) -> None:
        """Equalise, then choose ranges and corrections, for the weights as they are."""
        device = next(self.model.parameters()).device
        batches = [batch.to(device) for batch in self._batches]
        equalise_inside(self.model, batches, islands=self._islands)
        plain = self._plain()
        ranges = collect_ranges(plain, batches, method=METHOD)
        int8 = quantise(plain, ranges, islands=self._islands)
        correct_biases(plain, int8, batches)
        given = fused_tensors(plain)
        shifts: dict[str, Tensor] = {}
        for name, module in int8.named_modules():
            if isinstance(module, QuantizedConv2d):
                bias = given[name][1]
                shifts[name] = module.bias.data - (0 if bias is None else bias)
        self._take(int8, ranges, shifts)

    def _plain(self) -> nn.Module:
        return sixfold(fuse(self.model), islands=self._islands)

    def _take(
        self, int8: nn.Module, ranges: Mapping[str, Range], shifts: Mapping[str, Tensor]
    ) -> None:
        self._int8 = (int8,)  # in a tuple: it is made of the model, not a part of its state
        self._ranges, self._shifts = dict(ranges), dict(shifts)

    def get_extra_state(self) -> dict[str, Any]:
        """What was measured, and how long ago."""
        ranges = {name: (r.low, r.high, r.source) for name, r in self._ranges.items()}
        return {"ranges": ranges, "shifts": self._shifts, "passes": self._passes}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on with what was measured."""
        ranges = {name: Range(*values) for name, values in state["ranges"].items()}
        int8 = quantise(self._plain(), ranges, islands=self._islands)
        self._take(int8, ranges, state["shifts"])
        self._passes = state["passes"]

    def tensors(self) -> dict[str, Tensor]:
        """The int8 form's tensors as functions of the model's."""
        found: dict[str, Tensor] = {}
        for name, (weight, bias) in fused_tensors(self.model).items():
            weight = weight / 6 if name in self._sixths else weight
            found[f"{name}.weight"] = weight
            if name in self._shifts:
                found[f"{name}.scales"] = weight_scales(weight.detach())
                shift = self._shifts[name].to(weight.device)
                bias = shift if bias is None else bias + shift
            if bias is not None:
                found[f"{name}.bias"] = bias
        return found

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) -> what the model returns."""
        if self.training:
            if self._passes and self._passes % MEASURE_EVERY == 0:
                self.measure()
            self._passes += 1
        (int8,) = self._int8
        out: Tensor = functional_call(int8.to(x.device), self.tensors(), (x,))
        return out
