"""From a lowered model to an .onnx file: torch.export, simplified, checked, typed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evit_cli.errors import EvitError, require
from evit_cli.export.onnx_opset import write_in_opset
from evit_cli.export.plan import ExportPlan
from evit_cli.export.quiet import quiet_libraries
from evit_cli.export.sam_decoder import free_sides, sample_prompts
from evit_cli.runtime.fixed_input import output_name
from evit_cli.runtime.sam_part import DECODER
from evit_cli.types import Backend

_EXPORTER_OPSET = 18
_IR_VERSION = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9}
"""The IR version that came with each opset: what a parser of that age reads."""

NOT_IN_TENSORRT = frozenset({"Resize:cubic", "Mod", "NonZero", "Unique", "Det"})
NOT_IN_TENSORRT_8 = frozenset(
    {"HardSwish", "LayerNormalization", "Gelu", "Mish", "Trilu", "GridSample", "GroupNormalization"}
)
"""Operators that TensorRT 8.2's parser table lacks and that some exporter might write."""


@dataclass(frozen=True)
class Signature:
    """What a graph takes and gives.

    Attributes:
        samples: inputs for tracing, in order.
        inputs: their names.
        outputs: names of the outputs.
        free: by input, the sides that are not fixed: axis -> `torch.export.Dim`; None for none.
    """

    samples: tuple[torch.Tensor, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    free: tuple[dict[int, Any], ...] | None = None


def signature_of(plan: ExportPlan) -> Signature:
    """The signature of an image model, or of a half of a SAM model."""
    sam = plan.sam
    if sam is not None and sam.part == DECODER:
        named = free_sides(sam)
        free = tuple(named.values()) if any(named.values()) else None
        outputs = tuple(spec.name for spec in sam.outputs)
        return Signature(sample_prompts(sam), tuple(named), outputs, free)
    output = output_name(plan.info.task) if sam is None else sam.outputs[0].name
    return Signature((_sample_image(plan),), ("image",), (output,), _free_image(plan))


def _sample_image(plan: ExportPlan) -> torch.Tensor:
    """An input of the plan's shape and dtype, for tracing."""
    size = plan.size_hw
    shape = (*size, 3) if plan.form.channels_last else (3, *size)
    return torch.zeros(plan.batch, *shape, dtype=torch.uint8 if plan.form.uint8 else torch.float32)


def _free_image(plan: ExportPlan) -> tuple[dict[int, Any], ...] | None:
    if plan.largest_hw is None:
        return None
    stride = plan.info.preprocess.stride
    rows, columns = (
        stride * torch.export.Dim(name, min=low // stride, max=high // stride)
        for name, low, high in zip(("rows", "columns"), plan.size_hw, plan.largest_hw, strict=True)
    )
    first = 1 if plan.form.channels_last else 2
    return ({first: rows, first + 1: columns},)


def write_onnx(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
    """Write `path`, one file, whose inputs and outputs have the names of `signature_of`.

    Args:
        model: an `ImageModel` or a `DecoderGraph`, already float16 or with quantisers where that is
            wanted.
        path: to write.
        plan: opset and shapes.

    Raises:
        EvitError: the exporter failed, or the file is not valid ONNX, or holds what the device's
            parser does not take.
        MissingDependency: onnx, onnxscript or onnxslim is not installed.
    """
    for module in ("onnx", "onnxscript", "onnxslim"):
        require(module, extra="export", why="writing an .onnx file")
    import onnx
    import onnxslim

    exported = _export(model, plan)
    slim = onnxslim.slim(exported)
    slim = slim if slim is not None else exported
    if plan.opset != _EXPORTER_OPSET:
        write_in_opset(slim, plan.opset)
    slim.ir_version = _IR_VERSION[plan.opset]
    slim.producer_name, slim.doc_string = "evit", ""
    del slim.metadata_props[:]
    try:
        onnx.checker.check_model(slim, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise EvitError(
            f"the exported graph is not valid ONNX of opset {plan.opset}: {first_line(error)}",
            hint=f"use --opset {_EXPORTER_OPSET}",
        ) from error
    check_operators(slim, plan)
    onnx.save_model(slim, str(path))


def _export(model: nn.Module, plan: ExportPlan) -> Any:
    signature = signature_of(plan)
    with quiet_libraries(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                model.eval(),
                signature.samples,
                dynamo=True,
                opset_version=_EXPORTER_OPSET,
                input_names=list(signature.inputs),
                output_names=list(signature.outputs),
                dynamic_shapes=signature.free,
                verbose=False,
            )
        except (OSError, MemoryError):  # of the machine, not of the model
            raise
        except Exception as error:  # the exporter's own classes are private
            raise EvitError(
                f"PyTorch's exporter failed: {first_line(error)}",
                hint="report the model, the size and the versions of torch and onnxscript",
            ) from error
    assert program is not None
    return program.model_proto


def operators(model: Any) -> set[str]:
    """The operators of a graph; a `Resize` carries its mode, as in "Resize:cubic"."""
    found = set()
    for node in model.graph.node:
        mode = next((a.s.decode() for a in node.attribute if a.name == "mode"), "")
        found.add(f"{node.op_type}:{mode}" if node.op_type == "Resize" else node.op_type)
        if node.op_type == "Pad" and len(node.input) > 2 and node.input[2]:
            found.add("Pad:value")
    return found


def check_operators(model: Any, plan: ExportPlan) -> None:
    """Refuse what the target's parser would refuse, here rather than on the board.

    Raises:
        EvitError: an operator is not taken.
    """
    if plan.backend is not Backend.TENSORRT:
        return
    refused = set(NOT_IN_TENSORRT)
    if plan.opset < 17:
        refused |= NOT_IN_TENSORRT_8
    wrong = sorted(operators(model) & refused)
    if wrong:
        raise EvitError(f"TensorRT takes no {wrong[0]}, and the graph has one")


def float_types(model: Any) -> set[str]:
    """The float types of a graph's weights: "float16", "float32"."""
    import onnx

    names = {onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.FLOAT: "float32"}
    return {names[t.data_type] for t in model.graph.initializer if t.data_type in names}


def first_line(error: BaseException) -> str:
    """Of what it says."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason")
