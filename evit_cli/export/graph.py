"""From a trained model and a plan to the module that a converter gets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evit_cli.errors import EvitError
from evit_cli.export.fidelity import centre_tile
from evit_cli.export.images import FEWEST_CALIBRATION_IMAGES, ImageSet, load_images
from evit_cli.export.int8 import quantised_graph
from evit_cli.export.lower import ImageModel, lower
from evit_cli.export.plan import ExportPlan
from evit_cli.export.rounding import absorb_rounding
from evit_cli.export.sam_decoder import DecoderGraph
from evit_cli.inference.preprocess import Placement, fit, resize_short_and_crop
from evit_cli.inference.sam_frame import encoder_input
from evit_cli.models.precision import to_half
from evit_cli.models.quantize import METHOD
from evit_cli.models.sam.model import Sam
from evit_cli.runtime.sam_part import DECODER
from evit_cli.types import Backend, ImageSize, Precision, Task

_ROUNDING_IMAGES, _ROUNDING_PIXELS = 4, 2**22
"""How many photographs show what rounding shifts: at most 4, and 2 of 1024x2048. With 4 as with 8
the worst frames of CamVid keep 99.92 % of their classes, with 2 99.89 % (B0, float16 weights)."""


@dataclass(frozen=True)
class Built:
    """A module ready for a converter.

    Attributes:
        model: image in, logits out.
        islands: names of the layers that stay in higher precision.
        calibration: for the description of an int8 artifact.
        layers: the error of each layer of an int8 model, where asked for.
    """

    model: nn.Module
    islands: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    layers: tuple[Any, ...] = ()


def build_graph(
    plan: ExportPlan,
    model: nn.Module,
    calibration: ImageSet | None,
    *,
    islands: tuple[str, ...] = (),
    explain: bool = False,
) -> Built:
    """Lower, quantise or halve the model as the plan says.

    Args:
        plan: all decisions.
        model: maps normalised RGB (B, 3, H, W) to logits, or a SAM model, of which the plan's part
            is taken; it is copied, not changed.
        calibration: real images; needed for int8.
        islands: layers to keep in float in an int8 model, beside those that evit chooses.
        explain: measure each layer's error in an int8 model.

    Raises:
        EvitError: int8 without images.
    """
    if isinstance(model, Sam):
        assert plan.sam is not None
        if plan.sam.part == DECODER:
            return _decoder(plan, model)
        model = model.encoder
    if plan.precision is Precision.INT8:
        return _quantised(plan, model, calibration, islands, explain)
    lowered = lower(model, plan.size_hw, plan.form)
    image_model = ImageModel(lowered, plan.info.preprocess, plan.form, plan.size_hw)
    dtype = _rounded_to(plan)
    if dtype is not None:
        absorb_rounding(image_model, _rounding_images(plan), dtype=dtype)
    kept = to_half(image_model) if plan.typed_fp16 else ()
    return Built(image_model, islands=tuple(name.removeprefix("model.") for name in kept))


def _decoder(plan: ExportPlan, model: Sam) -> Built:
    dtype = torch.float16 if plan.typed_fp16 else torch.float32
    graph = DecoderGraph(model.decoder, dtype=dtype, scaled_norms=plan.form.scaled_norms)
    return Built(graph, islands=graph.islands)


def _quantised(
    plan: ExportPlan,
    model: nn.Module,
    images: ImageSet | None,
    islands: tuple[str, ...],
    explain: bool,
) -> Built:
    if images is None:
        raise EvitError(
            "int8 needs real images to measure its ranges on",
            hint=f"--calib DIR with at least {FEWEST_CALIBRATION_IMAGES} images as the model will "
            "see them",
        )
    inputs = [_as_input(plan, canvas[None]) for canvas in canvases(plan, images)]
    made = quantised_graph(plan, model, inputs, islands=islands, explained=explain)
    calibration = {
        "sha256": images.sha256,
        "images": images.count,
        "method": METHOD,
        "form": made.form,
    }
    return Built(made.model, made.islands, calibration, made.layers)


def _rounded_to(plan: ExportPlan) -> torch.dtype | None:
    """What the runtime will round the weights to, None where they stay as they are."""
    if plan.typed_fp16:
        return torch.float16
    if plan.backend is Backend.OPENVINO and plan.precision is Precision.FP16:
        # It computes in bfloat16 where the processor can, and rounds the biases to it as well.
        return torch.bfloat16
    return None


def _rounding_images(plan: ExportPlan) -> Tensor:
    """Embedded photographs as one batch of the artifact's input, as many as memory is meant for."""
    fit_in = _ROUNDING_PIXELS // (plan.size_hw.height * plan.size_hw.width)
    photos = load_images(None, limit=min(max(fit_in, 1), _ROUNDING_IMAGES))
    return _as_input(plan, np.stack(list(canvases(plan, photos))))


def _as_input(plan: ExportPlan, images: npt.NDArray[Any]) -> Tensor:
    """(B, H, W, 3) of 0..255 in the artifact's layout and dtype."""
    batch = torch.from_numpy(images)
    batch = batch if plan.form.uint8 else batch.float()
    return batch if plan.form.channels_last else batch.permute(0, 3, 1, 2)


def canvases(plan: ExportPlan, images: ImageSet) -> Iterator[npt.NDArray[Any]]:
    """Each image in the plan's size, (H, W, 3), uint8 or of a SAM model float32."""
    preprocess = plan.info.preprocess
    for image in images:
        canvas: npt.NDArray[Any]
        if plan.info.task is Task.SAM:
            canvas = encoder_input(image, plan.size_hw.height, preprocess.mean_rgb)[0]
        elif plan.info.task is Task.CLASSIFY:
            canvas = resize_short_and_crop(image, preprocess)
        elif plan.info.task is Task.SUPERRES:
            canvas = centre_tile(image, plan.size_hw)
        else:
            height, width = image.shape[:2]
            placement = Placement(ImageSize(height, width), plan.size_hw, plan.size_hw)
            canvas = fit(image, placement, interpolation=preprocess.interpolation)
        yield np.ascontiguousarray(canvas)
