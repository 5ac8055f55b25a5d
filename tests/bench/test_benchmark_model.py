"""What benchmark_model prints is read, in every generation, whatever it is."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench.remote.benchmark_model import (
    BenchmarkOutput,
    Delegation,
    Runs,
    latency_from,
    parse_benchmark,
)
from evit_cli.bench.remote.benchmark_run import ACCELERATORS, partial, refusal, wants_part
from evit_cli.errors import EvitError
from tests.helpers.benchmark_outputs import (
    COMPILED,
    GENERATIONS,
    INTERPRETER,
    LEFT,
    NODES,
    OLD,
    US,
    highest,
    lowest,
    p95,
    render,
)

ARTIFACT = Path(str(files("evit_cli") / "assets/models/seg-b0-street.tflite"))
FLAGS = {
    "graph": "/data/local/tmp/m.tflite", "warmup_runs": "10", "warmup_min_secs": "0.2",
    "num_runs": "100", "min_secs": "3",
}  # fmt: skip
ASK = {
    "cpu": {},
    "gpu": {"use_gpu": "true"},
    "npu": {"use_nnapi": "true", "use_npu": "true"},
}


def said(generation: str, accelerator: str, behaviour: str = "full", **flags: str) -> str:
    return render(generation, {**FLAGS, **ASK[accelerator], **flags}, behaviour)[0]


@pytest.mark.parametrize("generation", GENERATIONS)
@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_times_of_every_generation(generation: str, accelerator: str) -> None:
    text = said(generation, accelerator, report_peak_memory_footprint="true")
    output = parse_benchmark(text)
    median = US[accelerator]
    assert output.finished and output.compiled == (generation == COMPILED)
    assert output.init_ms == pytest.approx(842.2, abs=0.1)
    assert output.runs is not None and output.runs.n == 100
    assert output.runs.min == lowest(median) and output.runs.max == highest(median)
    assert output.runs.mean == pytest.approx(median + 37.5, rel=1e-4)
    if generation == OLD:
        assert (output.runs.p5, output.runs.median, output.runs.p95) == (None, None, None)
        assert output.peak_bytes is None
        assert "report_peak_memory_footprint" in output.unknown_flags
    else:
        assert output.runs.median == median and output.runs.p95 == p95(median)
        assert output.peak_bytes == round(93.5 * 2**20)
    assert refusal(output, accelerator, code=0, strict=False) is None
    assert partial(output, accelerator) == ""


def test_a_line_recorded_from_logcat_is_read() -> None:
    text = (
        "06-12 10:00:01.1  99  99 I tflite  : count=7 first=61000 curr=52000 min=51000 max=61000 "
        "avg=53714.3 std=3100\n"
        "06-12 10:00:05.1  99  99 I tflite  : count=25 first=52100 curr=52300 min=51200 max=54100 "
        "avg=2.95034e+06 std=583 p5=51400 median=52200 p95=53600\n"
    )
    output = parse_benchmark(text)
    assert output.runs == Runs(25, 51200, 54100, 2950340.0, 583, 51400, 52200, 53600)
    assert not output.finished


def test_runs_that_all_took_the_same_time() -> None:
    text = "count=1 curr=9\ncount=50 curr=700(all same)\nInference timings in us: Init: 5, x\n"
    output = parse_benchmark(text)
    assert output.runs == Runs(50, 700, 700, 700, 0.0, None, 700, None)
    latency, taints = latency_from(output.runs)
    assert latency.iqr_ratio == 0 and latency.p99 == 0.7 and taints == ()


def test_a_warm_up_alone_is_no_measurement() -> None:
    whole = said(INTERPRETER, "cpu").splitlines()
    first = next(i for i, line in enumerate(whole) if "count=" in line)
    output = parse_benchmark("\n".join(whole[: first + 1]))
    assert output.runs is None and not output.finished
    assert isinstance(refusal(output, "cpu", code=0, strict=False), EvitError)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_output_that_breaks_off_is_never_finished(generation: str) -> None:
    whole = said(generation, "gpu")
    end = whole.index("Inference (avg)" if generation == COMPILED else "Inference timings")
    for cut in range(0, end, 53):
        output = parse_benchmark(whole[:cut])
        assert not output.finished
        assert refusal(output, "gpu", code=0, strict=True) is not None


def test_latency_by_the_rules() -> None:
    runs = Runs(200, min=900, max=1500, mean=1010, std=40, p5=950, median=1000, p95=1100)
    latency, taints = latency_from(runs)
    assert (latency.n, latency.min, latency.p50, latency.mean) == (200, 0.9, 1.0, 1.01)
    assert (latency.p90, latency.p95, latency.p99) == (1.1, 1.1, 1.5)
    assert latency.iqr_ratio == pytest.approx(0.0615, abs=1e-4) and taints == ()
    old, taints = latency_from(Runs(200, min=900, max=1500, mean=1010, std=40))
    assert (old.p50, old.p90, old.p95, old.p99) == (1.01, 1.5, 1.5, 1.5)
    assert old.iqr_ratio == pytest.approx(1.349 * 40 / 1010) and "no median" in taints[0]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "VERBOSE: Replacing 31 out of 31 node(s) with delegate (Vx Delegate) node, yielding 1 "
            "partitions for the whole graph.",
            Delegation("Vx Delegate", 31, 31, 1),
        ),
        (
            "tflite:  Replacing 8 out of 9 nodes with delegate (LITERT_CL)",
            Delegation("LITERT_CL", 8, 9),
        ),
    ],
)
def test_delegations(line: str, expected: Delegation) -> None:
    assert parse_benchmark(line).delegations == (expected,)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("Failed to apply GPU delegate.\nBenchmarking failed.\n", "Failed to apply GPU delegate"),
        (
            'CANNOT LINK EXECUTABLE "./benchmark_model": library "libLiteRt.so" not found: needed '
            "by main executable\n",
            'CANNOT LINK EXECUTABLE "./benchmark_model": library "libLiteRt.so" not found: needed '
            "by main executable",
        ),
        (
            "/system/bin/sh: /data/local/tmp/b: not executable: 64-bit ELF file\n",
            "/system/bin/sh: /data/local/tmp/b: not executable: 64-bit ELF file",
        ),
        (
            "ERROR: Failed to mmap model /x\nERROR: Benchmarking failed.\n",
            "Failed to mmap model /x",
        ),
        ("INFO: STARTING!\nSegmentation fault \n", "Segmentation fault"),
        ("WARNING: [a.cc:4] NPU accelerator could not be loaded and registered: kX.\n", ""),
        ("INFO: STARTING!\n", ""),
    ],
)
def test_what_went_wrong(text: str, complaint: str) -> None:
    output = parse_benchmark(text)
    assert output.complaint == complaint
    error = refusal(output, "cpu", code=1, strict=False)
    assert error is not None and (complaint or "exit status 1") in error.message and error.hint


@pytest.mark.parametrize("generation", GENERATIONS)
def test_operations_that_stay_on_the_cpu(generation: str) -> None:
    text = said(generation, "gpu", "partial")
    output = parse_benchmark(text)
    assert partial(output, "gpu") == f"{LEFT} of {NODES} nodes of the graph ran on the CPU"
    if generation != COMPILED:
        assert output.unsupported == ("ARG_MAX", "CAST")
    strict = parse_benchmark(
        said(generation, "gpu", "partial", require_full_delegation="true", use_cpu="false")
    )
    assert wants_part(strict) == (generation != OLD)


def test_a_build_that_does_not_know_the_accelerator_proves_nothing() -> None:
    text = said(OLD, "cpu", use_npu="true", require_full_delegation="true", use_cpu="false")
    error = refusal(parse_benchmark(text), "npu", code=0, strict=True)
    assert error is not None and "does not know --use_npu" in error.message


def test_the_python_tool_of_litert_is_read() -> None:
    """A real tool and a real model: the only benchmark tool of LiteRT that comes in a wheel."""
    pytest.importorskip("ai_edge_litert.tools.benchmark_litert_model")
    command = [sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model"]
    done = subprocess.run(
        [*command, f"--model={ARTIFACT}", "--num_runs=3", "--warmup_runs=1"],
        capture_output=True,
        text=True,
        check=True,
    )
    output = parse_benchmark(done.stderr + done.stdout)
    assert output.finished and output.runs is not None and output.runs.n == 3
    runs = output.runs
    assert runs.median is not None and runs.p5 is not None and runs.p95 is not None
    assert 0 < runs.min <= runs.p5 <= runs.median <= runs.p95 <= runs.max
    assert output.init_ms is not None and refusal(output, "cpu", code=0, strict=False) is None


PIECES = st.sampled_from(
    [
        "count=", "Inference timings in us: Init: ", "Inference (avg): ", " ms (", " runs)", "99",
        "1e5", "Replacing 5 out of ", " node(s) with delegate (", ")", "ERROR: ", "INFO: ", "0",
        " curr=", " min=", " max=", " avg=", " std=", " p5=", " median=", " p95=", "\n", "\r\n",
        "] ", "(all same)", "Unconsumed cmdline flags: --a --b=", "9" * 400, "nan", "inf", "-3",
        "Overall peak memory footprint (MB) via periodic monitoring: ",
        "Explicitly applied GPU delegate, and the model graph will be ", "completely",
    ]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=6), max_size=40).map("".join))
def test_nothing_is_too_garbled(text: str) -> None:
    output = parse_benchmark(text)
    assert isinstance(output, BenchmarkOutput)
    if output.runs is not None:
        latency_from(output.runs)
    for accelerator in ACCELERATORS:
        refusal(output, accelerator, code=0, strict=True)
        partial(output, accelerator)


@given(
    st.integers(2, 10**6),
    st.lists(st.integers(1, 10**9), min_size=6, max_size=6).map(sorted),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_what_is_printed_is_what_is_read(
    count: int, times: list[int], std: int, percentiles: bool
) -> None:
    low, p5, median, mean, high_5, high = times
    line = f"count={count} first={mean} curr={p5} min={low} max={high} avg={mean:g} std={std}"
    line += f" p5={p5} median={median} p95={high_5}" if percentiles else ""
    runs = parse_benchmark(f"INFO: count=1 curr=5\n\nINFO: {line}\n").runs
    assert runs is not None
    assert (runs.n, runs.min, runs.max, runs.std) == (count, low, high, std)
    assert runs.mean == float(f"{mean:g}")
    latency, taints = latency_from(runs)
    assert latency.min <= latency.p50 <= latency.p90 <= latency.p95 <= latency.p99
    assert latency.iqr_ratio >= 0 and bool(taints) == (not percentiles)
    if percentiles:
        assert latency.p50 == median / 1e3 and latency.p95 == high_5 / 1e3
