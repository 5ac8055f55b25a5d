"""From a lowered model to a .tflite file through litert-torch, without ONNX in between."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import nn

from evit_cli.errors import EvitError, require
from evit_cli.export.onnx import first_line, signature_of
from evit_cli.export.plan import ExportPlan
from evit_cli.export.quantize import litert_config
from evit_cli.export.quiet import quiet_libraries
from evit_cli.types import Precision


def write_litert(model: nn.Module, path: Path, *, plan: ExportPlan) -> None:
    """Write `path`.

    Args:
        model: an `ImageModel` or a `DecoderGraph` in float32, with quantisers where int8 is wanted.
        path: to write.
        plan: shapes and precision.

    Raises:
        EvitError: the converter failed.
        MissingDependency: litert-torch is not installed.
    """
    with quiet_libraries():
        litert = require("litert_torch", extra="export", why="writing a .tflite file")
        options = {"quant_config": litert_config()} if plan.precision is Precision.INT8 else {}
        samples = signature_of(plan).samples
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                litert.convert(model.eval(), samples, **options).export(str(path))
            except (OSError, MemoryError):  # of the machine, not of the model
                raise
            except Exception as error:  # its passes raise whatever they stumble over
                raise EvitError(
                    f"litert-torch failed: {first_line(error)}",
                    hint="report the model, the size and the version of litert-torch",
                ) from error
    if plan.precision is Precision.FP16:
        _halve_weights(path)


def _halve_weights(path: Path) -> None:
    """Store the weights as float16, which XNNPACK turns back or computes in, as the device can."""
    quantizer = require("ai_edge_quantizer", extra="export", why="a float16 .tflite file")
    with quiet_libraries():
        job = quantizer.Quantizer(str(path))
        job.update_quantization_recipe(
            regex=".*",
            operation_name=quantizer.qtyping.TFLOperationName.ALL_SUPPORTED,
            op_config=quantizer.qtyping.OpQuantizationConfig(
                weight_tensor_config=quantizer.qtyping.TensorQuantizationConfig(
                    num_bits=16, dtype=quantizer.qtyping.TensorDataType.FLOAT
                ),
                compute_precision=quantizer.qtyping.ComputePrecision.FLOAT,
            ),
            algorithm_key=quantizer.recipe_manager.AlgorithmName.FLOAT_CASTING,
        )
        path.write_bytes(job.quantize().quantized_model)
