"""From an .onnx file to an OpenVINO model: an .xml file with its weights in a .bin beside it."""

from __future__ import annotations

from pathlib import Path

from evit_cli.errors import EvitError, require
from evit_cli.types import Precision


def write_openvino(onnx: Path, path: Path, *, precision: Precision) -> None:
    """Write `path` (.xml) and the .bin beside it.

    Args:
        onnx: float32, or with Q/DQ pairs for int8.
        path: to write.
        precision: FP16 stores the weights in float16; what computes is chosen where it runs.

    Raises:
        EvitError: OpenVINO does not take the graph.
        MissingDependency: openvino is not installed.
    """
    openvino = require("openvino", extra="openvino", why="writing an OpenVINO model")
    try:
        model = openvino.convert_model(str(onnx))
        openvino.save_model(model, str(path), compress_to_fp16=precision is Precision.FP16)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()
        raise EvitError(f"OpenVINO does not take the graph: {reason[-1] if reason else ''}") from (
            error
        )
