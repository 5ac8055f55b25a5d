"""The weights that a training starts from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from evit_cli.config.recipe_parts import ModelPart
from evit_cli.errors import EvitError
from evit_cli.models.aggregation import MultiScaleAggregation
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.blocks import DepthwiseSeparable, FusedMBConv, MBConv, ResBlock
from evit_cli.models.build import build_model
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.sam.decoder import Mlp
from evit_cli.models.sam.drawn import DRAWN
from evit_cli.models.sam.model import Sam
from evit_cli.models.sam.transformer import Attention
from evit_cli.models.superres import SuperResolver
from evit_cli.models.variants import Variant
from evit_cli.types import Progress

_GAIN = 1.6
"""Of the variance, for a hard-swish or nothing behind a convolution."""
_QUIET = 0.1
"""Factor on what residual branches add at the start."""
_SHARP = 2.0
"""Gain of the projections that compare places: attention then falls off within a few pixels."""
_QUIET_MASKS = 0.02
"""Deviation of the last layers that mix masks, beside what is drawn."""
_DRAWN_LOGITS = (4.0, -4.0, 5.0, -2.5, 5.0)
"""What the channels of the drawing begin to say: positive spots, negative ones, the inside of the
box, having a box, the inside of a small one."""


@dataclass(frozen=True)
class Start:
    """A model to train, and the tensors that did not come from `init`."""

    model: nn.Module
    fresh: tuple[str, ...]


def start_model(
    part: ModelPart, variant: Variant, *, offline: bool = False, progress: Progress | None = None
) -> Start:
    """Build `variant` with random weights, then take over what fits from `part.init`.

    Raises:
        EvitError: the weights cannot be had, or nothing in them fits.
    """
    model = build_model(variant)
    if isinstance(model, SuperResolver):
        initialise_superres(model)
    elif isinstance(model, Sam):
        initialise(model.encoder, zero_residual=part.zero_init_residual)
        initialise_decoder(model)
    else:
        initialise(model, zero_residual=part.zero_init_residual)
    if part.init is None:
        return Start(model, tuple(model.state_dict()))
    from evit_cli.weights.load import load_model

    loaded = load_model(part.init, offline=offline, progress=progress)
    inside = _backbone_name(model)
    other = _backbone_name(loaded.model)
    ours = model.state_dict()
    theirs = {
        inside + name.removeprefix(other) if name.startswith(other) else name: tensor
        for name, tensor in loaded.model.state_dict().items()
    }
    taken = {
        name: theirs[name]
        for name, tensor in ours.items()
        if name in theirs
        and theirs[name].shape == tensor.shape
        and (part.init_part == "all" or name.startswith(inside))
    }
    missing = [name for name in ours if name.startswith(inside) and name not in taken]
    if missing:
        raise EvitError(
            f"{part.init} has another backbone than {variant.name}: '{missing[0]}' does not fit",
            hint="choose weights of the same size (b0, b1, ...) in model.init",
        )
    model.load_state_dict(taken, strict=False)
    return Start(model, tuple(name for name in ours if name not in taken))


def _backbone_name(model: nn.Module) -> str:
    """What the names of the backbone's tensors begin with."""
    return "encoder.backbone." if isinstance(model, Sam) else "backbone."


def initialise(model: nn.Module, *, zero_residual: bool) -> None:
    """The published start: truncated normals of deviation 0.02, and silent residual branches."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    if zero_residual:
        for residual in residuals(model):
            norm = _last(residual.main).norm
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.zeros_(norm.weight)


def initialise_decoder(model: Sam) -> None:
    """Tokens and pixels begin by looking at the places they share.

    Queries and keys between them start with one orthogonal projection, so that attention compares
    places; everything else is PyTorch's start. Without that, a decoder rests at the empty mask for
    longer. One that gets its prompts drawn begins with the box, or the spots of the clicks.
    """
    for name, module in model.decoder.transformer.named_modules():
        if isinstance(module, Attention) and not name.endswith("self_attention"):
            nn.init.orthogonal_(module.query.weight, gain=_SHARP)
            with torch.no_grad():
                module.key.weight.copy_(module.query.weight)
            nn.init.zeros_(module.query.bias)
            nn.init.zeros_(module.key.bias)
    if model.decoder.drawn is not None:
        for mlp in model.decoder.mask_weights:
            assert isinstance(mlp, Mlp)
            last = mlp.layers[-1]
            assert isinstance(last, nn.Linear)
            nn.init.trunc_normal_(last.weight, std=_QUIET_MASKS)
            nn.init.zeros_(last.bias)
            with torch.no_grad():
                last.bias[-DRAWN:] = torch.tensor(_DRAWN_LOGITS)


def initialise_superres(model: SuperResolver) -> None:
    """A start without norms: variances kept, quiet residual branches, nothing added to bicubic."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=math.sqrt(_GAIN / fan_in))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for residual in residuals(model):
            last = _last(residual.main)
            scaled = last.norm if isinstance(last.norm, nn.BatchNorm2d) else last.conv
            scaled.weight.mul_(_QUIET)
    nn.init.zeros_(model.head.to_pixels.weight)


def residuals(model: nn.Module) -> list[Residual]:
    """All residual blocks, from the input on."""
    return [module for module in model.modules() if isinstance(module, Residual)]


def _last(branch: nn.Module) -> ConvNorm:
    """The convolution that ends a residual branch."""
    if isinstance(branch, MultiScaleLinearAttention | MultiScaleAggregation):
        return branch.proj
    if isinstance(branch, MBConv | FusedMBConv | DepthwiseSeparable):
        return branch.point_conv
    if isinstance(branch, ResBlock):
        return branch.conv2
    raise ValueError(f"a residual branch of {type(branch).__name__} has no known end")


def drop_path_rates(count: int, *, largest: float, skips: int) -> list[float]:
    """Rates that rise linearly over the blocks; the first `skips` are never dropped."""
    last = max(count - 1, 1)
    return [0.0 if i < skips else largest * i / last for i in range(count)]


def set_drop_path(model: nn.Module, part: ModelPart, progress: float) -> None:
    """The drop-path rates at `progress` (0..1) of the training; they grow with it, as published."""
    blocks = residuals(model)
    rates = drop_path_rates(len(blocks), largest=part.drop_path, skips=part.drop_path_skips)
    for block, rate in zip(blocks, rates, strict=True):
        block.drop_path = rate * progress


def seed_everything(seed: int) -> None:
    """Seed PyTorch on all devices; nothing else here draws from a global generator."""
    torch.manual_seed(seed)
