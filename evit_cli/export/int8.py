"""From a trained model and real images to the int8 module that a converter gets."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from evit_cli.errors import EvitError, suggest
from evit_cli.export.lower import ImageModel, lower
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
from evit_cli.models.fuse import fuse
from evit_cli.types import Backend

METHOD = "mse"
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
        islands: layers to keep in float, beside `DEFAULT_ISLANDS`.
        explained: measure each layer's error.

    Returns:
        The module for the converter, the names of its float layers, and the errors.

    Raises:
        EvitError: an island that the model does not have.
    """
    kept = _islands(model, islands)
    equal = equalise(fuse(model), _normalised(plan, batches), islands=kept)
    whole = ImageModel(lower(equal, plan.size_hw, plan.form), plan.info.preprocess, plan.form)
    inside = tuple(_INSIDE + name for name in kept)
    with torch.inference_mode():
        ranges = collect_ranges(whole, batches, method=METHOD)
        quantised = quantise(whole, ranges, islands=inside)
    correct_biases(whole, quantised, batches[:_CORRECTED])
    errors: tuple[LayerError, ...] = ()
    if explained:
        errors = tuple(explain(whole, quantised, batches[:_EXPLAINED]))
    result = quantised if plan.backend is Backend.TFLITE else for_onnx(quantised)
    return result, kept, errors


def _islands(model: nn.Module, names: tuple[str, ...]) -> tuple[str, ...]:
    known = {name for name, _ in model.named_modules() if name}
    for name in names:
        if name not in known:
            raise EvitError(
                f"the model has no layer '{name}' to keep in float",
                hint=f"{suggest(name, known)} (--explain lists the layers)",
            )
    return tuple(dict.fromkeys((*DEFAULT_ISLANDS, *names)))


def _normalised(plan: ExportPlan, batches: Iterable[Tensor]) -> list[Tensor]:
    """The images as the bare model takes them, (1, 3, H, W) of mean 0 and deviation 1."""
    preprocess = plan.info.preprocess
    mean = 255 * torch.tensor(preprocess.mean_rgb).view(1, 3, 1, 1)
    std = 255 * torch.tensor(preprocess.std_rgb).view(1, 3, 1, 1)
    first = [b.permute(0, 3, 1, 2) if plan.form.channels_last else b for b in batches]
    return [(image.float() - mean) / std for image in first]
