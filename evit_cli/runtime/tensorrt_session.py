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
    decoder_of,
    expect_inputs,
    input_specs,
    output_names,
    rows_of,
    size_range,
    stored_inputs,
)
from evit_cli.runtime.tensorrt_api import Complaints, import_tensorrt, make_logger
from evit_cli.types import Backend, TensorSpec

Shape = tuple[int | None, ...]


class TensorRTSession:
    """A `Session` over an engine of an image model, or of a half of a SAM model.

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
        self._shapes: dict[str, tuple[int, ...]] = {}
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
        taken, given = self._tensor_names(path)
        self._dtypes = {name: self._dtype(name) for name in (*taken, *given)}
        found = [TensorSpec(n, self._free_shape(n), self._dtypes[n].name) for n in taken]
        expect_inputs(found, self._description, path)
        self.inputs = input_specs(self._description)
        # Of an image model the engine may call its one input and output as it likes.
        own = taken if len(taken) > 1 else [self.inputs[0].name]
        self._feeds = dict(zip(own, taken, strict=True))
        names = output_names(self._description)
        self._results = dict(zip(names, given if len(given) == 1 else names, strict=True))
        self.range_hw, self.sam = size_range(self._description), self._description.sam
        self.outputs = tuple(
            TensorSpec(name, self._free_shape(tensor), "float32")
            for name, tensor in self._results.items()
        )
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise self._failed(f"{path} does not fit on the GPU")

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """`{"image": (B, H, W, 3) uint8}` -> `{"logits": float32}` or others; see `Session`."""
        # A name keeps the arrays alive and unchanged until the queued copies are done.
        stored = {
            self._feeds[name]: array
            for name, array in stored_inputs(inputs, self._description).items()
        }
        shapes = {name: array.shape for name, array in stored.items()}
        if shapes != self._shapes:
            self._prepare(shapes)
        results = {
            name: np.empty(tuple(self._context.get_tensor_shape(tensor)), self._dtypes[tensor])
            for name, tensor in self._results.items()
        }
        self._complaints.errors.clear()
        for tensor, source in stored.items():
            self._memory.copy_in(self._buffers[tensor][0], source)
        if not self._context.execute_async_v3(stream_handle=self._memory.stream):
            raise self._failed("TensorRT failed")
        for name, result in results.items():
            self._memory.copy_out(self._buffers[self._results[name]][0], result)
        self._memory.synchronise()
        rows = rows_of(inputs)
        return {n: result[:rows].astype(np.float32, copy=False) for n, result in results.items()}

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

    def _prepare(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Tell the engine the shapes of its inputs, and give it buffers for all tensors."""
        self._shapes = {}
        self._complaints.errors.clear()
        for name, shape in shapes.items():
            if not self._context.set_input_shape(name, shape):
                low, _, high = self._engine.get_tensor_profile_shape(name, 0)
                raise EvitError(
                    f"the engine takes {tuple(low)} to {tuple(high)}, not {shape}",
                    hint="export it again: its description says otherwise",
                )
        sides = dict(shapes)
        for tensor in self._results.values():
            sides[tensor] = tuple(int(side) for side in self._context.get_tensor_shape(tensor))
            if any(side < 0 for side in sides[tensor]):
                given = ", ".join(str(shape) for shape in shapes.values())
                raise self._failed(f"the size of the output for an input of {given} is not known")
        for name, shape in sides.items():
            self._reserve(name, int(np.prod(shape)) * self._dtypes[name].itemsize)
            if not self._context.set_tensor_address(name, self._buffers[name][0]):
                raise self._failed(f"the engine does not take a buffer for '{name}'")
        self._shapes = dict(shapes)

    def _reserve(self, name: str, size_bytes: int) -> None:
        """A buffer for a tensor that is at least this large."""
        address, held = self._buffers.get(name, (0, 0))
        if held >= size_bytes:
            return
        if held:
            del self._buffers[name]
            self._memory.free(address)
        self._buffers[name] = (self._memory.allocate(size_bytes), size_bytes)

    def _tensor_names(self, path: Path) -> tuple[list[str], list[str]]:
        """Of the inputs and of the outputs."""
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        modes = self._trt.TensorIOMode
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == modes.INPUT]
        outputs = [name for name in names if self._engine.get_tensor_mode(name) == modes.OUTPUT]
        wanted = output_names(self._description)
        decoder = decoder_of(self._description) is not None
        fits = set(outputs) == set(wanted) if decoder else len(inputs) == len(outputs) == 1
        if not fits:
            raise EvitError(
                f"{path} has inputs {inputs} and outputs {outputs}, and evit runs "
                + (f"{list(wanted)}" if decoder else "one of each"),
                hint="build it with `evit export`",
            )
        return inputs, outputs

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
