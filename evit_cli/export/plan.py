"""What an export will do, decided before anything is done: each choice with its reason.

A device profile chooses backend, precision, opset, layout and shapes; every choice can be
overridden, and `evit export --dry-run` prints the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from evit_cli.config.device import detect_profile, load_profile
from evit_cli.config.profile import Profile
from evit_cli.errors import EvitError, UsageError
from evit_cli.export.form import Attention, Form
from evit_cli.export.sam_plan import USUAL, Bucket, check_sam_request, split, stem_of
from evit_cli.runtime.sam_part import SamPart
from evit_cli.types import Backend, ImageSize, ModelInfo, Precision, Task

SUFFIXES = {
    Backend.ONNX: ".onnx",
    Backend.TFLITE: ".tflite",
    Backend.OPENVINO: ".xml",
    Backend.TENSORRT: ".engine",
}
TILE, _SMALLEST_TILE = ImageSize(256, 256), ImageSize(64, 64)
"""Of super-resolution, where no size is asked for: the size, or with a largest one the smallest."""

_NEWEST_OPSET = 20
_OLDEST_OPSET = 13


@dataclass(frozen=True)
class ExportRequest:
    """What a user asked for; None leaves a choice to the device profile.

    Attributes:
        target: what shall run the artifact.
        device: a profile's name or file, or "auto".
        precision: of the arithmetic.
        size_hw: the input size; the smallest with `largest_hw`.
        largest_hw: the largest input size, for an artifact that takes any between.
        batch: images per run.
        opset: of the ONNX file.
        layout: of the input, "NHWC" or "NCHW".
        out: the artifact's path, or a folder.
        bucket: of a SAM model: how many prompts and points its decoder takes.
    """

    target: Backend | None = None
    device: str | None = None
    precision: Precision | None = None
    size_hw: ImageSize | None = None
    largest_hw: ImageSize | None = None
    batch: int = 1
    opset: int | None = None
    layout: str | None = None
    out: Path | None = None
    bucket: Bucket = USUAL


@dataclass(frozen=True)
class Choice:
    """One decision, for people."""

    what: str
    value: str
    why: str


@dataclass(frozen=True)
class ExportPlan:
    """All decisions of one export.

    Attributes:
        info: the model's.
        backend: what the artifact is for.
        precision: of its arithmetic.
        size_hw: its input size; the smallest with `largest_hw`.
        largest_hw: the largest, None where one size is taken.
        batch: images per run.
        opset: of the ONNX file that is written, or gone through.
        form: of the graph.
        profile: None when no device was named.
        path: of the artifact.
        engine: a TensorRT engine is built here; otherwise TensorRT gets an .onnx file, from which
            the board builds its own.
        choices: the same with reasons.
        sam: which half of a SAM model it makes, None of any other.
        decoder: of an encoder: the plan of the other half.
    """

    info: ModelInfo
    backend: Backend
    precision: Precision
    size_hw: ImageSize
    largest_hw: ImageSize | None
    batch: int
    opset: int
    form: Form
    profile: Profile | None
    path: Path
    engine: bool
    choices: tuple[Choice, ...]
    sam: SamPart | None = None
    decoder: ExportPlan | None = None

    @property
    def parts(self) -> tuple[ExportPlan, ...]:
        """One plan per artifact, this one first."""
        return (self,) if self.decoder is None else (self, self.decoder)

    @property
    def layout(self) -> str:
        """Of the input."""
        return "NHWC" if self.form.channels_last else "NCHW"

    @property
    def typed_fp16(self) -> bool:
        """Whether float16 is written into the graph.

        LiteRT and OpenVINO take float16 weights and choose themselves what to compute in, and a
        weakly typed engine finds float16 by itself.
        """
        if self.precision is not Precision.FP16:
            return False
        weak = self.profile is not None and self.profile.weakly_typed
        return self.backend is Backend.ONNX or (self.backend is Backend.TENSORRT and not weak)


def make_plan(request: ExportRequest, info: ModelInfo) -> ExportPlan:
    """Decide everything.

    Raises:
        UsageError: the request contradicts itself, the model or the device.
        EvitError: there is no such device profile.
    """
    profile = load_profile(request.device) if request.device else None
    if profile is None and request.target is None:
        raise UsageError(
            "what the artifact is for was not said",
            hint="pass --device NAME (`evit devices ls`) or --target onnx|tflite|openvino|tensorrt",
        )
    sam = info.task is Task.SAM
    if sam:
        check_sam_request(request, info)
    choices: list[Choice] = []
    backend = _backend(request, profile, choices.append)
    precision = _precision(request, profile, choices.append)
    size_hw, largest_hw = _sizes(request, info, backend, choices.append)
    if info.task is Task.CLASSIFY:  # its images are cropped to this size
        info = replace(info, preprocess=replace(info.preprocess, size_hw=size_hw))
    opset = _opset(request, profile, backend, choices.append)
    kind = (backend, precision, largest_hw is not None, sam)
    form = _form(request, profile, kind, choices.append)
    engine = backend is Backend.TENSORRT and _builds_here(profile, choices.append)
    suffix = SUFFIXES[backend] if engine or backend is not Backend.TENSORRT else ".onnx"
    stem = f"{info.name.replace('/', '-')}-{size_hw}-{precision.value}"
    path = _path(request, stem_of(info, size_hw, precision) if sam else stem, suffix)
    plan = ExportPlan(
        info,
        backend,
        precision,
        size_hw,
        largest_hw,
        request.batch,
        opset,
        form,
        profile,
        path,
        engine,
        tuple(choices),
    )
    return split(plan, request) if sam else plan


_Note = Callable[[Choice], None]


def _backend(request: ExportRequest, profile: Profile | None, note: _Note) -> Backend:
    if request.target is Backend.TORCH:
        raise UsageError("torch runs the weights as they are; there is nothing to export")
    if request.target is not None:
        if request.target is Backend.TENSORRT and profile is not None and profile.tensorrt is None:
            raise UsageError(f"{profile.name} has no TensorRT", hint="leave --target away")
        note(Choice("target", request.target.value, "asked for"))
        return request.target
    assert profile is not None
    first = next(c for c in profile.backends if c.backend is not Backend.TORCH)
    note(Choice("target", first.backend.value, f"{profile.name}: {first.why}"))
    return first.backend


def _precision(request: ExportRequest, profile: Profile | None, note: _Note) -> Precision:
    if request.precision is Precision.BF16:
        raise UsageError("bf16 is for the torch backend", hint="export fp16, fp32 or int8")
    known = {choice.precision: choice for choice in profile.precisions} if profile else {}
    if request.precision is not None:
        if profile is not None and request.precision not in known:
            names = ", ".join(p.value for p in known)
            raise UsageError(
                f"{profile.name} does not compute in {request.precision.value}",
                hint=f"it takes {names}",
            )
        note(Choice("precision", request.precision.value, "asked for"))
        return request.precision
    if profile is None:
        note(Choice("precision", "fp32", "the default without a device"))
        return Precision.FP32
    first = profile.precisions[0]
    note(Choice("precision", first.precision.value, f"{profile.name}: {first.why}"))
    return first.precision


def _sizes(
    request: ExportRequest, info: ModelInfo, backend: Backend, note: _Note
) -> tuple[ImageSize, ImageSize | None]:
    size, largest = request.size_hw, request.largest_hw
    why = "asked for"
    if size is None:
        size, why = info.preprocess.size_hw, "the size the model was measured at"
        if info.task is Task.SUPERRES:
            size = TILE if largest is None else _SMALLEST_TILE
            why = "images are cut into tiles of it"
    if info.task is Task.CLASSIFY and (largest is not None or size[0] != size[1]):
        asked = size if largest is None else f"{size} to {largest}"
        raise UsageError(f"a classifier takes one square size, not {asked}")
    stride = info.preprocess.stride
    for sides in filter(None, (size, largest)):
        if any(side % stride for side in sides):
            up = ImageSize(*(-(-side // stride) * stride for side in sides))
            raise UsageError(f"{sides} is no multiple of {stride}", hint=f"take {up}")
    if largest is None:
        note(Choice("size", f"{request.batch} x {size}", f"{why}; one size, the fastest"))
        return size, None
    if any(low > high for low, high in zip(size, largest, strict=True)):
        raise UsageError(f"--size {size} is larger than --max-size {largest}")
    if backend is Backend.TFLITE:
        raise UsageError(
            "a .tflite file takes one size", hint="export one file per size, or use --target onnx"
        )
    note(Choice("size", f"{request.batch} x {size} to {largest}", f"asked for, steps of {stride}"))
    return size, largest


def _opset(request: ExportRequest, profile: Profile | None, backend: Backend, note: _Note) -> int:
    opset, why = 18, "what the exporter writes without conversion"
    if profile is not None:
        opset, why = profile.onnx.opset, f"{profile.name}: {profile.onnx.why}"
    if request.opset is not None:
        opset, why = request.opset, "asked for"
    if not _OLDEST_OPSET <= opset <= _NEWEST_OPSET:
        raise UsageError(f"--opset must be {_OLDEST_OPSET} to {_NEWEST_OPSET}, got {opset}")
    if backend is not Backend.TFLITE:
        note(Choice("opset", str(opset), why))
    return opset


def _form(
    request: ExportRequest,
    profile: Profile | None,
    kind: tuple[Backend, Precision, bool, bool],
    note: _Note,
) -> Form:
    backend, precision, free, sam = kind
    layout, why = "NHWC", "images lie so in memory"
    if backend is Backend.TENSORRT:
        layout, why = "NCHW", "TensorRT's own"
    if profile is not None and backend is not Backend.OPENVINO:
        layout, why = profile.input.layout, f"{profile.name}: {profile.input.why}"
    if request.layout is not None:
        layout, why = request.layout.upper(), "asked for"
    if layout not in ("NHWC", "NCHW"):
        raise UsageError(f"there is no layout '{layout}'", hint="NHWC or NCHW")
    weak = profile is not None and profile.weakly_typed
    # A graph for free sizes reads the input's shape, which TensorRT does not of a uint8 tensor.
    floats = sam or weak or (backend is Backend.TENSORRT and free)
    dtype_why = "normalised in the graph" + ("; TensorRT takes no uint8 here" if floats else "")
    if sam:
        dtype_why = "normalised in the graph; the padding's colour is no whole number"
    attention, attention_why = _attention(backend, precision, request.batch)
    note(Choice("input", f"{'float32' if floats else 'uint8'} {layout}", f"{why}; {dtype_why}"))
    note(Choice("attention", f"by {attention}", attention_why))
    litert_cpu = backend is Backend.TFLITE and precision is Precision.FP32
    return Form(
        attention=attention,
        strips=litert_cpu,
        channels_last=layout == "NHWC",
        uint8=not floats,
        outputs_last=backend is Backend.TFLITE,
        free_size=free,
        whole_rows=litert_cpu or backend in (Backend.OPENVINO, Backend.ONNX),
    )


def _attention(backend: Backend, precision: Precision, batch: int) -> tuple[Attention, str]:
    """Which form of attention, and why."""
    if backend is Backend.TENSORRT or (
        precision is Precision.FP16 and backend is not Backend.OPENVINO
    ):
        return "means", "every intermediate stays in float16's range"
    if backend is Backend.TFLITE and precision is Precision.FP32 and batch == 1:
        return "tokens", "the fewest passes over the pixels; float32 holds the sums"
    if backend is Backend.OPENVINO and precision is Precision.FP16:
        return "blocks", "nothing is moved in memory; bfloat16 holds the sums"
    return "sums", "the fewest operators; float32 holds the sums, and bfloat16 its range"


def _builds_here(profile: Profile | None, note: _Note) -> bool:
    """Whether this machine is the one whose TensorRT builds the engine."""
    if profile is None:
        note(Choice("engine", "built here", "no device was named"))
        return True
    if not profile.transport.evit_runs_there:
        why = f"evit does not run on {profile.name}"
    else:
        try:
            here = detect_profile().profile.name
        except EvitError:
            here = "unknown"
        if here == profile.name:
            note(Choice("engine", "built here", f"this machine is a {profile.name}"))
            return True
        why = f"this machine is not a {profile.name}, and an engine runs only where it was built"
    note(Choice("engine", "an .onnx file from which the board builds it", why))
    return False


def _path(request: ExportRequest, stem: str, suffix: str) -> Path:
    out = request.out
    if out is None:
        return Path(stem + suffix)
    if out.suffix == suffix or (suffix == ".engine" and out.suffix == ".plan"):
        return out
    if out.suffix in SUFFIXES.values():
        raise UsageError(f"'{out}' must end in {suffix}, since that is what will be written")
    if out.suffix and not out.is_dir():
        raise UsageError(f"'{out}' is neither a folder nor a {suffix} file, which will be written")
    return out / (stem + suffix)
