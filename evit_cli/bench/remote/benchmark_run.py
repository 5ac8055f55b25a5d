"""How benchmark_model is asked for a CPU, GPU or NPU, and whether that is what ran the model.

An accelerator that does not take a model leaves it to the CPU, and the tool times that without an
error. So a GPU or NPU is first asked to take the whole graph or to fail; where it takes a part,
the tool must say in a second call how much. What proves nothing gives no number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from evit_cli.bench.protocol import Protocol
from evit_cli.bench.remote.benchmark_model import BenchmarkOutput
from evit_cli.errors import EvitError
from evit_cli.types import Precision

CPU, GPU, NPU = ACCELERATORS = ("cpu", "gpu", "npu")
_TITLES = {CPU: "CPU", GPU: "GPU", NPU: "NPU"}
QNN = "libQnnTFLiteDelegate.so"
DISPATCH = "libLiteRtDispatch_"

_XNNPACK = re.compile("xnnpack", re.IGNORECASE)
_GPU = re.compile(r"gpu|litert_(?:cl|gl|webgpu|vulkan|metal)|drift|opencl", re.IGNORECASE)
_NOT_WHOLE = ("Disallowed CPU fallback detected", "Some ops are not accelerated")
_NO_DISPATCH = ("Failed to create a dispatch delegate kernel", "No usable Dispatch runtime")
_REFERENCE = "nnapi-reference"


@dataclass(frozen=True)
class RunPlan:
    """One call of benchmark_model on the phone.

    Attributes:
        accelerator: "cpu", "gpu" or "npu".
        folder: on the phone, with the tool and the model in it.
        model: name of the model there.
        precision: of the model; only fp32 forbids the GPU to compute in half precision.
        threads: CPU threads, None for the tool's choice.
        protocol: how long.
        libraries: names of shared libraries that were copied along.
        nnapi: the accelerator that NNAPI shall take, "" for its choice.
    """

    accelerator: str
    folder: str
    model: str
    precision: Precision
    threads: int | None
    protocol: Protocol
    libraries: tuple[str, ...] = ()
    nnapi: str = ""


def flags_of(plan: RunPlan, *, strict: bool) -> list[str]:
    """Flags for the timed call; each generation of the tool ignores those it does not know.

    Args:
        plan: what to run.
        strict: fail rather than leave a part of the graph to the CPU.
    """
    time = plan.protocol
    return [
        *_common(plan, strict=strict),
        f"--warmup_runs={time.warm_runs}",
        f"--warmup_min_secs={time.warm_s:g}",
        f"--num_runs={time.runs}",
        f"--min_secs={time.seconds:g}",
        f"--max_secs={time.limit_s:g}",
    ]


def memory_flags_of(plan: RunPlan, *, strict: bool) -> list[str]:
    """Flags for a short second call that looks at the memory, which would disturb the timed one."""
    return [
        *_common(plan, strict=strict),
        "--warmup_runs=1",
        "--warmup_min_secs=0",
        "--num_runs=1",
        "--min_secs=0",
        "--report_peak_memory_footprint=true",
    ]


def _common(plan: RunPlan, *, strict: bool) -> list[str]:
    flags = [f"--graph={plan.folder}/{plan.model}"]
    if plan.threads is not None:
        flags.append(f"--num_threads={plan.threads}")
    if plan.accelerator == CPU:
        return [*flags, "--use_xnnpack=true"]
    if strict:  # the CompiledModel tool aborts when it may use the CPU and must not
        flags += ["--require_full_delegation=true", "--use_cpu=false"]
    if plan.accelerator == GPU:
        half = str(plan.precision is not Precision.FP32).lower()
        return [
            *flags, "--use_gpu=true", f"--gpu_precision_loss_allowed={half}", f"--allow_fp16={half}"
        ]  # fmt: skip
    return flags + _npu_flags(plan)


def _npu_flags(plan: RunPlan) -> list[str]:
    """By Qualcomm's delegate or LiteRT's dispatch library where they were given, else by NNAPI."""
    if QNN in plan.libraries:
        options = f"backend_type:htp;skel_library_dir:{plan.folder}"
        return [
            f"--external_delegate_path={plan.folder}/{QNN}",
            f"--external_delegate_options={options}",
        ]
    if any(name.startswith(DISPATCH) for name in plan.libraries):
        return [
            "--use_npu=true",
            f"--dispatch_library_path={plan.folder}",
            f"--compiler_plugin_library_path={plan.folder}",
        ]
    flags = ["--use_npu=true", "--use_nnapi=true", "--disable_nnapi_cpu=true"]
    return flags + ([f"--nnapi_accelerator_name={plan.nnapi}"] if plan.nnapi else [])


def wants_part(output: BenchmarkOutput) -> bool:
    """Whether a strict call failed for nothing but that a part of the graph is left over."""
    return not output.finished and any(
        words in line for words in _NOT_WHOLE for line in output.trouble
    )


def refusal(
    output: BenchmarkOutput, accelerator: str, *, code: int, strict: bool
) -> EvitError | None:
    """Why the call gives no number for this accelerator, None where it does.

    Args:
        output: what the tool said.
        accelerator: what was asked for.
        code: the tool's exit status.
        strict: whether it was told to fail rather than use the CPU.
    """
    title = _TITLES[accelerator]
    if code != 0 or not output.finished or output.runs is None:
        reason = output.complaint or f"it ended with exit status {code}"
        return EvitError(
            f"benchmark_model failed on the {title}: {reason}", hint=_hint(output, accelerator)
        )
    if accelerator == CPU:
        return None
    broken = next((line for line in output.trouble for w in _NO_DISPATCH if w in line), "")
    if broken or not _proven(output, accelerator, strict=strict):
        reason = broken.rstrip(".") or _why_unproven(output, title)
        return EvitError(
            f"the {title} did not run the model, the CPU did: {reason}",
            hint=_hint(output, accelerator),
        )
    return None


def partial(output: BenchmarkOutput, accelerator: str) -> str:
    """A taint where a part of the graph ran on the CPU, "" where none did or it is the CPU."""
    if accelerator == CPU:
        return ""
    own = [d for d in output.delegations if _belongs(d.delegate, accelerator)]
    taken, nodes = sum(d.taken for d in own), sum(d.nodes for d in own)
    if taken < nodes:
        return f"{nodes - taken} of {nodes} nodes of the graph ran on the CPU"
    if not own and any(
        how == "partially" for name, how in output.applied.items() if _belongs(name, accelerator)
    ):
        return "a part of the graph ran on the CPU"
    return ""


def _proven(output: BenchmarkOutput, accelerator: str, *, strict: bool) -> bool:
    """Whether the tool's own words show that the accelerator worked."""
    own = [d for d in output.delegations if _belongs(d.delegate, accelerator)]
    if own or output.delegations:
        # It names delegates, so what it does not name was not there.
        return any(d.taken for d in own) and not _declined(output, accelerator)
    applied = {how for name, how in output.applied.items() if _belongs(name, accelerator)}
    if applied:
        return "not" not in applied
    # Such a build fails by itself when a node is left; one that ignored the flag proves nothing.
    needed = {"require_full_delegation", "use_cpu", f"use_{accelerator}"}
    return strict and output.compiled and not needed & output.unknown_flags


def _declined(output: BenchmarkOutput, accelerator: str) -> bool:
    return any(how == "not" for name, how in output.applied.items() if _belongs(name, accelerator))


def _belongs(delegate: str, accelerator: str) -> bool:
    if _XNNPACK.search(delegate):
        return accelerator == CPU
    return (accelerator == GPU) == bool(_GPU.search(delegate))


def _why_unproven(output: BenchmarkOutput, title: str) -> str:
    if title == "NPU" and set(output.nnapi) == {_REFERENCE}:
        return "the phone offers no NPU to NNAPI"
    ignored = sorted(output.unknown_flags & {"use_gpu", "use_npu", "external_delegate_path"})
    if ignored:
        return f"this benchmark_model does not know --{ignored[0]}"
    if output.unsupported:
        return f"the {title} takes no {', '.join(output.unsupported[:4])}"
    missing = [line for line in output.trouble if f"{title} accelerator could not" in line]
    return missing[-1].rstrip(".") if missing else f"no part of the graph was given to the {title}"


def _hint(output: BenchmarkOutput, accelerator: str) -> str:
    said = "\n".join(output.trouble)
    if "CANNOT LINK EXECUTABLE" in said or "dlopen failed" in said:
        return "name the folder of the shared libraries that it needs with --phone-libraries DIR"
    if accelerator == NPU:
        return (
            "name the folder of the NPU's libraries (Qualcomm's AI Engine Direct, or LiteRT's "
            "dispatch library) with --phone-libraries DIR; without them only NNAPI is left, which "
            "Android 15 deprecates"
        )
    if accelerator == GPU:
        taken = ", ".join(output.unsupported[:4])
        return f"it takes no {taken}; measure it on the CPU" if taken else "measure it on the CPU"
    return "try another benchmark_model, or see what it says by hand: adb shell"
