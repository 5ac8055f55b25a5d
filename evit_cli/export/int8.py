"""From a trained model and real images to the int8 module that a converter gets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evit_cli.errors import EvitError, suggest
from evit_cli.export.fidelity import PSNR_BARS, Likeness
from evit_cli.export.lower import ImageModel, lower, replace_modules
from evit_cli.export.plan import ExportPlan
from evit_cli.export.quantize import LayerError, explain, for_onnx
from evit_cli.export.strips import StripMBConv
from evit_cli.models.blocks import MBConv
from evit_cli.models.fuse import fuse
from evit_cli.models.quantize import (
    DEFAULT_ISLANDS,
    METHOD,
    collect_ranges,
    correct_biases,
    equalise,
    quantise,
    sixfold,
    symmetric,
)
from evit_cli.types import Backend, Precision, Task


@dataclass(frozen=True)
class Int8Form:
    """How much of a model with hard-swishes is left to the fast int8 operators.

    Attributes:
        name: what the artifact says.
        gates: paths of modules whose hard-swishes get a scale per channel; elsewhere they have the
            fast form with one scale.
        islands: paths of modules that stay float.
    """

    name: str
    gates: tuple[str, ...]
    islands: tuple[str, ...]


FAST = Int8Form("fast", (), DEFAULT_ISLANDS)
"""For weights that were trained for it (`distill.quantise`)."""

GATED = Int8Form(
    "gated",
    ("backbone.stages.1", "backbone.stages.2", "backbone.stages.3"),
    (*DEFAULT_ISLANDS, "backbone.stages.0"),
)
"""For any weights. The few, wide channels of stage 0 need a scale each, and with them int8 is no
faster than float32 there.

On the published B0 (CamVid val at 384x512, every fifth image, simulated: mean IoU 0.612 in float32,
and share of pixels that keep their class; LiteRT at 512x1024 as a multiple of the float32 time):
gates everywhere but in stage 0, 0.609, 98.7 %, 0.93; as here, 0.606, 98.3 %, 0.89; in stages.1.0
alone, 0.599, 96.7 %, 0.81; nowhere, 0.533, 91.5 %, 0.76; nowhere and stage 0 in int8 (`FAST`),
0.490, 88.4 %, 0.72."""

SUPERRES = Int8Form("gated", ("backbone", "head"), DEFAULT_ISLANDS)
"""For super-resolution where `FAST` loses too much. The enlarged input is float in any case."""

NEAR = 0.92
"""Share of the pixels that must keep their class in `FAST`. Of the published B0, untrained, 0.88
do, and its mean IoU falls by 12 points; of the one trained for int8, 0.924, and it falls by
none."""

_TRIED = 8
"""Calibration images that the fast form is tried on."""

_INSIDE = "model."
"""Where the model lies in an `ImageModel`: users name layers as the model does."""

_EXPLAINED = 4
_CORRECTED = 16


@dataclass(frozen=True)
class Int8Graph:
    """What `quantised_graph` makes.

    Attributes:
        model: for the converter.
        islands: names of its float layers.
        form: the name of its `Int8Form`.
        layers: the errors of its layers, where asked for.
    """

    model: nn.Module
    islands: tuple[str, ...]
    form: str
    layers: tuple[LayerError, ...]


def quantised_graph(
    plan: ExportPlan,
    model: nn.Module,
    batches: list[Tensor],
    *,
    islands: tuple[str, ...] = (),
    explained: bool = False,
) -> Int8Graph:
    """Equalise, lower, measure ranges, quantise and correct biases.

    Of a segmenter with hard-swishes the fast form is tried first, and taken if it agrees with its
    source on the images.

    Args:
        plan: all decisions.
        model: maps normalised RGB (B, 3, H, W) to logits; it is copied, not changed.
        batches: real images as the artifact takes them, one each.
        islands: layers to keep in float, beside those of the form.
        explained: measure each layer's error.

    Raises:
        EvitError: an island that the model does not have.
    """
    _check_names(model, islands)
    fused = fuse(model)
    form, few = FAST, batches[:_TRIED]
    if swishes(model):
        form = SUPERRES if plan.info.task is Task.SUPERRES else GATED
    # The one answer per image of a classifier says too little of how near the fast form is.
    if form is not FAST and plan.info.task is not Task.CLASSIFY:
        tried = _quantised(plan, fused, few, FAST, islands)
        form = FAST if _near(plan, *tried, few) else form
    whole, quantised = _quantised(plan, fused, batches, form, islands)
    errors: tuple[LayerError, ...] = ()
    if explained:
        errors = tuple(explain(whole, quantised, batches[:_EXPLAINED]))
    kept = _kept(form, islands)
    if plan.backend is not Backend.TFLITE:
        return Int8Graph(for_onnx(quantised), kept, form.name, errors)
    for name in kept:
        replace_modules(quantised.get_submodule(_INSIDE + name), MBConv, StripMBConv)
    return Int8Graph(quantised, kept, form.name, errors)


def swishes(model: nn.Module) -> bool:
    """Whether a model's stages have hard-swishes, which gates could help."""
    stages = model.get_submodule("backbone.stages.0").modules()
    return any(isinstance(module, nn.Hardswish) for module in stages)


def _kept(form: Int8Form, islands: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*form.islands, *islands)))


def _quantised(
    plan: ExportPlan,
    fused: nn.Module,
    batches: list[Tensor],
    form: Int8Form,
    islands: tuple[str, ...],
) -> tuple[nn.Module, nn.Module]:
    """The lowered float model in a form, and its int8 twin."""
    kept = _kept(form, islands)
    equal = equalise(fused, _normalised(plan, batches), islands=kept, gates=form.gates)
    lowered = lower(sixfold(equal, islands=kept), plan.size_hw, plan.form)
    whole = ImageModel(lowered, plan.info.preprocess, plan.form, plan.size_hw)
    with torch.inference_mode():
        ranges = collect_ranges(whole, batches, method=METHOD)
        tensorrt = plan.backend is Backend.TENSORRT
        quantised = quantise(
            whole,
            symmetric(ranges) if tensorrt else ranges,
            islands=tuple(_INSIDE + name for name in kept),
            float_activations=tensorrt,
        )
    correct_biases(whole, quantised, batches[:_CORRECTED])
    return whole, quantised


def _near(plan: ExportPlan, model: nn.Module, quantised: nn.Module, batches: list[Tensor]) -> bool:
    """Whether an int8 form agrees with its source as an artifact must."""
    if plan.info.task is not Task.SUPERRES:
        return agreement(plan, model, quantised, batches) >= NEAR
    likeness = Likeness()
    with torch.inference_mode():
        for batch in batches:
            likeness.add(quantised(batch).numpy(), model(batch).numpy())
    return likeness.psnr_db >= PSNR_BARS[Precision.INT8].good


def agreement(
    plan: ExportPlan, model: nn.Module, quantised: nn.Module, batches: Iterable[Tensor]
) -> float:
    """The share of positions to which two models give the same class."""
    classes = -1 if plan.form.outputs_last else 1
    with torch.inference_mode():
        same = [
            (model(batch).argmax(classes) == quantised(batch).argmax(classes)).float().mean()
            for batch in batches
        ]
    return float(torch.stack(same).mean())


def _check_names(model: nn.Module, names: tuple[str, ...]) -> None:
    known = {name for name, _ in model.named_modules() if name}
    for name in names:
        if name not in known:
            raise EvitError(
                f"the model has no layer '{name}' to keep in float",
                hint=f"{suggest(name, known)} (--explain lists the layers)",
            )


def _normalised(plan: ExportPlan, batches: Iterable[Tensor]) -> list[Tensor]:
    """The images as the bare model takes them, (1, 3, H, W) of mean 0 and deviation 1."""
    preprocess = plan.info.preprocess
    mean = 255 * torch.tensor(preprocess.mean_rgb).view(1, 3, 1, 1)
    std = 255 * torch.tensor(preprocess.std_rgb).view(1, 3, 1, 1)
    first = [b.permute(0, 3, 1, 2) if plan.form.channels_last else b for b in batches]
    return [(image.float() - mean) / std for image in first]
