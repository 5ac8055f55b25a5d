"""Stand-ins for what reaches the GPU's memory: cuda-python, and PyTorch's streams."""

from __future__ import annotations

import ctypes
import sys
import types
from typing import Any

import pytest
import torch

from tests.helpers.tensorrt_engine import STREAMS, HostMemory


class FakeCudart(types.ModuleType):
    """cuda-python's runtime module, as documented: every function returns (error, ...)."""

    def __init__(self, *, error: int = 0) -> None:
        super().__init__("cuda.bindings.runtime")
        self.host = HostMemory()
        self.error = error
        self.destroyed = False
        self.cudaError_t = types.SimpleNamespace(cudaSuccess=0, cudaErrorMemoryAllocation=2)
        self.cudaMemcpyKind = types.SimpleNamespace(
            cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2
        )

    def cudaGetDevice(self) -> tuple[int, int]:
        return self.error, 0

    def cudaGetDeviceProperties(self, device: int) -> tuple[int, Any]:
        return 0, types.SimpleNamespace(name=b"Orin", major=8, minor=7)

    def cudaStreamCreate(self) -> tuple[int, int]:
        return 0, self.host.stream

    def cudaMalloc(self, size: int) -> tuple[int, int | None]:
        if size > 1 << 20:
            return 2, None
        return 0, self.host.allocate(size)

    def cudaFree(self, address: int) -> tuple[int]:
        self.host.free(address)
        return (0,)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: int, stream: int) -> tuple[int]:
        on_gpu = dst if kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice else src
        assert on_gpu in self.host.buffers
        STREAMS[stream].append(lambda: ctypes.memmove(dst, src, count) and None)
        return (0,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[int]:
        self.host.synchronise()
        return (0,)

    def cudaStreamDestroy(self, stream: int) -> tuple[int]:
        self.destroyed = True
        return (0,)

    def cudaGetErrorString(self, error: int) -> tuple[int, bytes]:
        return 0, b"no CUDA-capable device is detected"


def give_cuda_python(monkeypatch: pytest.MonkeyPatch, module: types.ModuleType, name: str) -> None:
    for known in ("cuda.bindings.runtime", "cuda.cudart", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, known, None)
    parts = name.split(".")
    for index in range(1, len(parts)):
        parent = types.ModuleType(".".join(parts[:index]))
        parent.__path__ = []
        monkeypatch.setitem(sys.modules, parent.__name__, parent)
    monkeypatch.setitem(sys.modules, name, module)


class Queued:
    """`torch.cuda.stream(...)`: copies inside it wait for the stream."""

    def __init__(self, host: HostMemory, monkeypatch: pytest.MonkeyPatch) -> None:
        self.host, self.patch = host, monkeypatch

    def __enter__(self) -> None:
        copy = torch.Tensor.copy_

        def later(to: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> None:
            self.host.queue.append(lambda: copy(to, source) is None)

        self.context = self.patch.context()
        self.context.__enter__().setattr(torch.Tensor, "copy_", later)

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(None, None, None)
