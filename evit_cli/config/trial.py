"""Try one backend: `python -m evit_cli.config.trial NAME` computes x + x with it.

Run in a process of its own by `evit doctor --deep`. It says nothing: exit code 0 means the answer
was right, anything else comes with a traceback.
"""

from __future__ import annotations

import base64
import importlib
import sys
import zlib
from collections.abc import Callable
from typing import Any

# y = x + x for x float32[2], packed with LiteRT's own schema: not a format to write by hand.
_TFLITE_SUM = (
    "eNrjYGBgCHHzMT71//9/ESBbBogVgPgHEDMDMSMQswCxAFCeAQpAYiJgFh+DBJAlwMDDwAFUxQcVlwDiCCCOAeIE"
    "BgRA1geiQfq4ofoEIEq4eaDsBqB9jFA9TGhmwDADVM4A6sYnQD0cQJoHKl+JpJ8H7EYGsEqQPLK6CiR1jFA5FjBkYA"
    "AA5q4Usw=="
)


def onnx_sum() -> bytes:
    """The ONNX model y = x + x, x float32[2]; its protobuf by hand, so that onnx is not needed."""

    def field(number: int, payload: bytes | int) -> bytes:
        if isinstance(payload, int):
            return bytes([number << 3, payload])
        return bytes([number << 3 | 2, len(payload)]) + payload

    def value(name: bytes) -> bytes:
        shape = field(1, field(1, 2))  # one dimension of size 2
        tensor = field(1, 1) + field(2, shape)  # element type 1 is float32
        return field(1, name) + field(2, field(1, tensor))

    node = field(1, b"x") + field(1, b"x") + field(2, b"y") + field(4, b"Add")
    graph = field(1, node) + field(2, b"sum") + field(11, value(b"x")) + field(12, value(b"y"))
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))


def tflite_sum() -> bytes:
    """The TFLite model y = x + x for x float32[2]."""
    return zlib.decompress(base64.b64decode(_TFLITE_SUM))


def _input() -> Any:
    import numpy as np

    return np.array([1.0, 2.0], dtype=np.float32)


def _expect(answer: Any) -> None:
    values = [float(value) for value in answer]
    if values != [2.0, 4.0]:
        raise RuntimeError(f"[1, 2] + [1, 2] gave {values}")


def try_torch() -> None:
    """Torch on the CPU, and on the GPU when it says it has one."""
    torch = importlib.import_module("torch")
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        x = torch.tensor([1.0, 2.0], device=device)
        _expect((x + x).cpu())


def try_onnx() -> None:
    """ONNX Runtime."""
    ort = importlib.import_module("onnxruntime")
    session = ort.InferenceSession(onnx_sum(), providers=["CPUExecutionProvider"])
    _expect(session.run(None, {"x": _input()})[0])


def try_tflite() -> None:
    """LiteRT, or the older tflite_runtime."""
    try:
        interpreter_module = importlib.import_module("ai_edge_litert.interpreter")
    except ModuleNotFoundError:
        interpreter_module = importlib.import_module("tflite_runtime.interpreter")
    interpreter = interpreter_module.Interpreter(model_content=tflite_sum())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], _input())
    interpreter.invoke()
    _expect(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def try_tensorrt() -> None:
    """TensorRT: build an engine of one layer, which needs a working GPU. Not run by us on one."""
    trt = importlib.import_module("tensorrt")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    # 8.x wants this flag, 10 ignores it, a later one may have dropped it.
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    network = builder.create_network(0 if explicit is None else 1 << int(explicit))
    x = network.add_input("x", trt.float32, (2,))
    layer = network.add_elementwise(x, x, trt.ElementWiseOperation.SUM)
    network.mark_output(layer.get_output(0))
    if builder.build_serialized_network(network, builder.create_builder_config()) is None:
        raise RuntimeError("TensorRT builds no engine, not even of a single sum")


def try_openvino() -> None:
    """OpenVINO on the CPU."""
    core = importlib.import_module("openvino").Core()
    compiled = core.compile_model(core.read_model(onnx_sum()), "CPU")
    _expect(compiled([_input()])[0])


TRIALS: dict[str, Callable[[], None]] = {
    "torch": try_torch,
    "onnx": try_onnx,
    "tflite": try_tflite,
    "tensorrt": try_tensorrt,
    "openvino": try_openvino,
}


if __name__ == "__main__":
    TRIALS[sys.argv[1]]()
