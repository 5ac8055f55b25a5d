"""Runs a TensorRT engine (.engine, .plan) that `evit export` built on this kind of GPU.

Written against NVIDIA's documented Python API of 10.x and 11.x, which are the same for what is used
here, tested against a stand-in and not run on a GPU by us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.runtime import cuda_memory
from evit_cli.runtime.container import model_length
from evit_cli.runtime.description import read_description
from evit_cli.runtime.fixed_input import (
    as_stored,
    check_image,
    expect_input,
    image_spec,
    output_name,
    size_range,
)
from evit_cli.runtime.tensorrt_api import Complaints, import_tensorrt, make_logger
from evit_cli.types import Backend, TensorSpec

Shape = tuple[int | None, ...]


class TensorRTSession:
    """A `Session` over an engine with one image input and one output.

    Documented: Runtime.deserialize_cuda_engine, ICudaEngine.num_io_tensors, get_tensor_name, _mode,
    _shape, _dtype and _profile_shape, create_execution_context; IExecutionContext.set_input_shape,
    get_tensor_shape, set_tensor_address, execute_async_v3; trt.nptype.

    Args:
        path: the engine; its description is in it or beside it.
        threads: of no meaning on a GPU.

    Raises:
        EvitError: the engine is missing, damaged, or of another TensorRT or GPU.
        MissingDependency: TensorRT, or what reaches the GPU's memory, is not installed.
    """

    backend = Backend.TENSORRT

    def __init__(self, path: Path, *, threads: int | None = None) -> None:
        self._description = read_description(path)
        self.info, self.precision = self._description.info, self._description.precision
        self._trt = import_tensorrt("running an engine")
        self._complaints = Complaints()
        self._buffers: dict[str, tuple[int, int]] = {}  # name -> (address, size in bytes)
        self._shape: tuple[int, ...] = ()
        self._memory = cuda_memory.open_device_memory()
        try:
            self._open(path)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path) -> None:
        self._logger = make_logger(self._trt, self._complaints)
        self._runtime = self._trt.Runtime(self._logger)
        with path.open("rb") as file:
            engine = file.read(model_length(path))
        self._engine = self._runtime.deserialize_cuda_engine(engine)
        if self._engine is None:
            raise self._unreadable(path)
        self._input, self._output = self._tensor_names(path)
        self._input_dtype = self._dtype(self._input)
        self._output_dtype = self._dtype(self._output)
        found = TensorSpec(self._input, self._free_shape(self._input), self._input_dtype.name)
        expect_input(found, self._description, path)
        self.inputs = (image_spec(self._description),)
        self.range_hw = size_range(self._description)
        self._name = output_name(self.info.task)
        self.outputs = (TensorSpec(self._name, self._free_shape(self._output), "float32"),)
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed(f"{path} does not fit on the GPU")

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or "upscaled"; see `Session`."""
        image = inputs["image"]
        check_image(image, self._description)
        # A name keeps the array alive and unchanged until the queued copy is done.
        source = as_stored(image, self._description)
        if source.shape != self._shape:
            self._prepare(source.shape)
        result = np.empty(tuple(self._context.get_tensor_shape(self._output)), self._output_dtype)
        self._complaints.errors.clear()
        self._memory.copy_in(self._buffers[self._input][0], source)
        if not self._context.execute_async_v3(stream_handle=self._memory.stream):
            raise self._failed("TensorRT failed")
        self._memory.copy_out(self._buffers[self._output][0], result)
        self._memory.synchronise()
        return {self._name: result[: len(image)].astype(np.float32, copy=False)}

    def prepare(self, inputs: Mapping[str, npt.NDArray[Any]]) -> Callable[[], object]:
        """The execution alone, with input and output on the GPU; see `Session`."""
        self.run(inputs)  # checks them, and copies the input

        def compute() -> None:
            if not self._context.execute_async_v3(stream_handle=self._memory.stream):
                raise self._failed("TensorRT failed")
            self._memory.synchronise()

        return compute

    def close(self) -> None:
        """Free the buffers and the engine."""
        for address, _ in self._buffers.values():
            with suppress(EvitError):
                self._memory.free(address)
        self._buffers.clear()
        # The documented order: a context before its engine, an engine before its runtime.
        for name in ("_context", "_engine", "_runtime", "_logger"):
            if hasattr(self, name):
                delattr(self, name)
        with suppress(EvitError):
            self._memory.close()

    def _prepare(self, shape: tuple[int, ...]) -> None:
        """Tell the engine the shape of the input, and give it buffers for it."""
        self._shape = ()
        self._complaints.errors.clear()
        if not self._context.set_input_shape(self._input, shape):
            low, _, high = self._engine.get_tensor_profile_shape(self._input, 0)
            raise EvitError(
                f"the engine takes {tuple(low)} to {tuple(high)}, not {shape}",
                hint="export it again: its description says otherwise",
            )
        out = tuple(int(side) for side in self._context.get_tensor_shape(self._output))
        if any(side < 0 for side in out):
            raise self._failed(f"the size of the output for an input of {shape} is not known")
        sizes = {
            self._input: int(np.prod(shape)) * self._input_dtype.itemsize,
            self._output: int(np.prod(out)) * self._output_dtype.itemsize,
        }
        for name, size_bytes in sizes.items():
            self._reserve(name, size_bytes)
            if not self._context.set_tensor_address(name, self._buffers[name][0]):
                raise self._failed(f"the engine does not take a buffer for '{name}'")
        self._shape = shape

    def _reserve(self, name: str, size_bytes: int) -> None:
        """A buffer for a tensor that is at least this large."""
        address, held = self._buffers.get(name, (0, 0))
        if held >= size_bytes:
            return
        if held:
            del self._buffers[name]
            self._memory.free(address)
        self._buffers[name] = (self._memory.allocate(size_bytes), size_bytes)

    def _tensor_names(self, path: Path) -> tuple[str, str]:
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = self._trt.TensorIOMode
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == modes.INPUT]
        outputs = [name for name in names if self._engine.get_tensor_mode(name) == modes.OUTPUT]
        if len(inputs) != 1 or len(outputs) != 1:
            raise EvitError(
                f"{path} has inputs {inputs} and outputs {outputs}, and evit runs one of each",
                hint="build it with `evit export`",
            )
        return inputs[0], outputs[0]

    def _dtype(self, name: str) -> np.dtype[Any]:
        found: np.dtype[Any] = np.dtype(self._trt.nptype(self._engine.get_tensor_dtype(name)))
        return found

    def _free_shape(self, name: str) -> Shape:
        shape = (int(side) for side in self._engine.get_tensor_shape(name))
        return tuple(None if side < 0 else side for side in shape)

    def _failed(self, what: str) -> EvitError:
        if self._complaints.mention("out of memory", "outofmemory", "memory allocation"):
            return cuda_memory.out_of_memory()
        return EvitError(f"{what}: {self._complaints.first}")

    def _unreadable(self, path: Path) -> EvitError:
        """Why an engine was not taken, by what TensorRT logged."""
        version = self._trt.__version__
        if self._complaints.mention("incompatible device", "compute capability"):
            what = f"was built on another kind of GPU than the {self._memory.gpu} here"
        elif self._complaints.mention("version of tensorrt", "version tag", "version compat"):
            what = f"was built with another TensorRT than the {version} here"
        else:
            what = f"is no engine that TensorRT {version} can read"
        return EvitError(
            f"{path} {what}: {self._complaints.first}",
            hint="an engine belongs to its GPU and TensorRT; build it again on this machine: "
            f"evit export --model {self.info.name} --target tensorrt",
        )
