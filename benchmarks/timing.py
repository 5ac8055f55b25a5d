"""Medians of several candidates timed in turn, so that a machine that slows down slows all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

WARM_UP = 3

Times = npt.NDArray[np.float64]


def times_ms(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    """The time of each candidate in each round, (rounds,)."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + WARM_UP):
        for name, run in candidates.items():
            before = time.perf_counter()
            run()
            if number >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - before))
    return {name: np.array(values) for name, values in times.items()}


def medians_ms(candidates: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    times = times_ms(candidates, rounds)
    return {name: float(np.median(values)) for name, values in times.items()}


def paired_ratio(times: Times, yardstick: Times) -> tuple[float, float, float]:
    """Quartiles of the ratios round by round: the median, then the first and the third.

    A machine that others slow down for seconds has two medians; within a round it has one speed.
    """
    first, middle, third = np.percentile(times / yardstick, (25, 50, 75))
    return float(middle), float(first), float(third)


def litert_call(path: Path, threads: int) -> Callable[[], Any]:
    """One invocation of a .tflite file on fixed random input."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    interpreter.allocate_tensors()
    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        values = rng.integers(0, 255, details["shape"])
        if details["dtype"] != np.uint8:
            values = rng.standard_normal(details["shape"])
        interpreter.set_tensor(details["index"], values.astype(details["dtype"]))
    return interpreter.invoke


def onnx_call(path: Path, threads: int) -> Callable[[], Any]:
    """One run of a float32 .onnx file in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin after a run would slow down the candidate whose turn is next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    feed = {source.name: np.random.default_rng(0).standard_normal(source.shape, np.float32)}
    return lambda: session.run(None, feed)


def openvino_call(path: Path, threads: int, precision: str) -> Callable[[], Any]:
    """One inference of a float32-input .onnx file in OpenVINO, precision "f32" or "bf16"."""
    import openvino

    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    shape = list(request.model_inputs[0].shape)
    image = np.random.default_rng(0).standard_normal(shape, np.float32)
    return lambda: request.infer({0: image})


def ratios(result: Mapping[str, float]) -> str:
    """The medians, and each as a multiple of the first."""
    base = next(iter(result.values()))
    return "\n".join(f"  {name}: {ms:.2f} ms ({ms / base:.3f}x)" for name, ms in result.items())
