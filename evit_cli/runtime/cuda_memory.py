"""Memory of the GPU behind one small protocol, over cuda-python or, without it, PyTorch.

Written against the documented APIs and not run on a GPU by us.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, MissingDependency

# cuda-python 12.6 moved the runtime API; JetPack 6 users may have an older one.
_CUDA_PYTHON = ("cuda.bindings.runtime", "cuda.cudart")


@dataclass(frozen=True)
class Gpu:
    """Which GPU: its name, and its compute capability as "8.7"."""

    name: str
    compute_capability: str

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability})"


class DeviceMemory(Protocol):
    """Buffers on the current GPU and one stream; copies are queued, `synchronise` awaits them."""

    @property
    def gpu(self) -> Gpu:
        """The current GPU."""

    @property
    def stream(self) -> int:
        """Handle of the stream that copies are queued on."""

    def allocate(self, size_bytes: int) -> int:
        """The address of a new buffer.

        Raises:
            EvitError: the GPU has not that much memory left.
        """

    def copy_in(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy to the GPU; `array` is contiguous and stays unchanged until it is done."""

    def copy_out(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy from the GPU into `array`, which is contiguous."""

    def synchronise(self) -> None:
        """Wait until everything queued is done."""

    def free(self, address: int) -> None:
        """Give a buffer back."""

    def close(self) -> None:
        """Give the stream back."""


def open_device_memory() -> DeviceMemory:
    """Memory of the current GPU.

    Raises:
        EvitError: there is no GPU that CUDA can use.
        MissingDependency: neither cuda-python nor PyTorch with CUDA is installed.
    """
    for name in _CUDA_PYTHON:
        try:
            return CudaPythonMemory(importlib.import_module(name))
        except ImportError:
            continue
        except RuntimeError as error:  # cuda-python finds no driver to load
            raise _no_cuda(str(error)) from error
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        torch = None
    if torch is not None and torch.cuda.is_available():
        return TorchMemory(torch)
    raise MissingDependency(
        "TensorRT needs cuda-python or PyTorch with CUDA to reach the GPU's memory, and neither is "
        "there",
        hint='pip install "cuda-python>=12,<13" (13 where the driver is of CUDA 13)',
    )


class CudaPythonMemory:
    """`DeviceMemory` over cuda-python, whose functions return (error, value, ...).

    Documented: cudaMalloc, cudaFree, cudaMemcpyAsync, cudaStreamCreate, cudaStreamSynchronize,
    cudaStreamDestroy, cudaGetDevice, cudaGetDeviceProperties, cudaGetErrorString.
    """

    def __init__(self, cudart: ModuleType) -> None:
        self._cudart = cudart
        device = self._do(cudart.cudaGetDevice())
        properties = self._do(cudart.cudaGetDeviceProperties(device))
        name = properties.name
        name = name.decode() if isinstance(name, bytes) else str(name)
        self.gpu = Gpu(name.rstrip("\0"), f"{properties.major}.{properties.minor}")
        self._stream = self._do(cudart.cudaStreamCreate())

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream)

    def allocate(self, size_bytes: int) -> int:
        """The address of a new buffer."""
        return int(self._do(self._cudart.cudaMalloc(size_bytes)))

    def copy_in(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy to the GPU."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, _address_of(array), array.nbytes, kind)

    def copy_out(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy from the GPU."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(_address_of(array), address, array.nbytes, kind)

    def _copy(self, to: int, source: int, size_bytes: int, kind: Any) -> None:
        self._do(self._cudart.cudaMemcpyAsync(to, source, size_bytes, kind, self._stream))

    def synchronise(self) -> None:
        """Wait for the stream."""
        self._do(self._cudart.cudaStreamSynchronize(self._stream))

    def free(self, address: int) -> None:
        """Give a buffer back."""
        self._do(self._cudart.cudaFree(address))

    def close(self) -> None:
        """Give the stream back."""
        self._do(self._cudart.cudaStreamDestroy(self._stream))

    def _do(self, answer: tuple[Any, ...]) -> Any:
        error, *values = answer
        if error == self._cudart.cudaError_t.cudaSuccess:
            return values[0] if values else None
        if error == self._cudart.cudaError_t.cudaErrorMemoryAllocation:
            raise out_of_memory()
        _, text = self._cudart.cudaGetErrorString(error)
        reason = text.decode() if isinstance(text, bytes) else str(text)
        raise _no_cuda(reason)


class TorchMemory:
    """`DeviceMemory` over PyTorch, for where it is installed anyway.

    Documented: torch.empty, Tensor.data_ptr, Tensor.copy_, torch.cuda.Stream and its cuda_stream,
    torch.cuda.get_device_properties.
    """

    def __init__(self, torch: ModuleType) -> None:
        self._torch = torch
        self._buffers: dict[int, Any] = {}
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        self.gpu = Gpu(str(properties.name), f"{properties.major}.{properties.minor}")
        self._stream = torch.cuda.Stream()

    @property
    def stream(self) -> int:
        """Handle of the stream."""
        return int(self._stream.cuda_stream)

    def allocate(self, size_bytes: int) -> int:
        """The address of a new buffer."""
        try:
            buffer = self._torch.empty(size_bytes, dtype=self._torch.uint8, device="cuda")
        except self._torch.cuda.OutOfMemoryError as error:
            raise out_of_memory() from error
        self._buffers[int(buffer.data_ptr())] = buffer
        return int(buffer.data_ptr())

    def copy_in(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy to the GPU."""
        self._copy(self._buffers[address][: array.nbytes], self._of(array))

    def copy_out(self, address: int, array: npt.NDArray[Any]) -> None:
        """Queue a copy from the GPU."""
        self._copy(self._of(array), self._buffers[address][: array.nbytes])

    def _copy(self, to: Any, source: Any) -> None:
        with self._torch.cuda.stream(self._stream):
            to.copy_(source, non_blocking=True)

    def _of(self, array: npt.NDArray[Any]) -> Any:
        """The bytes of `array` as a tensor that shares its memory."""
        return self._torch.from_numpy(array.reshape(-1).view(np.uint8))

    def synchronise(self) -> None:
        """Wait for the stream."""
        self._stream.synchronize()

    def free(self, address: int) -> None:
        """Give a buffer back."""
        del self._buffers[address]

    def close(self) -> None:
        """PyTorch keeps its streams for the next user."""


def out_of_memory() -> EvitError:
    """What is said when the GPU's memory is full."""
    return EvitError(
        "the GPU is out of memory",
        hint="close other programs that use it, or export with a smaller --size",
    )


def _no_cuda(reason: str) -> EvitError:
    return EvitError(
        f"CUDA failed: {' '.join(reason.split())}",
        hint="`evit doctor` says whether the driver and a GPU are there",
    )


def _address_of(array: npt.NDArray[Any]) -> int:
    if not array.flags.c_contiguous:
        raise ValueError("only contiguous arrays can be copied to or from the GPU")
    return int(array.ctypes.data)
