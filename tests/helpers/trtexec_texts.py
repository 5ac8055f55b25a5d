"""What trtexec prints, line formats as recorded from its releases, numbers made up.

Sources of the formats: logs in public issues (TensorRT 8.0 to 10.x), and NVIDIA's documentation.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

STAMP = "[11/24/2026-09:12:33] "
COMPUTE = {"min": 4.90112, "max": 6.25, "mean": 5.01337, "median": 5.00195, "90": 5.0625}
COMPUTE |= {"95": 5.10254, "99": 5.5}
HOST = {"min": 5.40112, "max": 6.875, "mean": 5.53337, "median": 5.52195, "90": 5.5825}
HOST |= {"95": 5.62254, "99": 6.02}
SMALL = {"min": 0.25, "max": 0.5, "mean": 0.26, "median": 0.255, "90": 0.27, "95": 0.28, "99": 0.4}


@dataclass(frozen=True)
class Release:
    """How a release of TensorRT words it.

    Attributes:
        number: as in "[TensorRT v8201]".
        percentiles: it prints.
        end_to_end: it has a line "End-to-End Host Latency".
        build: what follows the version on the line of the test, in later builds.
    """

    number: str
    percentiles: tuple[str, ...] = ("90", "95", "99")
    end_to_end: bool = False
    build: str = ""


RELEASES: Mapping[str, Release] = {
    "8.2.1": Release("8201", ("99",), end_to_end=True),
    "8.4.0": Release("8400", ("99",)),
    "8.5.2": Release("8502"),
    "8.6.1": Release("8601"),
    "10.3.0": Release("100300"),
    "10.13.3": Release("101303", build=" [b9]"),
}


@dataclass(frozen=True)
class Said:
    """A whole output; see `text`."""

    version: str = "10.3.0"
    stamp: str = STAMP
    queries: int = 601
    unstable: str = ""
    passed: bool = True
    errors: tuple[str, ...] = ()
    command: tuple[str, ...] = field(default=("trtexec", "--loadEngine=model.engine"))

    def text(self) -> str:
        """All lines of it."""
        release = RELEASES[self.version]
        name = f"TensorRT.trtexec [TensorRT v{release.number}]{release.build}"
        call = f"# {shlex.join(self.command)}"
        lines = [
            f"&&&& RUNNING {name} {call}",
            self._info("=== Model Options ==="),
            self._info("Format: *"),
            self._info(""),
            self._info("=== Device Information ==="),
            self._info("Selected Device: Orin"),
            self._info("Compute Capability: 8.7"),
            self._info(f"TensorRT version: {self.version}"),
            *(f"{self.stamp}[E] {words}" for words in self.errors),
        ]
        lines += self._summary(release) if self.passed else []
        lines.append(f"&&&& {'PASSED' if self.passed else 'FAILED'} {name} {call}")
        return "\n".join(lines) + "\n"

    def _info(self, words: str) -> str:
        return f"{self.stamp}[I] {words}"

    def _summary(self, release: Release) -> list[str]:
        lines = [
            self._info("Starting inference"),
            self._info("Warmup completed 39 queries over 200 ms"),
            self._info(f"Timing trace has {self.queries} queries over 3.00902 s"),
            self._info(""),
            self._info("=== Trace details ==="),
            self._info("Trace averages of 10 runs:"),
            self._info(
                "Average on 10 runs - GPU latency: 5.01 ms - Host latency: 5.53 ms (enqueue 1 ms)"
            ),
            self._info(""),
            self._info("=== Performance summary ==="),
            self._info("Throughput: 199.733 qps"),
            self._info(f"Latency: {numbers(HOST, release)}"),
        ]
        if release.end_to_end:
            lines.append(self._info(f"End-to-End Host Latency: {numbers(HOST, release)}"))
        lines += [
            self._info(f"Enqueue Time: {numbers(SMALL, release)}"),
            self._info(f"H2D Latency: {numbers(SMALL, release)}"),
            self._info(f"GPU Compute Time: {numbers(COMPUTE, release)}"),
            self._info(f"D2H Latency: {numbers(SMALL, release)}"),
            self._info("Total Host Walltime: 3.00902 s"),
            self._info("Total GPU Compute Time: 3.00552 s"),
        ]
        if self.unstable:
            lines += [
                f"{self.stamp}[W] * GPU compute time is unstable, with coefficient of variance "
                f"= {self.unstable}%.",
                f"{self.stamp}[W]   If not already in use, locking GPU clock frequency or adding "
                "--useSpinWait may improve the stability.",
            ]
        lines.append(
            self._info("Explanations of the performance metrics are printed in the verbose logs.")
        )
        return lines


def numbers(values: Mapping[str, float], release: Release) -> str:
    """The tail of a summary line."""
    items = [f"{name} = {values[name]:g} ms" for name in ("min", "max", "mean", "median")]
    items += [f"percentile({p}%) = {values[p]:g} ms" for p in release.percentiles]
    return ", ".join(items)


def times_json(compute_ms: list[float], transfer_ms: float = 0.25, *, old: bool = False) -> str:
    """The file of --exportTimes; `old` has the names of the transfers before TensorRT 8.6."""
    come, go = ("in", "out") if old else ("h2d", "d2h")
    runs = [
        {
            f"{come}Ms": transfer_ms,
            "computeMs": ms,
            f"{go}Ms": transfer_ms,
            "latencyMs": ms + 2 * transfer_ms,
        }
        for ms in compute_ms
    ]
    return json.dumps(runs)
