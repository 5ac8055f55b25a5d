"""From a typed ONNX file to a TensorRT engine, for TensorRT 10 and 11 on the GPU at hand.

One path for both: the precision is written into the ONNX file (typed float16, Q/DQ int8) and the
network is strongly typed, which 10 is asked for and 11 always is. 11 has neither precision flags
nor calibrators, and none are used.

Written against NVIDIA's documented Python API, tested against a stand-in and not run on a GPU by
us.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError
from evit_cli.export.engine_cache import EngineCache, EngineKey, sha256_of
from evit_cli.export.tensorrt_build import Build, build_serialized
from evit_cli.export.trtexec import input_shapes, shape_ranges
from evit_cli.runtime import cuda_memory
from evit_cli.runtime.description import Description, describe_artifact, description_path
from evit_cli.runtime.fixed_input import decoder_of
from evit_cli.runtime.tensorrt_api import Complaints, import_tensorrt, major_version, make_logger
from evit_cli.types import NoProgress, Precision, Progress

ENGINE_SUFFIXES = (".engine", ".plan")
UNTRIED = "the TensorRT path follows NVIDIA's documentation and was not run on hardware by us"
"""For the output of whatever uses it, until that changes."""


@dataclass(frozen=True)
class EngineRequest:
    """What engine is wanted.

    Attributes:
        description: of the ONNX file; it is put into the engine.
        profile: of the board: TensorRT's version range and the memory limit; None for neither.
        cache: engines built before, None to build in any case.
        notice: told in one sentence why an engine is built or reused, before that begins.
    """

    description: Description
    profile: Profile | None = None
    cache: EngineCache | None = None
    notice: Callable[[str], None] | None = None


@dataclass(frozen=True)
class EngineResult:
    """What was done.

    Attributes:
        engine: the file.
        tensorrt: version that built it; the engine runs with no other.
        gpu: it was built on, and runs on; None where nothing could tell.
        built: False where it came from the cache.
        build_s: how long the build took, 0 where there was none.
    """

    engine: Path
    tensorrt: str
    gpu: cuda_memory.Gpu | None
    built: bool
    build_s: float


def build_engine(
    onnx: Path, engine: Path, *, request: EngineRequest, progress: Progress | None = None
) -> EngineResult:
    """Write `engine` with its description inside and beside it; it is whole or not there at all.

    Args:
        onnx: the typed ONNX file, with one input.
        engine: the file to write, .engine or .plan.
        request: what is wanted.
        progress: told of the builder's steps; how many there will be cannot be known.

    Raises:
        EvitError: TensorRT is not one of the profile's, does not take the file, or builds nothing.
        MissingDependency: TensorRT, or what names the GPU for the cache, is not installed.
        KeyboardInterrupt: Ctrl-C; the build was stopped and nothing is left behind.
    """
    if engine.suffix not in ENGINE_SUFFIXES:
        raise EvitError(f"an engine file ends in {' or '.join(ENGINE_SUFFIXES)}, not '{engine}'")
    if not onnx.is_file():
        raise EvitError(f"there is no file {onnx}")
    trt = import_tensorrt("building an engine")
    check_version(trt, request.profile)
    key = None if request.cache is None else engine_key(trt, onnx, request)
    serialized = _reuse(key, request)
    built, start_s = serialized is None, time.monotonic()
    build_s = 0.0
    if serialized is None:
        serialized = _build(trt, onnx, request, key, progress or NoProgress())
        build_s = time.monotonic() - start_s
    if built and key is not None:
        _keep(key, serialized, build_s, request)  # first, so that a full disk loses no build
    _write(engine, serialized, request.description)
    gpu = None if key is None else cuda_memory.Gpu(key.gpu, key.compute_capability)
    return EngineResult(engine, str(trt.__version__), gpu, built, build_s)


def check_version(trt: ModuleType, profile: Profile | None) -> None:
    """Refuse a TensorRT that builds no strongly typed engine, or that the profile is not for.

    Raises:
        EvitError: it is refused.
    """
    version = str(trt.__version__)
    if major_version(trt) < 10:
        raise EvitError(
            f"TensorRT {version} builds no strongly typed engine, TensorRT 10 and later do",
            hint="on a Jetson, JetPack 6.1 has 10.3; for older boards make a bundle: "
            "evit export --device nano",
        )
    tool = profile.tool("TensorRT") if profile is not None else None
    if profile is not None and tool is not None and not tool.accepts(version):
        raise EvitError(
            f"{profile.name} is written for {tool}, and {version} is installed: {tool.why}",
            hint="install one of these, or give the profile of this machine: --device auto",
        )


def engine_key(trt: ModuleType, onnx: Path, request: EngineRequest) -> EngineKey:
    """The cache's key for this request on the GPU at hand.

    Raises:
        EvitError: the file cannot be read, or there is no GPU.
        MissingDependency: nothing is installed that names the GPU.
    """
    memory = cuda_memory.open_device_memory()
    try:
        gpu = memory.gpu
    finally:
        memory.close()
    description = request.description
    flags = _range(description)
    limit = _workspace_bytes(request.profile)
    flags += [] if limit is None else [f"workspace={limit}"]
    rules = request.profile.tensorrt if request.profile is not None else None
    flags += [] if rules is None else rules.flags
    return EngineKey(
        onnx_sha256=sha256_of(onnx),
        tensorrt=str(trt.__version__),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        precision=description.precision.value,
        profile=request.profile.name if request.profile is not None else "",
        flags=tuple(flags),
    )


def _label(description: Description) -> str:
    """What people call it: the cache explains a build by the engines of the same model and size."""
    most = "" if description.largest_hw is None else f" to {description.largest_hw}"
    part = "" if description.sam is None else f" ({description.sam.part})"
    return f"{description.info.name}{part} at {description.size_hw}{most}"


def _range(description: Description) -> list[str]:
    """The shapes of the inputs, as flags of the cache's key."""
    free = shape_ranges(description)
    if not free and description.sam is None:
        free = {"image": input_shapes(description)}
        return [f"input={_sides(free['image'].smallest)}"]
    if list(free) == ["image"]:
        return [f"input={_sides(shape)}" for shape in free["image"]]
    return [f"{name}={_sides(shape)}" for name, shapes in free.items() for shape in shapes]


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _workspace_bytes(profile: Profile | None) -> int | None:
    if profile is None or profile.memory is None:
        return None
    return int(profile.memory.usable_gib * (1 << 30))


def _reuse(key: EngineKey | None, request: EngineRequest) -> bytes | None:
    """The engine from the cache, None where it must be built; says which."""
    say = request.notice or (lambda sentence: None)
    if key is None or request.cache is None:
        say("the engine is being built, which may take minutes")
        return None
    found = request.cache.find(key, model=_label(request.description))
    say(found.reason)
    try:
        return None if found.engine is None else found.engine.read_bytes()
    except OSError:  # dropped by another process a moment ago
        return None


def _keep(key: EngineKey, serialized: bytes, build_s: float, request: EngineRequest) -> None:
    """Put an engine into the cache; a cache that cannot be written costs the next build alone."""
    if request.cache is None:
        return
    try:
        label = _label(request.description)
        request.cache.store(key, serialized, model=label, build_s=build_s)
    except EvitError as error:
        if request.notice is not None:
            request.notice(f"the engine is not kept for the next time: {error.message}")


def _build(
    trt: ModuleType,
    onnx: Path,
    request: EngineRequest,
    key: EngineKey | None,
    progress: Progress,
) -> bytes:
    """The serialised engine of an ONNX file."""
    complaints = Complaints()
    logger = make_logger(trt, complaints)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    # The parser holds weights that the network refers to: it must outlive the build.
    parser = trt.OnnxParser(network, logger)
    _parse(trt, parser, onnx, complaints)
    _check_types(trt, network, onnx, request.description.precision)
    config = builder.create_builder_config()
    limit = _workspace_bytes(request.profile)
    if limit is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, limit)
    _set_shapes(builder, network, config, onnx, request.description)
    timing = None if key is None or request.cache is None else request.cache.timing_file(key)
    build = Build(trt, builder, network, config, complaints)
    serialized = build_serialized(build, progress, timing_file=timing)
    del parser
    return serialized


def _network_flags(trt: ModuleType) -> int:
    """10 wants STRONGLY_TYPED; 11 is always so, and only keeps the flag's name."""
    if major_version(trt) >= 11:
        return 0
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def _parse(trt: ModuleType, parser: Any, onnx: Path, complaints: Complaints) -> None:
    """Read the ONNX file into the network.

    Documented: OnnxParser.parse_from_file returns whether it succeeded; num_errors and get_error
    give ParserError with node_name(), node_operator() and desc().
    """
    if parser.parse_from_file(str(onnx)):
        return
    who = f"TensorRT {trt.__version__}"
    if parser.num_errors == 0:
        raise EvitError(f"{who} cannot read {onnx}: {complaints.first}")
    error = parser.get_error(0)
    reason = " ".join(str(error.desc()).split()).rstrip(".")
    if not error.node_operator():
        raise EvitError(f"{who} cannot read {onnx}: {reason}", hint="export it again")
    node = f"node '{error.node_name()}' ({error.node_operator()}) of {onnx}"
    more = f", and {parser.num_errors - 1} more" if parser.num_errors > 1 else ""
    raise EvitError(
        f"{who} does not take {node}{more}: {reason}",
        hint="`evit export --device` writes what a board's TensorRT takes: name the profile of "
        "this machine, or auto",
    )


def _check_types(trt: ModuleType, network: Any, onnx: Path, precision: Precision) -> None:
    """A strongly typed engine computes in the ONNX file's own types, so those must be asked ones.

    Documented: INetworkDefinition.num_layers and get_layer, ILayer.num_outputs and get_output,
    ITensor.dtype.
    """
    wanted = {Precision.FP16: trt.DataType.HALF, Precision.INT8: trt.DataType.INT8}.get(precision)
    layers = (network.get_layer(index) for index in range(network.num_layers))
    types = {
        layer.get_output(index).dtype for layer in layers for index in range(layer.num_outputs)
    }
    low = {trt.DataType.HALF, trt.DataType.INT8} & types
    if wanted is None and low:
        found = "int8" if trt.DataType.INT8 in low else "float16"
        raise EvitError(
            f"{onnx} is said to be fp32, and computes in {found}", hint="export it again"
        )
    if wanted is not None and wanted not in types:
        raise EvitError(
            f"{onnx} is said to be {precision.value}, and no layer of it is",
            hint="the precision is written into the ONNX file: export it again with "
            f"--precision {precision.value}",
        )


def _set_shapes(
    builder: Any, network: Any, config: Any, onnx: Path, description: Description
) -> None:
    """An optimisation profile, where the input's shape is free.

    Documented: INetworkDefinition.num_inputs and get_input, Builder.create_optimization_profile,
    IOptimizationProfile.set_shape(name, min, opt, max), IBuilderConfig.add_optimization_profile,
    which returns the profile's index, negative where it is not valid.
    """
    sources = [network.get_input(index) for index in range(network.num_inputs)]
    expected = _expected(description, sources, onnx)
    free = shape_ranges(description)
    for tensor in sources:
        shape, wanted = tuple(tensor.shape), expected[tensor.name]
        agrees = len(shape) == len(wanted) and all(
            side in (-1, low) for side, low in zip(shape, wanted, strict=True)
        )
        if not agrees or (description.largest_hw is not None and -1 not in shape):
            raise EvitError(
                f"{onnx} takes {shape}, and its description says {description.input_shape}",
                hint="export it again",
            )
    if all(-1 not in tuple(tensor.shape) for tensor in sources):
        return
    profile = builder.create_optimization_profile()
    for tensor in sources:
        one = (expected[tensor.name],) * 3
        profile.set_shape(tensor.name, *free.get(_own_name(description, tensor), one))
    if config.add_optimization_profile(profile) < 0:
        least, _, most = next(iter(free.values()))
        raise EvitError(f"TensorRT takes no range of sizes from {least} to {most}")


def _own_name(description: Description, tensor: Any) -> str:
    """An image model's one input may be called as the file likes."""
    return str(tensor.name) if decoder_of(description) is not None else "image"


def _expected(
    description: Description, sources: list[Any], onnx: Path
) -> dict[str, tuple[int, ...]]:
    """The smallest shape of each input of a network."""
    decoder = decoder_of(description)
    if decoder is None:
        if len(sources) != 1:
            raise EvitError(f"{onnx} has {len(sources)} inputs, and evit builds engines with one")
        return {sources[0].name: input_shapes(description).smallest}
    shapes = decoder.shapes_at(decoder.prompts[0], decoder.points[0])
    if {tensor.name for tensor in sources} != set(shapes):
        found = ", ".join(tensor.name for tensor in sources)
        raise EvitError(f"{onnx} takes {found}, and a decoder {', '.join(shapes)}")
    return shapes


def _write(engine: Path, serialized: bytes, description: Description) -> None:
    """Engine and description under temporary names, then both in place."""
    temporary = engine.with_name(f".{engine.stem}.partial{engine.suffix}")
    try:
        engine.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(serialized)
        describe_artifact(temporary, description)
        description_path(temporary).replace(description_path(engine))
        temporary.replace(engine)
    except OSError as error:
        raise EvitError(
            f"cannot write {engine}: {(error.strerror or str(error)).lower()}",
            hint="check the free space and the permissions there, or write elsewhere",
        ) from error
    finally:
        for left in (temporary, description_path(temporary)):
            with suppress(OSError):
                left.unlink(missing_ok=True)
