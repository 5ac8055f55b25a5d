"""Which examples make up a step: permutations, pure functions, shares."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.sampling import Plan, Request, share_of, step_seed
from evit_cli.types import ImageSize

SIZES = [ImageSize(32, 32), ImageSize(32, 64), ImageSize(64, 64)]
counts = st.integers(1, 40)
batches = st.integers(1, 60)
seeds = st.integers(0, 2**31 - 1)


def places(plan: Plan, examples: int) -> list[Request]:
    """The first `examples` requests, whatever the batch."""
    steps = range(-(-examples // plan.batch_size))
    return [request for step in steps for request in plan.step(step)][:examples]


@settings(deadline=None, max_examples=60)
@given(count=counts, batch=batches, seed=seeds, epoch=st.integers(0, 4))
def test_every_epoch_is_a_permutation(count: int, batch: int, seed: int, epoch: int) -> None:
    plan = Plan(count, batch, SIZES, seed)
    shown = [request.index for request in places(plan, count * (epoch + 1))]
    assert sorted(shown[epoch * count :]) == list(range(count))


@settings(deadline=None, max_examples=60)
@given(count=counts, batch=batches, seed=seeds, steps=st.permutations(range(6)))
def test_a_step_depends_on_nothing_but_its_number(
    count: int, batch: int, seed: int, steps: list[int]
) -> None:
    """In whatever order a plan is asked, by however many, the answers are the same."""
    asked = Plan(count, batch, SIZES, seed)
    for step in steps:
        fresh = Plan(count, batch, SIZES, seed)
        assert asked.step(step) == fresh.step(step)


@settings(deadline=None, max_examples=60)
@given(count=counts, batch=batches, seed=seeds, split=st.integers(0, 8))
def test_a_run_split_anywhere_sees_the_same(count: int, batch: int, seed: int, split: int) -> None:
    whole = [Plan(count, batch, SIZES, seed).step(step) for step in range(8)]
    first = Plan(count, batch, SIZES, seed)
    parts = [first.step(step) for step in range(split)]
    second = Plan(count, batch, SIZES, seed)
    parts += [second.step(step) for step in range(split, 8)]
    assert parts == whole


@settings(deadline=None)
@given(parts=st.integers(1, 6), size=st.integers(1, 5), seed=seeds)
def test_shares_partition_a_step(parts: int, size: int, seed: int) -> None:
    requests = Plan(7, parts * size, SIZES, seed).step(3)
    shares = [share_of(requests, part, parts) for part in range(parts)]
    assert {len(share) for share in shares} == {size}
    assert [request for share in shares for request in share] == requests


def test_shares_must_be_equal() -> None:
    with pytest.raises(ValueError, match="5 examples do not divide into 2"):
        share_of(Plan(9, 5, SIZES).step(0), 0, 2)


def test_a_batch_may_be_larger_than_the_set() -> None:
    requests = Plan(3, 8, SIZES, 5).step(0)
    assert len(requests) == 8
    assert sorted(r.index for r in requests[:3]) == sorted(r.index for r in requests[3:6])
    assert len({r.seed for r in requests}) == 8  # the same image is changed in other ways


def test_orders_sizes_and_changes_are_random() -> None:
    plan = Plan(20, 20, SIZES, 1)
    orders = [[r.index for r in plan.step(step)] for step in range(3)]
    assert orders[0] != orders[1] != orders[2]
    assert {plan.step(step)[0].size_hw for step in range(40)} == set(SIZES)
    for step in range(5):
        assert len({r.size_hw for r in plan.step(step)}) == 1  # one size per batch
    other = [r.index for r in Plan(20, 20, SIZES, 2).step(0)]
    assert other != orders[0]
    one, two = plan.step(0)[:2]
    assert one.rng().random() == one.rng().random() != two.rng().random()


@given(step=st.integers(0, 10**7), rank=st.integers(0, 64), seed=seeds)
def test_step_seeds(step: int, rank: int, seed: int) -> None:
    value = step_seed(seed, step, rank)
    assert 0 <= value < 2**63
    assert value == step_seed(seed, step, rank)
    assert value not in (step_seed(seed, step + 1, rank), step_seed(seed, step, rank + 1))


@pytest.mark.parametrize(
    ("epochs", "steps"), [(1, 3), (2, 5), (4, 10), (0.1, 1), (0.001, 1), (0.8, 2)]
)
def test_lengths_in_epochs(epochs: float, steps: int) -> None:
    """10 examples in batches of 4."""
    plan = Plan(10, 4, SIZES)
    assert plan.steps(epochs) == steps
    assert plan.epoch(5) == 2.0


@pytest.mark.parametrize(("count", "batch", "sizes"), [(0, 1, SIZES), (1, 0, SIZES), (1, 1, [])])
def test_an_empty_plan(count: int, batch: int, sizes: list[ImageSize]) -> None:
    with pytest.raises(ValueError, match="a plan needs"):
        Plan(count, batch, sizes)
