"""When to start counting and when to stop: the protocol behind every measured latency.

Single stream, one run at a time. Candidates that are compared take turns, so that a machine that
slows down slows all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from evit_cli.bench.row import Latency

Block = Callable[[float, int], list[float]]
"""(seconds, fewest runs) -> milliseconds of each run, until both are reached."""

_TAIL = 10


@dataclass(frozen=True)
class Protocol:
    """How long to warm up and to measure.

    Attributes:
        warm_runs: fewest runs before counting.
        warm_s: least time before counting.
        settled: counting begins when the median of ten runs moves by less than this share.
        warm_limit_s: but after this time at the latest.
        runs: fewest runs that count.
        seconds: least time that counts.
        limit_s: no further run is begun after this time; fewer runs than `runs` are then a taint.
        rounds: turns that candidates take.
    """

    warm_runs: int = 10
    warm_s: float = 0.2
    settled: float = 0.02
    warm_limit_s: float = 10.0
    runs: int = 100
    seconds: float = 3.0
    limit_s: float = 120.0
    rounds: int = 10


NORMAL = Protocol()
THOROUGH = Protocol(seconds=30.0, limit_s=600.0, rounds=30)
QUICK = Protocol(
    warm_runs=2, warm_s=0.05, warm_limit_s=2.0, runs=10, seconds=0.3, limit_s=20.0, rounds=5
)
"""For a first look: its rows are tainted."""


def latency_of(times_ms: Sequence[float]) -> Latency:
    """Percentiles of all runs; none is dropped.

    Raises:
        ValueError: there are no runs.
    """
    if not times_ms:
        raise ValueError("no runs to summarise")
    times = np.asarray(times_ms, dtype=np.float64)
    p25, p50, p75, p90, p95, p99 = np.percentile(times, (25, 50, 75, 90, 95, 99)).tolist()
    return Latency(
        n=len(times),
        min=float(times.min()),
        p50=p50,
        p90=p90,
        p95=p95,
        p99=p99,
        mean=float(times.mean()),
        iqr_ratio=(p75 - p25) / p50 if p50 else 0.0,
    )


def warm_up(block: Block, protocol: Protocol) -> bool:
    """Run until the time of a run no longer falls; False if it never settled."""
    started = time.monotonic()
    times: list[float] = []
    while True:
        times += block(0.0, 1)
        spent = time.monotonic() - started
        if len(times) >= protocol.warm_runs and spent >= protocol.warm_s:
            tail, before = times[-_TAIL:], times[-2 * _TAIL : -_TAIL]
            reference = median(before or tail)
            if before and abs(median(tail) - reference) <= protocol.settled * reference:
                return True
        if spent >= protocol.warm_limit_s and len(times) >= min(protocol.warm_runs, 3):
            return False


def measure_in_turn(
    blocks: Mapping[str, Block], protocol: Protocol, between: Callable[[], None]
) -> dict[str, list[list[float]]]:
    """Time every candidate in rounds, one after the other.

    Args:
        blocks: what runs each candidate.
        protocol: how long.
        between: called after each candidate's turn; the place to look at the machine.

    Returns:
        Milliseconds of each run, by candidate and round.
    """
    taken: dict[str, list[list[float]]] = {name: [] for name in blocks}
    spent = dict.fromkeys(blocks, 0.0)
    share_s = protocol.seconds / protocol.rounds
    share_runs = -(-protocol.runs // protocol.rounds)
    while any(_unfinished(taken[name], spent[name], protocol) for name in blocks):
        for name, block in blocks.items():
            if not _unfinished(taken[name], spent[name], protocol):
                continue
            started = time.monotonic()
            # Slow candidates take their turn run by run, so that the limit can hold.
            left_s = protocol.limit_s - spent[name]
            one = block(0.0, 1)
            fits = max(1, min(share_runs, int(left_s / max(one[0] / 1e3, 1e-9))))
            more = block(max(share_s - one[0] / 1e3, 0.0), fits - 1) if fits > 1 else []
            taken[name].append(one + more)
            spent[name] += time.monotonic() - started
            between()
    return taken


def _unfinished(rounds: list[list[float]], spent_s: float, protocol: Protocol) -> bool:
    if not rounds:
        return True
    if spent_s >= protocol.limit_s:
        return False
    runs = sum(len(times) for times in rounds)
    seconds = sum(sum(times) for times in rounds) / 1e3
    return runs < protocol.runs or seconds < protocol.seconds or len(rounds) < 2
