"""The half of the stand-in that runs engines: host memory, engines and contexts.

`tensorrt_standin` puts it together.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from evit_cli.runtime import cuda_memory
from evit_cli.runtime.cuda_memory import Gpu

ORIN = Gpu("Orin", "8.7")
A100 = Gpu("NVIDIA A100-SXM4-40GB", "8.0")
MAGIC = b"ftrt"
STREAMS: dict[int, list[Callable[[], None]]] = {}
"""What is queued on each stream, by its handle."""
SIZES: dict[int, int] = {}
"""Bytes of each buffer that was allocated last at an address."""


class HostMemory:
    """`DeviceMemory` in numpy: addresses are real, and nothing happens before `synchronise`."""

    def __init__(self, gpu: Gpu = ORIN, *, size_bytes: int = 1 << 30) -> None:
        self.gpu, self.size_bytes = gpu, size_bytes
        self.buffers: dict[int, np.ndarray] = {}
        self.queue: list[Callable[[], None]] = []
        self.stream = id(self)
        self.closed = False
        STREAMS[self.stream] = self.queue

    def allocate(self, size_bytes: int) -> int:
        held = sum(buffer.nbytes for buffer in self.buffers.values())
        if held + size_bytes > self.size_bytes:
            raise cuda_memory.out_of_memory()
        buffer = np.full(size_bytes, 0xA5, np.uint8)
        self.buffers[buffer.ctypes.data] = buffer
        SIZES[buffer.ctypes.data] = size_bytes
        return int(buffer.ctypes.data)

    def copy_in(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous and array.nbytes <= SIZES[address]
        self.queue.append(lambda: ctypes.memmove(address, array.ctypes.data, array.nbytes) and None)

    def copy_out(self, address: int, array: np.ndarray) -> None:
        assert array.flags.c_contiguous and array.nbytes <= SIZES[address]
        self.queue.append(lambda: ctypes.memmove(array.ctypes.data, address, array.nbytes) and None)

    def synchronise(self) -> None:
        while self.queue:
            self.queue.pop(0)()

    def free(self, address: int) -> None:
        del self.buffers[address]

    def close(self) -> None:
        self.closed = True
        STREAMS.pop(self.stream, None)


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    INT64 = 8


_ONNX_TYPES = {1: "FLOAT", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "HALF"}
NUMPY_TYPES = {
    "FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32,
    "BOOL": np.bool_, "UINT8": np.uint8, "INT64": np.int64,
}  # fmt: skip


class Dims(tuple[int, ...]):
    """As the real one: a sequence of sides, -1 where free."""


class IHostMemory(bytes):
    @property
    def nbytes(self) -> int:
        return len(self)


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3
        VERBOSE = 4

    def __init__(self) -> None:
        self.initialised = True

    def log(self, severity: Severity, msg: str) -> None:
        raise RuntimeError("Tried to call pure virtual function ILogger::log")


def log_error(logger: ILogger, message: str) -> None:
    logger.log(ILogger.Severity.ERROR, message)


def shape_of(value: onnx.ValueInfoProto) -> Dims:
    sides = value.type.tensor_type.shape.dim
    return Dims(side.dim_value if side.HasField("dim_value") else -1 for side in sides)


def dtype_of(onnx_type: int) -> DataType:
    return DataType[_ONNX_TYPES[onnx_type]]


def read_header(engine: bytes) -> dict[str, Any]:
    """What the stand-in wrote of an engine."""
    size = int.from_bytes(engine[4:8], "little")
    header: dict[str, Any] = json.loads(engine[8 : 8 + size])
    return header


def deserialize(version: str, gpu: Gpu, logger: ILogger, data: bytes) -> ICudaEngine | None:
    where = "IRuntime::deserializeCudaEngine: Error Code"
    try:
        assert data[:4] == MAGIC
        header = read_header(data)
        body = data[8 + int.from_bytes(data[4:8], "little") :]
        assert len(body) == header["size"]
    except (AssertionError, ValueError):
        log_error(logger, f"{where} 1: Serialization (Magic tag does not match.)")
        return None
    if header["version"] != version:
        log_error(
            logger,
            f"{where} 6: API Usage Error (The engine plan file is not compatible with this version "
            f"of TensorRT, expecting library version {version} got {header['version']}, "
            "please rebuild.)",
        )
        return None
    if header["compute_capability"] != gpu.compute_capability:
        log_error(
            logger,
            f"{where} 6: API Usage Error (The engine plan file is generated on an incompatible "
            f"device, expecting compute {gpu.compute_capability} got compute "
            f"{header['compute_capability']}, please rebuild.)",
        )
        return None
    return ICudaEngine(logger, onnx.load_from_string(body), header["profiles"])


class ICudaEngine:
    def __init__(self, logger: ILogger, model: onnx.ModelProto, profiles: list[Any]) -> None:
        self._logger, self._model, self._profiles = logger, model, profiles
        graph = onnx.shape_inference.infer_shapes(model).graph
        held = {tensor.name for tensor in graph.initializer}
        self._inputs = {value.name: value for value in graph.input if value.name not in held}
        self._outputs = {value.name: value for value in graph.output}
        self.num_io_tensors = len(self._inputs) + len(self._outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self._inputs, *self._outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        if name in self._inputs:
            return TensorIOMode.INPUT
        return TensorIOMode.OUTPUT if name in self._outputs else TensorIOMode.NONE

    def _value(self, name: str) -> onnx.ValueInfoProto:
        return {**self._inputs, **self._outputs}[name]

    def get_tensor_shape(self, name: str) -> Dims:
        return shape_of(self._value(name))

    def get_tensor_dtype(self, name: str) -> DataType:
        return dtype_of(self._value(name).type.tensor_type.elem_type)

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[Dims]:
        if not self._profiles:
            return [self.get_tensor_shape(name)] * 3
        return [Dims(shape) for shape in self._profiles[profile_index][name]]

    def create_execution_context(self) -> IExecutionContext:
        return IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, Dims] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: Any) -> bool:
        low, _, high = self._engine.get_tensor_profile_shape(name, 0)
        fits = len(low) == len(shape) and all(
            a <= b <= c for a, b, c in zip(low, shape, high, strict=True)
        )
        if fits:
            self._shapes[name] = Dims(shape)
        else:
            log_error(
                self._engine._logger,
                "IExecutionContext::setInputShape: Error Code 3: API Usage Error (Parameter check "
                f"failed, Supplied binding dimension {shape} does not satisfy profile.)",
            )
        return fits

    def get_tensor_shape(self, name: str) -> Dims:
        model = onnx.ModelProto()
        model.CopyFrom(self._engine._model)
        for value in model.graph.input:
            for side, size in zip(
                value.type.tensor_type.shape.dim, self._shapes.get(value.name, ()), strict=False
            ):
                side.dim_value = size
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        known = {value.name: value for value in (*graph.input, *graph.output)}
        return shape_of(known[name])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = int(memory)
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        names = {*self._engine._inputs, *self._engine._outputs}
        missing = names - set(self._addresses)
        if missing:
            log_error(
                self._engine._logger,
                f"IExecutionContext::enqueueV3: Error Code 3: API Usage Error (Address is not set "
                f"for tensor {missing.pop()}.)",
            )
            return False
        STREAMS[stream_handle].append(self._compute)
        return True

    def _compute(self) -> None:
        import onnxruntime

        session = onnxruntime.InferenceSession(
            self._engine._model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        feed = {name: self._array(name).copy() for name in self._engine._inputs}
        for name, result in zip(
            self._engine._outputs, session.run(list(self._engine._outputs), feed), strict=True
        ):
            self._array(name)[...] = result

    def _array(self, name: str) -> np.ndarray:
        """The memory of a tensor."""
        dtype = np.dtype(NUMPY_TYPES[self._engine.get_tensor_dtype(name).name])
        shape = tuple(self._shapes.get(name) or self.get_tensor_shape(name))
        size = int(np.prod(shape)) * dtype.itemsize
        held = SIZES.get(self._addresses[name], 0)
        assert size <= held, f"{name} needs {size} bytes, and its buffer has {held}"
        raw = (ctypes.c_uint8 * size).from_address(self._addresses[name])
        return np.frombuffer(raw, dtype).reshape(shape)
