"""What benchmark_model prints, in the formats of three generations, with numbers of our own.

The formats follow outputs that people recorded on phones and in issues, and the tool's messages.
"""

from __future__ import annotations

OLD, INTERPRETER, COMPILED = GENERATIONS = ("old", "interpreter", "compiled")

_SHARED = {
    "graph", "num_threads", "warmup_runs", "warmup_min_secs", "num_runs", "min_secs", "max_secs",
    "use_gpu",
}  # fmt: skip
KNOWN = {
    OLD: _SHARED
    | {"use_xnnpack", "gpu_precision_loss_allowed", "use_nnapi", "nnapi_accelerator_name",
       "disable_nnapi_cpu", "allow_fp16", "external_delegate_path", "external_delegate_options"},
    INTERPRETER: _SHARED
    | {"use_xnnpack", "gpu_precision_loss_allowed", "use_nnapi", "nnapi_accelerator_name",
       "disable_nnapi_cpu", "allow_fp16", "external_delegate_path", "external_delegate_options",
       "require_full_delegation", "report_peak_memory_footprint"},
    COMPILED: _SHARED
    | {"use_cpu", "use_npu", "allow_fp16", "require_full_delegation", "dispatch_library_path",
       "compiler_plugin_library_path", "report_peak_memory_footprint"},
}  # fmt: skip
_TITLES = {
    "use_gpu": "Use gpu", "use_nnapi": "Use NNAPI", "use_xnnpack": "Use xnnpack",
    "num_threads": "Num threads", "num_runs": "Min num runs", "graph": "Graph",
    "external_delegate_path": "External delegate path",
}  # fmt: skip
US = {"cpu": 31_250, "gpu": 9_400, "npu": 2_480}
"""The median of each accelerator here."""
NODES = 412
LEFT = 57
"""Nodes that stay on the CPU where an accelerator takes a part."""


def lowest(median: int) -> int:
    """The fastest run."""
    return median - median // 40


def p95(median: int) -> int:
    """The 95th percentile."""
    return median + median // 50


def highest(median: int) -> int:
    """The slowest run."""
    return median + median // 5


def stage(count: int, median: int, *, generation: str) -> str:
    """A stage's line; its average, deviation and percentiles follow from the median."""
    if count == 1:
        line = f"count=1 curr={median}"
    else:
        line = (
            f"count={count} first={median + 900} curr={median - 12} min={lowest(median)} "
            f"max={highest(median)} avg={median + 37.5:g} std={median // 100}"
        )
    if generation == OLD:
        return line
    if count == 1:
        return f"{line} p5={median} median={median} p95={median}"
    return f"{line} p5={median - median // 100} median={median} p95={p95(median)}"


def accelerator_of(flags: dict[str, str]) -> str:
    """What the flags that the tool knows ask for."""
    if flags.get("use_gpu") == "true":
        return "gpu"
    wants = ("use_npu", "use_nnapi")
    if any(flags.get(name) == "true" for name in wants) or "external_delegate_path" in flags:
        return "npu"
    return "cpu"


def render(generation: str, flags: dict[str, str], behaviour: str = "full") -> tuple[str, int]:
    """What the tool prints, and its exit status.

    Args:
        generation: of the tool.
        flags: by name, those it does not know among them.
        behaviour: of the accelerator asked for: "full", "partial", "declines" (and the CPU does
            it), "fails", "missing" (no driver), "broken" (its kernel cannot be made) or "silent"
            (it says nothing of who ran the graph).
    """
    unknown = [
        f"--{name}={value}" for name, value in flags.items() if name not in KNOWN[generation]
    ]
    known = {name: value for name, value in flags.items() if name in KNOWN[generation]}
    accelerator = accelerator_of(known)
    lines = ["STARTING!"]
    lines += [f"Unconsumed cmdline flags: {' '.join(unknown)}"] if unknown else []
    lines += ["Log parameter values verbosely: [0]"]
    lines += [f"{_TITLES[name]}: [{value}]" for name, value in known.items() if name in _TITLES]
    strict = known.get("require_full_delegation") == "true"
    if generation == COMPILED:
        body, code = _compiled(known, accelerator, behaviour, strict)
    else:
        body, code = _interpreter(known, accelerator, behaviour, strict)
    if code == 0:
        body += _results(generation, known, US["cpu" if behaviour in _ON_CPU else accelerator])
    text = "\n".join(_levelled(line, generation, unknown) for line in lines + body)
    return text + "\n", code


_ON_CPU = ("declines", "missing", "broken", "silent")


def _levelled(line: str, generation: str, unknown: list[str]) -> str:
    level = "WARN: " if unknown and line.startswith("Unconsumed") else "INFO: "
    has_level = ": " in line[:9] and line.split(":")[0].isupper()
    continued = "operations will run on the GPU" in line  # of an error of several lines
    bare = generation == OLD or not line or has_level or continued
    return line if bare else f"{level}{line}"


def _delegate_line(name: str, taken: int, pieces: int) -> str:
    return (
        f"VERBOSE: Replacing {taken} out of {NODES} node(s) with delegate ({name}) node, "
        f"yielding {pieces} partitions for subgraph 0 (main)."
    )


_UNSUPPORTED = [
    "ERROR: Following operations are not supported by GPU delegate:",
    "ARG_MAX: Operation is not supported.",
    "CAST: Not supported Cast case.",
    f"{NODES - LEFT} operations will run on the GPU, and the remaining {LEFT} operations will run "
    "on the CPU.",
]


def _interpreter(
    flags: dict[str, str], accelerator: str, behaviour: str, strict: bool
) -> tuple[list[str], int]:
    lines = []
    external = "external_delegate_path" in flags
    title = {"cpu": "XNNPACK", "gpu": "GPU", "npu": "EXTERNAL" if external else "NNAPI"}[
        accelerator
    ]
    kernel = {
        "XNNPACK": "TfLiteXNNPackDelegate", "GPU": "TfLiteGpuDelegateV2",
        "NNAPI": "TfLiteNnapiDelegate", "EXTERNAL": "TfLiteQnnDelegate",
    }[title]  # fmt: skip
    if title == "NNAPI":
        offered = "nnapi-reference" if behaviour == "missing" else "qti-default,nnapi-reference"
        lines.append(f"NNAPI accelerators available: [{offered}]")
    lines += [f"Loaded model {flags['graph']}", "INFO: Initialized TensorFlow Lite runtime."]
    lines.append(f"INFO: Created TensorFlow Lite delegate for {title}.")
    if behaviour == "fails":
        return [
            *lines,
            "ERROR: TfLiteGpuDelegate Init: Unrecognized Write selector",
            "ERROR: Node number 412 (TfLiteGpuDelegateV2) failed to prepare.",
            f"Failed to apply {title} delegate.",
            "Benchmarking failed.",
        ], 1
    whole = behaviour == "full" or accelerator == "cpu"
    taken = NODES if whole else NODES - LEFT if behaviour == "partial" else 0
    if behaviour == "partial" and accelerator == "gpu":
        lines += _UNSUPPORTED
    if taken:
        lines.append(_delegate_line(kernel, taken, 1 if whole else 3))
    if strict and not whole:
        return [
            *lines,
            "ERROR: Disallowed CPU fallback detected.",
            "ERROR: Benchmarking failed.",
        ], 1
    if not whole:
        lines.append(_delegate_line("TfLiteXNNPackDelegate", NODES - taken, 1))
    if whole:
        lines.append(
            f"Explicitly applied {title} delegate, and the model graph will be completely executed "
            "by the delegate."
        )
    elif taken:
        lines.append(
            f"Explicitly applied {title} delegate, and the model graph will be partially executed "
            "by the delegate w/ 3 delegate kernels."
        )
    else:
        lines.append(
            f"Though {title} delegate is explicitly applied, the model graph will not be executed "
            "by the delegate."
        )
    return lines, 0


def _compiled(
    flags: dict[str, str], accelerator: str, behaviour: str, strict: bool
) -> tuple[list[str], int]:
    kernel = {"cpu": "TfLiteXNNPackDelegate", "gpu": "LITERT_CL", "npu": "DispatchDelegate"}
    lines = [
        f"[benchmark_litert_model.cc:137] Loading model from: {flags['graph']}",
        "[environment.cc:29] Creating LiteRT environment with options",
        "WARNING: [auto_registration.cc:46] NPU accelerator could not be loaded and registered: "
        "kLiteRtStatusErrorInvalidArgument.",
    ]
    if accelerator == "gpu" and behaviour == "missing":
        lines.append(
            "WARNING: [gpu_registry.cc:131] GPU accelerator could not be loaded and registered."
        )
    if behaviour == "fails":
        return [
            *lines,
            "ERROR: [compiled_model.cc:412] Failed to initialize the OpenCL environment.",
            "ERROR: [benchmark_litert_model.cc:172] Failed to compile model.",
            "ERROR: Benchmarking failed.",
        ], 1
    whole = behaviour == "full" or accelerator == "cpu"
    taken = NODES if whole else NODES - LEFT if behaviour == "partial" else 0
    if behaviour == "broken":
        lines.append(_delegate_line(kernel[accelerator], NODES, 1))
        lines.append(
            "ERROR: [dispatch_delegate.cc:90] Failed to create a dispatch delegate kernel."
        )
    elif taken and behaviour != "silent":
        lines.append(_delegate_line(kernel[accelerator], taken, 1 if whole else 3))
    if strict and not whole and behaviour not in ("silent", "broken"):
        return [
            *lines,
            "ERROR: [compiled_model.cc:829] Some ops are not accelerated. Add "
            "kLiteRtHwAcceleratorCpu to the compilation accelerator set to allow using the CPU to "
            "run those.",
            "ERROR: [benchmark_litert_model.cc:172] Failed to compile model.",
            "ERROR: Benchmarking failed.",
        ], 1
    if not whole and behaviour != "silent":
        lines.append(_delegate_line(kernel["cpu"], NODES - taken, 1))
    lines.append("Created TensorFlow Lite XNNPACK delegate for CPU.")
    return lines, 0


def _results(generation: str, flags: dict[str, str], median: int) -> list[str]:
    warm, runs = int(flags["warmup_runs"]), int(flags["num_runs"])
    peak = flags.get("report_peak_memory_footprint") == "true"
    first = median + 5_000
    lines = [
        "The input model file size (MB): 3.05668",
        "Initialized session in 842.225ms.",
        f"Running benchmark for at least {warm} iterations and at least "
        f"{flags['warmup_min_secs']} seconds but terminate if exceeding 150 seconds.",
        stage(warm, first, generation=generation),
        "",
        f"Running benchmark for at least {runs} iterations and at least {flags['min_secs']} "
        "seconds but terminate if exceeding 150 seconds.",
        stage(runs, median, generation=generation),
        "",
    ]
    if generation == COMPILED:
        return lines + _summary_in_ms(warm, runs, first, median, peak)
    lines += [
        f"Inference timings in us: Init: 842225, First inference: {first}, Warmup (avg): "
        f"{first + 37.5:g}, Inference (avg): {median + 37.5:g}",
        "Note: as the benchmark tool itself affects memory footprint, the following is only "
        "APPROXIMATE to the actual memory footprint of the model at runtime. Take the information "
        "at your discretion.",
        "Memory footprint delta from the start of the tool (MB): init=31.0469 overall=44.582",
    ]
    if peak:
        lines.append("Overall peak memory footprint (MB) via periodic monitoring: 93.5")
    return lines


def _summary_in_ms(warm: int, runs: int, first: int, median: int, peak: bool) -> list[str]:
    where = "[./litert/tools/benchmark_litert_model.h:{}]"
    said = [
        (72, "\n========== BENCHMARK RESULTS =========="),
        (73, "Model initialization: 842.23 ms"),
        (75, f"Warmup (first):       {first / 1e3:.2f} ms"),
        (77, f"Warmup (avg):         {first / 1e3:.2f} ms ({warm} runs)"),
        (79, f"Inference (avg):      {(median + 37.5) / 1e3:.2f} ms ({runs} runs)"),
        (83, f"Inference (min):      {lowest(median) / 1e3:.2f} ms"),
        (85, f"Inference (max):      {highest(median) / 1e3:.2f} ms"),
        (87, f"Inference (std):      {median / 1e5:.2f}"),
        (94, "Throughput:           125.55 MB/s"),
        (103, "\nMemory Usage:"),
        (105, "Init footprint:       31.05 MB"),
        (107, "Overall footprint:    44.58 MB"),
        (114, "Peak memory:          93.50 MB")
        if peak
        else (114, "Peak memory usage not available. (peak_mem_mb <= 0)"),
        (117, "======================================\n"),
    ]
    return [f"{where.format(line)} {text}" for line, text in said]
