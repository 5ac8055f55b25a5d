"""Reads what LiteRT's benchmark_model prints, in each of its generations.

| tool                            | line of a stage                     | summary                |
|---------------------------------|-------------------------------------|------------------------|
| TensorFlow Lite to about 2.10   | count first curr min max avg std    | "Inference timings in" |
| later ones, LiteRT's v1         | also p5 median p95, behind "INFO: " | "Inference timings in" |
| LiteRT's CompiledModel tool     | also p5 median p95, behind "INFO: " | "BENCHMARK RESULTS"    |
| litert-benchmark (Python)       | none                                | "BENCHMARK RESULTS"    |

No tool prints all that a `Latency` holds, and none keeps the times of single runs. These rules
fill the rest, and never to the advantage of what was measured:

- p50 is the median; where none is printed the mean stands for it, and a taint says so.
- p90 is p95, and p99 is the slowest run: neither can be more than that.
- The interquartile range is taken from what is printed as if the times were normally distributed:
  0.41 (p95 - p5), and 1.35 standard deviations where there are no percentiles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from evit_cli.bench.row import Latency

BOUNDS = "p90 is at most p95, p99 at most the slowest run: benchmark_model prints no others"
"""Belongs beside every latency that comes from here."""

_IQR_OF_P5_P95 = 1.349 / (2 * 1.645)  # of a normal distribution
_IQR_OF_STD = 1.349
_MIB = 1 << 20

_STAGE = re.compile(r"(?:^|[\s:\]])count=(\d{1,12})\b(.*)$")
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?(?:e[+-]?\d{1,2})?"
_COUNT = r"\d{1,12}"
_ITEM = re.compile(rf"\b(\w+)=({_NUMBER})")
_TIMINGS = re.compile(rf"Inference timings in us: Init: ({_NUMBER})")
_RESULT = re.compile(
    rf"(?:^|\]\s)Inference \((\w+)\):\s+({_NUMBER})(?: ms)?(?: \(({_COUNT}) runs\))?\s*$"
)
_INIT = re.compile(rf"Model initialization:\s+({_NUMBER}) ms|Initialized session in ({_NUMBER})ms")
_PEAK = re.compile(
    rf"Overall peak memory footprint \(MB\) via periodic monitoring: ({_NUMBER})"
    rf"|(?:^|\]\s)Peak memory:\s+({_NUMBER}) MB"
)
_REPLACED = re.compile(
    r"Replacing (\d{1,9}) out of (\d{1,9}) nodes?(?:\(s\))? with delegate \(([^)]*)\)"
    r"(?:.*?yielding (\d{1,9}) partitions)?"
)
_APPLIED = re.compile(
    r"Explicitly applied (\S+) delegate, and the model graph will be (completely|partially)"
)
_NOT_APPLIED = re.compile(
    r"Though (\S+) delegate is explicitly applied, the model graph will not be"
)
_UNKNOWN = re.compile(r"Unconsumed cmdline flags:(.*)$")
_NNAPI = re.compile(r"NNAPI accelerators available: \[([^\]]*)\]")
_UNSUPPORTED = "operations are not supported by GPU delegate"
_OPERATION = re.compile(r"^(?:ERROR: )?(?!(?:INFO|VERBOSE|WARN|WARNING|ERROR):)([A-Z][A-Z0-9_]+): ")
_LEVEL = re.compile(r"^\s*(?:ERROR|FATAL|F\d{4} .*?\]|E\d{4} .*?\]):?\s*")
_TROUBLE = re.compile(
    r"^(?:Failed to |Benchmarking failed|CANNOT LINK EXECUTABLE|Segmentation fault|Aborted|Killed"
    r"|Could not |Disallowed |Some ops are not accelerated|WARNING: linker: )"
    r"|not executable: |Permission denied|accelerator could not be loaded and registered"
    r"|Failed to create a dispatch delegate kernel|No usable Dispatch runtime|No such file"
)
_SOURCE = re.compile(r"^(?:(?:INFO|WARNING|WARN|ERROR|VERBOSE): )?(?:\[[\w./\\-]+:\d+\] )?")
_VAGUE = ("Benchmarking failed", "Failed to apply ", "Failed to compile model")
"""They follow on what was wrong; so where there is another complaint, that is the one to show."""
_WARNING = "accelerator could not be loaded and registered"


@dataclass(frozen=True)
class Runs:
    """Times of the runs of a stage in microseconds; None for what was not printed."""

    n: int
    min: float
    max: float
    mean: float
    std: float
    p5: float | None = None
    median: float | None = None
    p95: float | None = None


@dataclass(frozen=True)
class Delegation:
    """A delegate took `taken` of `nodes` nodes, in `partitions` pieces (None: not said)."""

    delegate: str
    taken: int
    nodes: int
    partitions: int | None = None


@dataclass(frozen=True)
class BenchmarkOutput:
    """What one call of benchmark_model said.

    Attributes:
        runs: that count, None where it did not come to measure.
        finished: whether it came to its summary.
        compiled: whether it is LiteRT's CompiledModel tool.
        init_ms: loading and preparing the model, None if not said.
        peak_bytes: largest memory of the process, None if not asked for.
        delegations: which delegate took how much of the graph; not every build prints that.
        applied: by delegate asked for: "completely", "partially" or "not".
        unknown_flags: it did not know; it goes on without them.
        nnapi: accelerators that Android offers to NNAPI.
        unsupported: operations that the GPU does not take.
        trouble: its complaints, in order; warnings that hindered nothing are among them.
    """

    runs: Runs | None = None
    finished: bool = False
    compiled: bool = False
    init_ms: float | None = None
    peak_bytes: int | None = None
    delegations: tuple[Delegation, ...] = ()
    applied: Mapping[str, str] = field(default_factory=dict)
    unknown_flags: frozenset[str] = frozenset()
    nnapi: tuple[str, ...] = ()
    unsupported: tuple[str, ...] = ()
    trouble: tuple[str, ...] = ()

    @property
    def complaint(self) -> str:
        """The last complaint that says something, "" if there is none."""
        lines = [line for line in self.trouble if _WARNING not in line]
        telling = [line for line in lines if not line.startswith(_VAGUE)]
        specific = [line for line in lines if not line.startswith(_VAGUE[:1])]
        return (telling or specific or lines or [""])[-1].rstrip(".")


def parse_benchmark(text: str) -> BenchmarkOutput:
    """Read all that benchmark_model printed; nothing is too garbled for it."""
    lines = text.replace("\r", "").splitlines()
    stages = [runs for line in lines if (runs := _stage(line)) is not None]
    results = {found[1]: found for line in lines if (found := _RESULT.search(line))}
    timings = _first(_TIMINGS, lines)
    finished = timings is not None or "avg" in results
    # The first stage is the warm-up. Of a run that broke off in it nothing counts.
    runs = stages[-1] if len(stages) > 1 else None
    if runs is None and finished:
        runs = _from_results(results)
    init = _first(_INIT, lines)
    peak = _first(_PEAK, lines)
    return BenchmarkOutput(
        runs=runs,
        finished=finished,
        compiled="avg" in results,
        init_ms=timings / 1e3 if timings is not None else init,
        peak_bytes=None if peak is None else round(peak * _MIB),
        delegations=tuple(_delegations(lines)),
        applied=dict(_applied(lines)),
        unknown_flags=frozenset(
            name
            for line in lines
            if (found := _UNKNOWN.search(line))
            for name in re.findall(r"--(\w+)", found[1])
        ),
        nnapi=_nnapi(lines),
        unsupported=tuple(dict.fromkeys(_unsupported(lines))),
        trouble=tuple(_trouble(lines)),
    )


def latency_from(runs: Runs) -> tuple[Latency, tuple[str, ...]]:
    """Milliseconds by the rules above, and the taints they bring.

    >>> latency_from(Runs(100, 900, 1300, 1000, 50, p5=950, median=990, p95=1100))[0].p50
    0.99
    """
    taints: tuple[str, ...] = ()
    middle = runs.median
    if middle is None:
        middle = runs.mean
        taints = ("benchmark_model printed no median: the mean stands for it",)
    p95 = runs.max if runs.p95 is None else runs.p95
    if runs.p5 is not None and runs.p95 is not None:
        spread = _IQR_OF_P5_P95 * (runs.p95 - runs.p5)
    else:
        spread = _IQR_OF_STD * runs.std
    # Rounded as they are printed, neighbours can stand in the wrong order by a hair.
    p50 = max(middle, runs.min)
    p95 = max(p95, p50)
    latency = Latency(
        n=runs.n,
        min=runs.min / 1e3,
        p50=p50 / 1e3,
        p90=p95 / 1e3,
        p95=p95 / 1e3,
        p99=max(runs.max, p95) / 1e3,
        mean=runs.mean / 1e3,
        iqr_ratio=max(spread, 0.0) / p50 if p50 else 0.0,
    )
    return latency, taints


def _stage(line: str) -> Runs | None:
    found = _STAGE.search(line)
    if found is None:
        return None
    items = {name: float(text) for name, text in _ITEM.findall(found[2])}
    count, last = int(found[1]), items.get("curr")
    if last is None or count < 1:
        return None
    # One run, or runs that all took the same time, are printed as "curr" alone.
    return Runs(
        n=count,
        min=items.get("min", last),
        max=items.get("max", last),
        mean=items.get("avg", last),
        std=items.get("std", 0.0),
        p5=items.get("p5"),
        median=items.get("median", None if "avg" in items else last),
        p95=items.get("p95"),
    )


def _from_results(results: Mapping[str, re.Match[str]]) -> Runs | None:
    """Of the summary in milliseconds, which is all that some builds print."""
    us = {name: float(found[2]) * 1e3 for name, found in results.items()}
    count = int(results["avg"][3] or 0) if "avg" in results else 0
    if count < 1 or "avg" not in us:
        return None
    mean = us["avg"]
    return Runs(
        n=count,
        min=us.get("min", mean),
        max=us.get("max", mean),
        mean=mean,
        std=us.get("std", 0.0),
        p5=us.get("p5"),
        median=us.get("median"),
        p95=us.get("p95"),
    )


def _first(pattern: re.Pattern[str], lines: list[str]) -> float | None:
    for line in lines:
        found = pattern.search(line)
        if found:
            return float(next(filter(None, found.groups())))
    return None


def _delegations(lines: list[str]) -> Iterator[Delegation]:
    for line in lines:
        found = _REPLACED.search(line)
        if found:
            pieces = int(found[4]) if found[4] else None
            yield Delegation(found[3], int(found[1]), int(found[2]), pieces)


def _applied(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        if found := _APPLIED.search(line):
            yield found[1], found[2]
        elif found := _NOT_APPLIED.search(line):
            yield found[1], "not"


def _nnapi(lines: list[str]) -> tuple[str, ...]:
    for line in lines:
        if found := _NNAPI.search(line):
            return tuple(filter(None, (name.strip() for name in found[1].split(","))))
    return ()


def _unsupported(lines: list[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        found = _OPERATION.match(line) if inside else None
        inside = _UNSUPPORTED in line or found is not None
        if found:
            yield found[1]


def _trouble(lines: list[str]) -> Iterator[str]:
    for line in lines:
        text = _SOURCE.sub("", line.strip())
        if _LEVEL.match(line) and _UNSUPPORTED not in line and not _OPERATION.match(line):
            yield _SOURCE.sub("", _LEVEL.sub("", line)).strip()
        elif _TROUBLE.search(text):
            yield text
