"""TensorRT 8.2's Python module and CUDA's libcudart, as a bundle's runner finds them on a board.

`tensorrt8.py` copies this file as `tensorrt.py`. It has the documented names of 8.2 that a runner
needs, and none that came later. An engine is a header and an ONNX file; ONNX Runtime computes it in
a process of another Python, because this one may be as old as the board's. The "GPU's" memory has
addresses that nothing but libcudart's own functions can read.
"""

import atexit
import ctypes
import enum
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

__version__ = os.environ.get("STANDIN_TENSORRT", "8.2.1.9")
MAGIC = b"trt8"


class DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4


def nptype(trt_type):
    names = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32}
    return dict(names, BOOL=np.bool_)[trt_type.name]


class Logger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)

    def __init__(self, min_severity=2):
        self.min_severity = min_severity


class Dims(tuple):
    pass


def _log(message):
    sys.stderr.write(f"[TensorRT] ERROR: {message}\n")


class Runtime:
    def __init__(self, logger):
        assert isinstance(logger, Logger)

    def deserialize_cuda_engine(self, serialized_engine):
        assert isinstance(serialized_engine, bytes)
        if serialized_engine[:4] != MAGIC:
            _log("1: [stdArchiveReader.cpp::StdArchiveReader::30] Error Code 1: Serialization")
            return None
        size = struct.unpack("<I", serialized_engine[4:8])[0]
        header = json.loads(serialized_engine[8 : 8 + size].decode())
        if header["version"] != __version__:
            _log("6: The engine plan file is not compatible with this version of TensorRT")
            return None
        return ICudaEngine(header, serialized_engine[8 + size :])


class ICudaEngine:
    def __init__(self, header, onnx):
        self._header, self._onnx = header, onnx
        self._tensors = header["tensors"]
        self.num_bindings = len(self._tensors)
        self.has_implicit_batch_dimension = False

    def __getitem__(self, index):
        return self._tensors[index]["name"]

    get_binding_name = __getitem__

    def binding_is_input(self, index):
        return self._tensors[index]["input"]

    def get_binding_shape(self, index):
        return Dims(self._tensors[index]["shape"])

    def get_binding_dtype(self, index):
        return DataType[self._tensors[index]["dtype"]]

    def create_execution_context(self):
        return None if os.environ.get("STANDIN_NO_CONTEXT") else IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine):
        self._engine = engine
        with tempfile.NamedTemporaryFile(suffix=".onnx", delete=False) as file:
            file.write(engine._onnx)
        atexit.register(os.remove, file.name)
        words = [os.environ["STANDIN_PYTHON"], os.environ["STANDIN_COMPUTE"], file.name]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        self._worker = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=clean, start_new_session=True
        )
        atexit.register(self._worker.kill)

    def execute_v2(self, bindings):
        assert isinstance(bindings, list) and all(isinstance(one, int) for one in bindings)
        assert len(bindings) == self._engine.num_bindings
        if os.environ.get("STANDIN_NO_RUN"):
            _log("1: [executionContext.cpp::executeInternal::1205] Error Code 1: Cuda Runtime")
            return False
        for index, address in enumerate(bindings):
            tensor = self._engine._tensors[index]
            size = int(np.prod(tensor["shape"])) * 4
            if tensor["input"]:
                self._worker.stdin.write(bytes(_memory(address, size)[:size]))
                self._worker.stdin.flush()
        for index, address in enumerate(bindings):
            tensor = self._engine._tensors[index]
            size = int(np.prod(tensor["shape"])) * 4
            if not tensor["input"]:
                _memory(address, size)[:size] = self._worker.stdout.read(size)
        return True


# ------------------------------------------------------------------------------------ libcudart

_BASE = 0x7F00000000
_HELD = {}  # address -> bytearray
_POINTER, _INT = ctypes.c_void_p, ctypes.c_int
_OUT_OF_MEMORY, _INVALID = 2, 1


def _memory(address, size):
    held = _HELD[address]
    assert size <= len(held), f"{size} bytes are needed, and the buffer has {len(held)}"
    return held


def _malloc(pointer, size):
    if os.environ.get("STANDIN_NO_MEMORY"):
        return _OUT_OF_MEMORY
    address = _BASE + (len(_HELD) << 32)
    _HELD[address] = bytearray(b"\xa5" * size)
    pointer[0] = address
    return 0


def _free(address):
    return 0 if _HELD.pop(address, None) is not None else _INVALID


def _memcpy(to, source, size, kind):
    if kind == 1 and to in _HELD:
        _memory(to, size)[:size] = ctypes.string_at(source, size)
    elif kind == 2 and source in _HELD:
        ctypes.memmove(to, bytes(_memory(source, size)[:size]), size)
    else:
        return _INVALID
    return 0


class _Cudart:
    """Functions that are called through the C interface, as those of a loaded library are."""

    cudaMalloc = ctypes.CFUNCTYPE(_INT, ctypes.POINTER(_POINTER), ctypes.c_size_t)(_malloc)
    cudaFree = ctypes.CFUNCTYPE(_INT, _POINTER)(_free)
    cudaMemcpy = ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, ctypes.c_size_t, _INT)(_memcpy)
    _words = ctypes.create_string_buffer(b"out of memory")
    cudaGetErrorString = ctypes.CFUNCTYPE(_POINTER, _INT)(
        lambda status: ctypes.addressof(_Cudart._words)
    )


_load = ctypes.CDLL


def _cdll(name, *more, **named):
    if name and "libcudart" in str(name):
        if os.environ.get("STANDIN_NO_CUDART") or name != "libcudart.so.10.2":
            raise OSError(f"{name}: cannot open shared object file")
        return _Cudart()
    return _load(name, *more, **named)


ctypes.CDLL = _cdll


@atexit.register
def _leaks():
    if _HELD:
        sys.stderr.write(f"LEAKED {len(_HELD)} buffers\n")
