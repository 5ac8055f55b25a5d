"""The protocol on candidates whose times are made up, so that nothing here waits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.bench import protocol
from evit_cli.bench.protocol import Protocol, latency_of, measure_in_turn, warm_up

FAST = Protocol(warm_s=0.0, warm_limit_s=0.05, runs=20, seconds=0.2, limit_s=60.0, rounds=5)


class Candidate:
    """Gives times from an iterator without spending them; counts its turns."""

    def __init__(self, times_ms: Iterator[float]) -> None:
        self.times, self.turns = times_ms, 0

    def __call__(self, seconds: float, fewest: int) -> list[float]:
        self.turns += 1
        taken: list[float] = []
        while len(taken) < fewest or sum(taken) < seconds * 1e3:
            taken.append(next(self.times))
        return taken


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=300))
def test_percentiles_are_those_of_all_runs(times: list[float]) -> None:
    latency = latency_of(times)
    assert latency.n == len(times)
    assert latency.min == min(times)
    assert latency.p50 == pytest.approx(float(np.median(times)))
    assert latency.p99 == pytest.approx(float(np.percentile(times, 99)))
    assert latency.min <= latency.p50 <= latency.p90 <= latency.p95 <= latency.p99 <= max(times)
    assert latency.mean == pytest.approx(sum(times) / len(times))


def test_an_outlier_is_kept() -> None:
    assert latency_of([1.0] * 99 + [1000.0]).mean == pytest.approx(10.99)


def test_no_runs_have_no_latency() -> None:
    with pytest.raises(ValueError, match="no runs"):
        latency_of([])


def test_warm_up_ends_when_the_speed_no_longer_changes() -> None:
    falling = itertools.chain((100.0 / (i + 1) for i in range(30)), itertools.repeat(3.0))
    candidate = Candidate(falling)
    assert warm_up(candidate, Protocol(warm_s=0.0))
    assert candidate.turns >= 40  # ten runs at the final speed, after as many before


def test_a_speed_that_never_settles_is_said() -> None:
    growing = (1.05 ** (i % 10_000) for i in itertools.count())
    assert not warm_up(Candidate(growing), Protocol(warm_s=0.0, warm_limit_s=0.02))


def test_runs_and_seconds_are_both_reached() -> None:
    quick = measure_in_turn({"a": Candidate(itertools.repeat(0.1))}, FAST, lambda: None)["a"]
    assert sum(map(sum, quick)) >= 200.0  # 0.2 s, far more than 20 runs
    slow = measure_in_turn({"a": Candidate(itertools.repeat(50.0))}, FAST, lambda: None)["a"]
    assert sum(map(len, slow)) >= 20
    assert len(quick) >= 5 and len(slow) >= 5


def test_candidates_take_turns() -> None:
    order: list[str] = []

    def candidate(name: str) -> Candidate:
        def times() -> Iterator[float]:
            while True:
                order.append(name)
                yield 10.0

        return Candidate(times())

    measure_in_turn({n: candidate(n) for n in "abc"}, FAST, lambda: None)
    turns = [name for name, _ in itertools.groupby(order)]
    assert turns == list("abc") * (len(turns) // 3)
    assert len(turns) >= 15


def test_the_limit_ends_a_slow_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def block(seconds: float, fewest: int) -> list[float]:
        nonlocal now
        now += 7.0 * fewest
        return [7000.0] * fewest

    monkeypatch.setattr(protocol.time, "monotonic", lambda: now)
    rounds = measure_in_turn({"slow": block}, Protocol(limit_s=30.0), lambda: None)["slow"]
    assert 2 <= sum(map(len, rounds)) <= 6


def test_the_machine_is_looked_at_between_turns() -> None:
    looks: list[int] = []
    rounds = measure_in_turn(
        {"a": Candidate(itertools.repeat(5.0))}, FAST, lambda: looks.append(1)
    )["a"]
    assert len(looks) == len(rounds)
