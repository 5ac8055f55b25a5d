"""What a device profile says: the pydantic form of `devices/*.yaml`.

Numbers carry their unit in their name and a `source`; a figure that no one has published is left
out and `peak.missing` says why. Every choice has a `why`, which `evit devices show` prints.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from evit_cli.config.strict import Strict
from evit_cli.config.versions import version_key
from evit_cli.types import EXPORTED, Backend, Precision

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length=40)]
Version = Annotated[str, StringConstraints(pattern=r"^\d+(\.\d+)*$")]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

Transport = Literal["local", "ssh", "adb", "bundle"]


class DetectRule(Strict):
    """One way to recognise the device: every condition given must hold.

    Text conditions are lists of substrings, without regard to case; one that occurs is enough.

    Attributes:
        device_tree_model: in /proc/device-tree/model.
        device_tree_compatible: in /proc/device-tree/compatible.
        l4t_board: in the BOARD field of /etc/nv_tegra_release.
        l4t_release: major releases in /etc/nv_tegra_release, e.g. 32 for JetPack 4.
        gpu: in the name of a CUDA GPU.
        android_soc: in ro.soc.model or ro.board.platform.
        machine: the processor architecture, whole (x86_64, aarch64).
        memory_gib_at_least: of main memory as the system counts it.
    """

    device_tree_model: tuple[Text, ...] = ()
    device_tree_compatible: tuple[Text, ...] = ()
    l4t_board: tuple[Text, ...] = ()
    l4t_release: tuple[int, ...] = ()
    gpu: tuple[Text, ...] = ()
    android_soc: tuple[Text, ...] = ()
    machine: tuple[Text, ...] = ()
    memory_gib_at_least: Positive | None = None

    @model_validator(mode="after")
    def _says_something(self) -> DetectRule:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError("a detection rule without a condition would match every machine")
        return self


class Detect(Strict):
    """How the device is recognised: any rule is enough; the highest priority wins."""

    priority: Annotated[int, Field(ge=0, le=100)] = 50
    rules: tuple[DetectRule, ...] = ()


class BackendChoice(Strict):
    """A runtime for this device, and why it stands where it stands."""

    backend: Backend
    why: Text


class PrecisionChoice(Strict):
    """A number format for this device, and why it stands where it stands."""

    precision: Precision
    why: Text


class ToolRange(Strict):
    """The versions of a tool that this profile is written for: at_least <= version < below."""

    name: Text
    at_least: Version | None = None
    below: Version | None = None
    why: Text

    def accepts(self, version: str) -> bool:
        """Whether `version` lies in the range.

        >>> ToolRange(name="TensorRT", at_least="10.3", below="12", why="...").accepts("10.13.3.9")
        True
        """
        key = version_key(version)
        if self.at_least and key < version_key(self.at_least):
            return False
        return not (self.below and key >= version_key(self.below))

    def __str__(self) -> str:
        bounds = [f">= {self.at_least}"] if self.at_least else []
        bounds += [f"< {self.below}"] if self.below else []
        return f"{self.name} {', '.join(bounds) or '(any version)'}"


class AvoidOp(Strict):
    """A graph operator that this device's parser does not take as evit would write it."""

    op: Text
    when: Text
    instead: Text
    issues: tuple[Text, ...] = ()


class OnnxRules(Strict):
    """What an ONNX file for this device must look like."""

    opset: Annotated[int, Field(ge=11, le=25)]
    why: Text
    avoid: tuple[AvoidOp, ...] = ()


class TensorRTRules(Strict):
    """How an engine for this device is built.

    `typing` is strong when precision is written into the ONNX file (typed float16, Q/DQ int8), and
    weak when TensorRT chooses under precision flags. `flags` are trtexec's.
    """

    typing: Literal["strong", "weak"]
    build_on: Literal["device", "host"]
    trtexec: Text
    flags: tuple[Text, ...] = ()
    why: Text


class InputRules(Strict):
    """Layout and shapes of a model's input on this device."""

    layout: Literal["NCHW", "NHWC"]
    shapes: Literal["static", "bounded"]
    why: Text


class MemoryLimit(Strict):
    """The memory a model may use, all of it and what evit leaves to the rest of the system."""

    total_gib: Positive
    usable_gib: Positive
    shared_with_cpu: bool
    source: Text
    why: Text

    @model_validator(mode="after")
    def _fits(self) -> MemoryLimit:
        if self.usable_gib > self.total_gib:
            raise ValueError(
                f"usable_gib is {self.usable_gib}, more than total_gib, {self.total_gib}"
            )
        return self


class Accelerator(Strict):
    """A processor beside the CPU and GPU (DLA, NPU), and whether evit uses it."""

    kind: Literal["dla", "npu"]
    name: Text
    used_by_evit: bool
    why: Text


class TransportRules(Strict):
    """How work gets to the device; the first of `ways` is the default."""

    ways: Annotated[tuple[Transport, ...], Field(min_length=1)]
    evit_runs_there: bool
    python: Version | None = None
    why: Text


class Figure(Strict):
    """A published number with its source; `derived` when computed from what the source says."""

    value: Positive
    source: Text
    derived: bool = False
    how: str = ""

    @model_validator(mode="after")
    def _shows_its_working(self) -> Figure:
        if self.derived and not self.how:
            raise ValueError("a derived figure says how it was derived, in 'how'")
        return self


class Peak(Strict):
    """Ceilings for estimates, dense, at the power mode named.

    Attributes:
        compute_tera_ops_per_s: per precision; a multiply-add counts as two operations.
        bandwidth_gb_per_s: of main memory, 1 GB = 10^9 bytes.
        power_mode: the mode at which the figures hold.
        missing: why a figure is not given, empty when all are.
    """

    compute_tera_ops_per_s: dict[Precision, Figure] = Field(default_factory=dict)
    bandwidth_gb_per_s: Figure | None = None
    power_mode: str = ""
    missing: str = ""

    @model_validator(mode="after")
    def _explains_gaps(self) -> Peak:
        complete = self.compute_tera_ops_per_s.keys() >= set(EXPORTED) and self.bandwidth_gb_per_s
        if not complete and not self.missing:
            raise ValueError("say in 'missing' why a figure is not given")
        return self


class KnownProblem(Strict):
    """Something people ran into on this device, and what evit does about it."""

    problem: Text
    evit: Text
    issues: tuple[Text, ...] = ()


class Profile(Strict):
    """A device profile: one file in `devices/`, or a user's own."""

    name: Name
    title: Text
    aliases: tuple[Name, ...] = ()
    run_on_hardware_by_us: bool = False
    detect: Detect = Detect()
    backends: Annotated[tuple[BackendChoice, ...], Field(min_length=1)]
    precisions: Annotated[tuple[PrecisionChoice, ...], Field(min_length=1)]
    tools: tuple[ToolRange, ...] = ()
    onnx: OnnxRules
    tensorrt: TensorRTRules | None = None
    input: InputRules
    memory: MemoryLimit | None = None
    accelerators: tuple[Accelerator, ...] = ()
    transport: TransportRules
    peak: Peak
    known_problems: tuple[KnownProblem, ...] = ()

    @field_validator("name")
    @classmethod
    def _not_auto(cls, name: str) -> str:
        if name == "auto":
            raise ValueError("'auto' means the profile of the machine at hand")
        return name

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        for what, chosen in (
            ("backends", [choice.backend for choice in self.backends]),
            ("precisions", [choice.precision for choice in self.precisions]),
        ):
            if len(set(chosen)) != len(chosen):
                raise ValueError(f"{what} names the same choice twice")
        if (Backend.TENSORRT in self.all_backends) != (self.tensorrt is not None):
            raise ValueError("'tensorrt' is needed exactly when tensorrt is one of the backends")
        return self

    @property
    def all_backends(self) -> tuple[Backend, ...]:
        """The runtimes, best first."""
        return tuple(choice.backend for choice in self.backends)

    @property
    def weakly_typed(self) -> bool:
        """Whether its TensorRT chooses float16 by itself instead of reading it off the file."""
        return self.tensorrt is not None and self.tensorrt.typing == "weak"

    @property
    def all_precisions(self) -> tuple[Precision, ...]:
        """The number formats, best first."""
        return tuple(choice.precision for choice in self.precisions)

    @property
    def backend(self) -> Backend:
        """The runtime to take unless told otherwise."""
        return self.backends[0].backend

    @property
    def precision(self) -> Precision:
        """The number format to take unless told otherwise."""
        return self.precisions[0].precision

    @property
    def default_transport(self) -> Transport:
        """The way work gets to the device unless told otherwise."""
        return self.transport.ways[0]

    def tool(self, name: str) -> ToolRange | None:
        """The version range of a tool, by its name without regard to case."""
        return next((tool for tool in self.tools if tool.name.lower() == name.lower()), None)
