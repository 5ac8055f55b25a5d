"""What each exporter needs to make int8 operators of a quantised model."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from torch import nn

from evit_cli.errors import require
from evit_cli.models.quantize.layers import QuantizedConv2d

M = TypeVar("M", bound=nn.Module)


def litert_config() -> Any:
    """The `quant_config` for `litert_torch.convert` with which pairs become int8 operators.

    Without it the converter leaves float operators between quantize and dequantize. The quantizer
    in it is not run: the model is quantised already.

    Raises:
        MissingDependency: litert-torch is not installed.
    """
    why = "writing an int8 .tflite file"
    quantizers = require("litert_torch.quantize.pt2e_quantizer", extra="export", why=why)
    configs = require("litert_torch.quantize.quant_config", extra="export", why=why)
    static = quantizers.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return configs.QuantConfig(pt2e_quantizer=quantizers.PT2EQuantizer().set_global(static))


def for_onnx(quantised: M) -> M:
    """A copy for `torch.onnx.export`, whose weights are int8 constants."""
    result = copy.deepcopy(quantised)
    for module in result.modules():
        if isinstance(module, QuantizedConv2d):
            module.store_codes()
    return result
