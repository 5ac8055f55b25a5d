"""A stand-in for the `tensorrt` module: the documented classes and signatures that evit may use.

It follows NVIDIA's Python API of 10.x and 11.x. Names that 11 removed are missing there, functions
that fail return None or False and log why, as the real ones do. The parser reads the ONNX file
(`tensorrt_rules`), an "engine" is a header and the ONNX file, and executing it runs ONNX Runtime
over host memory once the stream is synchronised (`tensorrt_engine`).
"""

from __future__ import annotations

import enum
import importlib.machinery
import json
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from evit_cli.runtime import cuda_memory
from evit_cli.runtime.cuda_memory import Gpu
from tests.helpers.tensorrt_engine import (
    MAGIC,
    NUMPY_TYPES,
    ORIN,
    DataType,
    Dims,
    HostMemory,
    ICudaEngine,
    IExecutionContext,
    IHostMemory,
    ILogger,
    TensorIOMode,
    deserialize,
    dtype_of,
    log_error,
    shape_of,
)
from tests.helpers.tensorrt_rules import Problem, problems, types_of

VERSIONS = ("10.3.0", "10.13.2", "11.4.1")
PHASES = (("Building Engine", None, 2), ("Timing Kernels", "Building Engine", 5))


class Board:
    """The machine the stand-in pretends to be, and what tests make it do.

    Attributes:
        gpu: engines are built for and run on.
        fail_build: a message to log in place of an engine.
        on_step: called in each step of a build, on the builder's own thread.
        workspace_bytes: the builder needs; a smaller pool fails as the real one does.
        builds: (flags of the network, memory pools, timing cache's content) of each build.
    """

    def __init__(self, version: str, gpu: Gpu = ORIN) -> None:
        self.version, self.gpu = version, gpu
        self.major = int(version.partition(".")[0])
        self.fail_build = ""
        self.on_step: Callable[[str, int], None] = lambda phase, step: None
        self.workspace_bytes = 0
        self.builds: list[dict[str, Any]] = []
        self.memories: list[HostMemory] = []

    def memory(self) -> HostMemory:
        self.memories.append(HostMemory(self.gpu))
        return self.memories[-1]

    @property
    def leaked(self) -> int:
        """Buffers and streams that were not given back."""
        open_streams = sum(not memory.closed for memory in self.memories)
        return open_streams + sum(len(memory.buffers) for memory in self.memories)


def install(monkeypatch: pytest.MonkeyPatch, version: str, gpu: Gpu = ORIN) -> Board:
    """Put a stand-in in place of `tensorrt`, and host memory in place of the GPU's."""
    board = Board(version, gpu)
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(board))
    monkeypatch.setattr(cuda_memory, "open_device_memory", board.memory)
    return board


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    TACTIC_DRAM = 4


class IProgressMonitor:
    def __init__(self) -> None:
        self.initialised = True


class ITensor:
    def __init__(self, name: str, shape: Dims, dtype: DataType) -> None:
        self.name, self.shape, self.dtype = name, shape, dtype


class ILayer:
    def __init__(self, name: str, outputs: list[ITensor]) -> None:
        self.name, self._outputs = name, outputs
        self.num_outputs = len(outputs)

    def get_output(self, index: int) -> ITensor:
        return self._outputs[index]


class INetworkDefinition:
    def __init__(self, flags: int, strongly_typed: bool) -> None:
        self.flags, self._strong = flags, strongly_typed
        self._model: onnx.ModelProto | None = None
        self._inputs: list[ITensor] = []
        self._layers: list[ILayer] = []

    num_inputs = property(lambda self: len(self._inputs))
    num_layers = property(lambda self: len(self._layers))

    def get_input(self, index: int) -> ITensor:
        return self._inputs[index]

    def get_layer(self, index: int) -> ILayer:
        return self._layers[index]

    def _fill(self, model: onnx.ModelProto) -> None:
        self._model = model
        known = types_of(onnx.shape_inference.infer_shapes(model))
        held = {tensor.name for tensor in model.graph.initializer}
        for value in model.graph.input:
            if value.name not in held:
                self._inputs.append(
                    ITensor(value.name, shape_of(value), dtype_of(known[value.name]))
                )
        for node in model.graph.node:
            outputs = [ITensor(name, Dims(), dtype_of(known[name])) for name in node.output if name]
            self._layers.append(ILayer(node.name, outputs))


class ParserError:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem

    def desc(self) -> str:
        return self._problem.text

    def node(self) -> int:
        return self._problem.node

    def node_name(self) -> str:
        return self._problem.name

    def node_operator(self) -> str:
        return self._problem.op


class IOptimizationProfile:
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[Dims, Dims, Dims]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:
        ordered = all(a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
        if not ordered:
            raise ValueError("Shape provided for min, opt, max is inconsistent")
        self._shapes[input] = (Dims(min), Dims(opt), Dims(max))


class ITimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> IHostMemory:
        return IHostMemory(self._content)


class IBuilderConfig:
    def __init__(self, board: Board) -> None:
        self._board = board
        self._pools: dict[MemoryPoolType, int] = {}
        self._profiles: list[IOptimizationProfile] = []
        self._timing: ITimingCache | None = None
        self._given: bytes | None = None
        self.progress_monitor: Any = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self._pools[pool] = pool_size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: bytes) -> ITimingCache:
        return ITimingCache(serialized_timing_cache)

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        mine = f"{self._board.version}|{self._board.gpu}".encode()
        if cache._content not in (b"", mine) and not ignore_mismatch:
            return False
        self._given, self._timing = cache._content, ITimingCache(mine)
        return True

    def get_timing_cache(self) -> ITimingCache | None:
        return self._timing


def _run_phases(monitor: Any, board: Board) -> bool:
    """Call the monitor as a builder does, from a thread of its own; False when it was cancelled."""
    going = True

    def step(phase: str, index: int) -> None:
        nonlocal going
        board.on_step(phase, index)
        try:
            going = going and bool(monitor.step_complete(phase, index))
        except BaseException:
            going = False  # the real binding prints it and cancels

    def work() -> None:
        for name, parent, count in PHASES:
            monitor.phase_start(name, parent, count)
        for index in range(PHASES[1][2]):
            if going:
                step(PHASES[1][0], index)
        monitor.phase_finish(PHASES[1][0])
        if going:
            step(PHASES[0][0], 0)  # a phase may finish before all its steps
        monitor.phase_finish(PHASES[0][0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return going


def _no_engine(board: Board, network: INetworkDefinition, config: IBuilderConfig) -> str:
    """What the builder logs where it gives None; empty where all is well."""
    free = [tensor for tensor in network._inputs if -1 in tensor.shape]
    pool = config._pools.get(MemoryPoolType.WORKSPACE, sys.maxsize)
    if free and not config._profiles:
        return (
            "IBuilder::buildSerializedNetwork: Error Code 4: API Usage Error (Network has dynamic "
            "or shape inputs, but no optimization profile has been defined.)"
        )
    if pool < board.workspace_bytes:
        return (
            "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any "
            "implementation for node {ForeignNode[conv]} due to insufficient workspace.)"
        )
    return board.fail_build


def _serialize(board: Board, network: INetworkDefinition, config: IBuilderConfig) -> IHostMemory:
    assert network._model is not None
    body = network._model.SerializeToString()
    header = {
        "version": board.version,
        "compute_capability": board.gpu.compute_capability,
        "strongly_typed": network._strong,
        "profiles": [profile._shapes for profile in config._profiles],
        "size": len(body),
    }
    head = json.dumps(header).encode()
    return IHostMemory(MAGIC + len(head).to_bytes(4, "little") + head + body)


def _flags(major: int) -> tuple[type[enum.Enum], type[enum.Enum]]:
    """BuilderFlag and NetworkDefinitionCreationFlag, without what 11 removed."""
    builder = {"GPU_FALLBACK": 2, "REFIT": 4, "TF32": 7, "VERSION_COMPATIBLE": 11}
    network = {"STRONGLY_TYPED": 1}
    if major < 11:
        builder |= {"FP16": 0, "INT8": 1, "OBEY_PRECISION_CONSTRAINTS": 9, "BF16": 16, "FP8": 14}
        network |= {"EXPLICIT_BATCH": 0}
    else:
        network = {"STRONGLY_TYPED": 0}
    return enum.IntEnum("BuilderFlag", builder), enum.IntEnum(
        "NetworkDefinitionCreationFlag", network
    )


class Builder:
    def __init__(self, logger: ILogger) -> None:
        assert logger.initialised, "call ILogger.__init__"
        self._logger = logger

    def create_network(self, flags: int = 0) -> INetworkDefinition:
        board = self._board
        bit = int(_flags(board.major)[1]["STRONGLY_TYPED"])
        return INetworkDefinition(flags, board.major >= 11 or bool(flags >> bit & 1))

    def create_builder_config(self) -> IBuilderConfig:
        return IBuilderConfig(self._board)

    def create_optimization_profile(self) -> IOptimizationProfile:
        return IOptimizationProfile()

    def build_serialized_network(
        self, network: INetworkDefinition, config: IBuilderConfig
    ) -> IHostMemory | None:
        board = self._board
        board.builds.append(
            {"flags": network.flags, "pools": config._pools, "timing": config._given}
        )
        monitor = config.progress_monitor
        assert monitor is None or monitor.initialised, "call IProgressMonitor.__init__"
        why = _no_engine(board, network, config)
        if not why and monitor is not None and not _run_phases(monitor, board):
            why = "IBuilder::buildSerializedNetwork: Error Code 1: Cancelled (by the monitor.)"
        if why:
            log_error(self._logger, why)
            return None
        return _serialize(board, network, config)


class OnnxParser:
    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network, self._logger = network, logger
        self._problems: list[Problem] = []

    num_errors = property(lambda self: len(self._problems))

    def get_error(self, index: int) -> ParserError:
        return ParserError(self._problems[index])

    def parse_from_file(self, model: str) -> bool:
        try:
            read = onnx.load(model)
            assert read.graph.node
        except Exception:
            self._problems = [Problem(-1, "", "", "Failed to parse ONNX model from file.")]
            return False
        return self.parse(read.SerializeToString(), str(Path(model)))

    def parse(self, model: bytes, path: str | None = None) -> bool:
        read = onnx.load_from_string(model)
        self._problems = problems(read, self._board.version)
        if self._problems:
            return False
        self._network._fill(read)
        return True


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self._logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        board = self._board
        return deserialize(board.version, board.gpu, self._logger, bytes(serialized_engine))


def nptype(trt_type: DataType) -> Any:
    return NUMPY_TYPES[trt_type.name]


_SAME = (
    DataType, Dims, IHostMemory, TensorIOMode, MemoryPoolType, ILogger, IProgressMonitor,
    ParserError, IOptimizationProfile, ITimingCache, IBuilderConfig, INetworkDefinition,
    ICudaEngine, IExecutionContext, nptype,
)  # fmt: skip


def make_tensorrt(board: Board) -> types.ModuleType:
    """The module; names that its version has not are missing from it."""
    module = types.ModuleType("tensorrt")
    module.__spec__ = importlib.machinery.ModuleSpec("tensorrt", None)  # torch.export asks for it
    module.__version__ = board.version
    for part in _SAME:
        setattr(module, part.__name__, part)
    for kind in (Builder, OnnxParser, Runtime):
        setattr(module, kind.__name__, type(kind.__name__, (kind,), {"_board": board}))
    module.BuilderFlag, module.NetworkDefinitionCreationFlag = _flags(board.major)
    return module
