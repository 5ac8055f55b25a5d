"""Reads what trtexec prints, from TensorRT 8.2 to 11, and the file of its `--exportTimes`.

Its summary, one quantity a line behind a time stamp that not every build writes:

| TensorRT      | percentiles of a line | beside the lines that all have            |
|---------------|-----------------------|-------------------------------------------|
| 8.0 to 8.2    | 99                    | End-to-End Host Latency (with the queue)  |
| 8.4           | 99                    |                                           |
| 8.5 to 11     | 90, 95, 99            |                                           |

"GPU Compute Time" is evit's `compute`; "Latency", which is the transfer in, the computation and
the transfer out of one run, is its `host`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from evit_cli.bench.protocol import latency_of
from evit_cli.bench.row import Latency

_LINE = re.compile(r"^\s*(?:\[\d[^\]]*\]\s*)?\[(?P<level>[VIWEF])\]\s?(?P<text>.*?)\s*$")
_TEST = re.compile(r"^\s*&&&& (?P<what>RUNNING|PASSED|FAILED|WAIVED)\b.*?(?:\[TensorRT v(\d+)\]|$)")
_SUMMARY = re.compile(r"^(Latency|GPU Compute Time|H2D Latency|D2H Latency): (.*)$")
_ITEM = re.compile(r"(min|max|mean|median|percentile\((\d+(?:\.\d+)?)%\))\s*=\s*(\S+)\s*ms")
_QUERIES = re.compile(r"^Timing trace has (\d+) queries over")
_THROUGHPUT = re.compile(r"^Throughput: ([\d.eE+-]+) qps")
_VERSION = re.compile(r"^TensorRT version: (\d+(?:\.\d+)+)")
_DEVICE = re.compile(r"^Selected Device: (.+)$")
_UNSTABLE = re.compile(r"GPU compute time is unstable, with coefficient of variance = ([\d.]+)%")
_LATE = (
    "Engine could not be created",
    "Building engine failed",
    "Failed to create engine",
    "Failed to parse onnx file",
    "Parsing model failed",
    "Engine deserialization failed",
    "Got invalid engine",
    "Engine set up failed",
    "Inference set up failed",
)
"""Errors that only say that there was one before."""
_WHO = re.compile(r"^(?:Error\[\d+\]: |\[TRT\] )*")


@dataclass(frozen=True)
class TrtexecOutput:
    """What one call of trtexec said.

    Attributes:
        passed: whether it ended well by its own word; None if it did not come to say it.
        version: of TensorRT, "8.6.3" or "8.2.1"; "" where it is not said.
        gpu: name of the device, "" where it is not said.
        compute: the GPU's work alone; None where nothing was timed.
        host: with the transfers in and out; None where nothing was timed.
        throughput_qps: runs per second of wall-clock time, None where nothing was timed.
        taints: why the numbers may be off.
        notes: trtexec's own remarks on the numbers.
        error: its last error that says what was wrong, "" for none.
    """

    passed: bool | None = None
    version: str = ""
    gpu: str = ""
    compute: Latency | None = None
    host: Latency | None = None
    throughput_qps: float | None = None
    taints: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    error: str = ""


def parse_trtexec(text: str) -> TrtexecOutput:
    """Read all that trtexec printed; nothing is too garbled for it.

    Without `--exportTimes` (see `parse_times`) the spread of single runs is not known, and in
    TensorRT before 8.5 neither are p90 and p95: the taints say so.
    """
    passed, number = _verdict(text)
    lines = [
        (found["level"], found["text"]) for found in map(_LINE.match, text.splitlines()) if found
    ]
    said = [words for _, words in lines]
    runs = _first(_QUERIES, said)
    summaries = dict(_summaries(said))
    taints: list[str] = []
    latencies = {
        name: _latency(summaries[name], int(runs or 0), taints)
        for name in ("GPU Compute Time", "Latency")
        if name in summaries
    }
    qps = _first(_THROUGHPUT, said)
    unstable = _first(_UNSTABLE, said)
    if unstable:
        taints.append(f"trtexec calls the GPU unstable: its time varies by {unstable} %")
    return TrtexecOutput(
        passed=passed,
        version=_first(_VERSION, said) or version_of(number),
        gpu=_first(_DEVICE, said),
        compute=latencies.get("GPU Compute Time"),
        host=latencies.get("Latency"),
        throughput_qps=_number(qps),
        taints=tuple(dict.fromkeys(taints)),
        notes=tuple(words[2:] for level, words in lines if level == "W" and words[:2] == "* "),
        error=_last_error(lines),
    )


def parse_times(text: str) -> tuple[Latency, Latency]:
    """Exact percentiles (compute, host) of the file that `--exportTimes` writes.

    All versions write a list of runs with "computeMs" and "latencyMs" among others.

    Raises:
        ValueError: it is no such file; the message says what is wrong.
    """
    try:
        runs = json.loads(text)
        compute = [float(run["computeMs"]) for run in runs]
        host = [float(run["latencyMs"]) for run in runs]
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"it has no times of trtexec: {error!r}") from error
    if not all(math.isfinite(time) and time >= 0 for time in (*compute, *host)):
        raise ValueError("it has times that are no numbers")
    return latency_of(compute), latency_of(host)


def version_of(number: str) -> str:
    """The dotted version of trtexec's "v8601" (8.6.1) or "v100200" (10.2.0); "" if neither.

    >>> version_of("8201"), version_of("101303")
    ('8.2.1', '10.13.3')
    """
    if not number.isdecimal() or not 4 <= len(number) <= 6:
        return ""
    value = int(number)
    # From TensorRT 10 on the major version counts ten thousands, before it thousands.
    unit = 10000 if len(number) == 6 else 1000
    return f"{value // unit}.{value % unit // 100}.{value % 100}"


def _verdict(text: str) -> tuple[bool | None, str]:
    """Whether it passed, and the version beside its name."""
    passed, number = None, ""
    for line in text.splitlines():
        found = _TEST.match(line)
        if found:
            number = found[2] or number
            if found["what"] in ("PASSED", "FAILED"):
                passed = found["what"] == "PASSED"
    return passed, number


def _summaries(said: list[str]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """(quantity, its numbers in milliseconds by name; "99" is the 99th percentile)."""
    for words in said:
        found = _SUMMARY.match(words)
        if found:
            items = {item[1] or item[0]: _number(item[2]) for item in _ITEM.findall(found[2])}
            yield found[1], {name: ms for name, ms in items.items() if ms is not None}


def _latency(numbers: Mapping[str, float], runs: int, taints: list[str]) -> Latency | None:
    if not {"min", "max", "mean", "median"} <= set(numbers):
        return None
    p99 = numbers.get("99", numbers["max"])
    if not {"90", "95"} <= set(numbers):
        taints.append("trtexec gave no p90 and p95: the next higher percentile stands for them")
    taints.append("single runs were not recorded: their spread is not known")
    p95 = numbers.get("95", p99)
    return Latency(
        n=runs,
        min=numbers["min"],
        p50=numbers["median"],
        p90=numbers.get("90", p95),
        p95=p95,
        p99=p99,
        mean=numbers["mean"],
        iqr_ratio=0.0,
    )


def _last_error(lines: list[tuple[str, str]]) -> str:
    errors = [_WHO.sub("", words) for level, words in lines if level in "EF" and words]
    telling = [words for words in errors if not words.startswith(_LATE)]
    return (telling or errors or [""])[-1]


def _first(pattern: re.Pattern[str], said: list[str]) -> str:
    found = next(filter(None, map(pattern.search, said)), None)
    return found[1] if found else ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
