"""From a trained model and real images to the int8 module that a converter gets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evit_cli.errors import EvitError, suggest
from evit_cli.export.lower import ImageModel, lower, replace_modules
from evit_cli.export.plan import ExportPlan
from evit_cli.export.quantize import (
    DEFAULT_ISLANDS,
    LayerError,
    collect_ranges,
    correct_biases,
    equalise,
    explain,
    for_onnx,
    quantise,
)
from evit_cli.export.strips import StripMBConv
from evit_cli.models.blocks import MBConv
from evit_cli.models.fuse import fuse
from evit_cli.types import Backend

METHOD = "mse"
FLOAT_STAGE = "backbone.stages.0"
"""Its few, wide channels need a scale each, and with them int8 is no faster than float32 there."""

GATED = ("backbone.stages.1", "backbone.stages.2", "backbone.stages.3")
"""Where hard-swish gets a scale per channel; elsewhere the faster form with one scale is enough.

On the published B0 (CamVid val at 384x512, every fifth image, simulated: mean IoU 0.612 in float32,
and share of pixels that keep their class; LiteRT at 512x1024 as a multiple of the float32 time):
everywhere but in stage 0, 0.609, 98.7 %, 0.93; as here, 0.606, 98.3 %, 0.89; in stages.1.0 alone,
0.599, 96.7 %, 0.81; nowhere, 0.533, 91.5 %, 0.78."""

_INSIDE = "model."
"""Where the model lies in an `ImageModel`: users name layers as the model does."""

_EXPLAINED = 4
_CORRECTED = 16


def quantised_graph(
    plan: ExportPlan,
    model: nn.Module,
    batches: list[Tensor],
    *,
    islands: tuple[str, ...] = (),
    explained: bool = False,
) -> tuple[nn.Module, tuple[str, ...], tuple[LayerError, ...]]:
    """Equalise, lower, measure ranges, quantise and correct biases.

    Args:
        plan: all decisions.
        model: maps normalised RGB (B, 3, H, W) to logits; it is copied, not changed.
        batches: real images as the artifact takes them, one each.
        islands: layers to keep in float, beside the stem and, in the B series, stage 0.
        explained: measure each layer's error.

    Returns:
        The module for the converter, the names of its float layers, and the errors.

    Raises:
        EvitError: an island that the model does not have.
    """
    kept = _islands(model, islands)
    equal = equalise(fuse(model), _normalised(plan, batches), islands=kept, gates=GATED)
    whole = ImageModel(lower(equal, plan.size_hw, plan.form), plan.info.preprocess, plan.form)
    inside = tuple(_INSIDE + name for name in kept)
    with torch.inference_mode():
        ranges = collect_ranges(whole, batches, method=METHOD)
        quantised = quantise(whole, ranges, islands=inside)
    correct_biases(whole, quantised, batches[:_CORRECTED])
    errors: tuple[LayerError, ...] = ()
    if explained:
        errors = tuple(explain(whole, quantised, batches[:_EXPLAINED]))
    if plan.backend is not Backend.TFLITE:
        return for_onnx(quantised), kept, errors
    for name in inside:
        replace_modules(quantised.get_submodule(name), MBConv, StripMBConv)
    return quantised, kept, errors


def _islands(model: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    known = {name for name, _ in model.named_modules() if name}
    for name in names:
        if name not in known:
            raise EvitError(
                f"the model has no layer '{name}' to keep in float",
                hint=f"{suggest(name, known)} (--explain lists the layers)",
            )
    swishes = any(isinstance(m, nn.Hardswish) for m in model.get_submodule(FLOAT_STAGE).modules())
    own = (*DEFAULT_ISLANDS, FLOAT_STAGE) if swishes else DEFAULT_ISLANDS
    return tuple(dict.fromkeys((*own, *names)))


def _normalised(plan: ExportPlan, batches: Iterable[Tensor]) -> list[Tensor]:
    """The images as the bare model takes them, (1, 3, H, W) of mean 0 and deviation 1."""
    preprocess = plan.info.preprocess
    mean = 255 * torch.tensor(preprocess.mean_rgb).view(1, 3, 1, 1)
    std = 255 * torch.tensor(preprocess.std_rgb).view(1, 3, 1, 1)
    first = [b.permute(0, 3, 1, 2) if plan.form.channels_last else b for b in batches]
    return [(image.float() - mean) / std for image in first]
