"""What differs where a SAM model is exported: two artifacts, one per half, that work together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evit_cli.errors import UsageError
from evit_cli.export.form import Form
from evit_cli.models.specs import SamHeadSpec
from evit_cli.models.variants import VARIANTS
from evit_cli.runtime.sam_part import DECODER, ENCODER, SamPart
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision

if TYPE_CHECKING:
    from evit_cli.export.plan import Choice, ExportPlan, ExportRequest

_SIDE = 64
"""Of every embedding."""
_USUAL_WIDTH = 256
FEW_POINTS = 8
"""Points per prompt where their number is fixed: a box and six clicks."""
MOST_POINTS = 64
MOST_PROMPTS = {Backend.ONNX: 64, Backend.OPENVINO: 64, Backend.TENSORRT: 16}
"""Prompts per run where their number is free. An engine reserves memory for the most."""


@dataclass(frozen=True)
class Bucket:
    """How many prompts, and points of each, a decoder takes.

    Attributes:
        prompts: the most per run, or the only number; None for the usual one.
        points: the same of the points of each.
    """

    prompts: int | None = None
    points: int | None = None


USUAL = Bucket()


def check_sam_request(request: ExportRequest, info: ModelInfo) -> None:
    """Refuse what a SAM model cannot be exported to.

    Raises:
        UsageError: another size than the model's, free sizes, or several images.
    """
    own = info.preprocess.size_hw
    if request.largest_hw is not None or request.size_hw not in (None, own):
        asked = request.largest_hw or request.size_hw
        raise UsageError(
            f"{info.name} takes {own}, not {asked}", hint="leave --size and --max-size away"
        )
    if request.batch != 1:
        raise UsageError(
            f"an encoder takes one image, not {request.batch}", hint="leave --batch away"
        )


def split(plan: ExportPlan, request: ExportRequest) -> ExportPlan:
    """The plan of the encoder, with that of the decoder in it.

    Args:
        plan: of the whole model, as of any other.
        request: what the user asked for.
    """
    width = _USUAL_WIDTH
    if plan.info.name in VARIANTS:
        head = VARIANTS[plan.info.name].head
        width = head.width if isinstance(head, SamHeadSpec) else width
    embedding = (width, _SIDE, _SIDE)
    prompts, points, why = _limits(plan, request.bucket)
    precision, precision_why = _decoder_precision(plan)
    count = f"{_range(prompts)} prompts of {_range(points)} points"
    choices = (
        _choice("decoder", precision.value, precision_why),
        _choice("decoder takes", count, why),
    )
    decoder = replace(
        plan,
        precision=precision,
        path=part_path(plan.path, DECODER),
        sam=SamPart(DECODER, embedding, prompts=prompts, points=points),
        form=_norms(plan, precision),
    )
    return replace(
        plan,
        path=part_path(plan.path, ENCODER),
        sam=SamPart(ENCODER, embedding),
        form=_norms(plan, plan.precision),
        decoder=decoder,
        choices=(*plan.choices, *choices),
    )


def with_embedding(plan: ExportPlan, channels: int) -> ExportPlan:
    """The plan for a model whose embedding has so many channels."""
    assert plan.sam is not None
    sam = replace(plan.sam, embedding=(channels, _SIDE, _SIDE))
    decoder = None if plan.decoder is None else with_embedding(plan.decoder, channels)
    return replace(plan, sam=sam, decoder=decoder)


def stem_of(info: ModelInfo, size_hw: ImageSize, precision: Precision) -> str:
    """The name of an encoder's file without its suffix; the decoder's differs in that one word."""
    return f"{info.name.replace('/', '-')}-{ENCODER}-{size_hw}-{precision.value}"


def part_path(path: Path, part: str) -> Path:
    """The file of a part, from the file of either part or of the whole."""
    for own in (ENCODER, DECODER):
        head, found, tail = path.name.rpartition(own)
        if found:
            return path.with_name(f"{head}{part}{tail}")
    return path.with_name(f"{path.stem}-{part}{path.suffix}")


def _choice(what: str, value: str, why: str) -> Choice:
    from evit_cli.export.plan import Choice

    return Choice(what, value, why)


def _norms(plan: ExportPlan, precision: Precision) -> Form:
    """Norms that float16 can hold, where it may compute them."""
    chosen_there = plan.backend is Backend.TENSORRT
    typed = precision is Precision.FP16 and plan.backend is Backend.ONNX
    return replace(plan.form, scaled_norms=chosen_there or typed)


def _limits(plan: ExportPlan, bucket: Bucket) -> tuple[tuple[int, int], tuple[int, int], str]:
    """Fewest and most prompts and points of a decoder, and why."""
    if plan.backend is Backend.TFLITE:
        prompts, points = bucket.prompts or 1, bucket.points or FEW_POINTS
        why = "a .tflite file takes one shape; absent points fill it up"
        return (prompts, prompts), (points, points), why
    prompts = bucket.prompts or MOST_PROMPTS[plan.backend]
    points = bucket.points or MOST_POINTS
    return (1, prompts), (1, points), "any number between, without padding"


def _decoder_precision(plan: ExportPlan) -> tuple[Precision, str]:
    weak = plan.profile is not None and plan.profile.weakly_typed
    if weak and plan.backend is Backend.TENSORRT and plan.precision is not Precision.FP32:
        why = "this TensorRT would compute the points' sines in float16"
        return Precision.FP32, why
    if plan.precision is not Precision.INT8:
        return plan.precision, "as the encoder"
    if plan.backend is Backend.TENSORRT:
        return Precision.FP16, "int8 is for the encoder"
    return Precision.FP32, "int8 is for the encoder"


def _range(limits: tuple[int, int]) -> str:
    low, high = limits
    return str(low) if low == high else f"{low} to {high}"
