"""Which examples make up each step of a training: a pure function of the seed and the step.

Nothing here has a state. The examples form an endless sequence, one random permutation of the set
after the other, and step t takes the next `batch_size` of it. A run that stopped can therefore go
on at any step, with any number of processes and loader workers, and see exactly the same examples
changed in exactly the same ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evit_cli.types import ImageSize

_ORDER, _SIZE, _EXAMPLE, _STEP = range(4)
"""Purposes of random numbers, so that none is used twice."""


@dataclass(frozen=True)
class Request:
    """One example to be read and changed.

    Attributes:
        index: in the set.
        seed: of the random changes.
        size_hw: of the result.
    """

    index: int
    seed: tuple[int, ...]
    size_hw: ImageSize

    def rng(self) -> np.random.Generator:
        """The generator of this example's random changes."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class Plan:
    """The examples of every step.

    Args:
        count: examples in the set.
        batch_size: examples per step, over all processes.
        sizes: sizes to choose from; one is drawn per step.
        seed: of the order, the sizes and the changes.
    """

    count: int
    batch_size: int
    sizes: Sequence[ImageSize]
    seed: int = 0
    _orders: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.count < 1 or self.batch_size < 1 or not self.sizes:
            raise ValueError(
                f"a plan needs examples, a batch and a size: {self.count}, {self.batch_size}, "
                f"{list(self.sizes)}"
            )

    def step(self, step: int) -> list[Request]:
        """The examples of one step, in order."""
        rng = np.random.default_rng((self.seed, _SIZE, step))
        size = self.sizes[int(rng.integers(len(self.sizes)))]
        first = step * self.batch_size
        return [
            Request(self._index(place), (self.seed, _EXAMPLE, place), size)
            for place in range(first, first + self.batch_size)
        ]

    def steps(self, epochs: float) -> int:
        """Steps that show every example `epochs` times, rounded up, at least one."""
        return max(1, int(np.ceil(epochs * self.count / self.batch_size - 1e-9)))

    def epoch(self, step: int) -> float:
        """Passes over the set before `step`."""
        return step * self.batch_size / self.count

    def _index(self, place: int) -> int:
        epoch, offset = divmod(place, self.count)
        if epoch not in self._orders:
            for old in [number for number in self._orders if number < epoch - 1]:
                del self._orders[old]
            rng = np.random.default_rng((self.seed, _ORDER, epoch))
            self._orders[epoch] = rng.permutation(self.count)
        return int(self._orders[epoch][offset])


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """A 63-bit seed for everything else that is random in one step (drop path, mixup)."""
    return int(np.random.default_rng((seed, _STEP, step, rank)).integers(2**63 - 1))


def share_of(requests: Sequence[Request], part: int, parts: int) -> list[Request]:
    """The `part`-th of `parts` equal, contiguous shares."""
    if len(requests) % parts:
        raise ValueError(f"{len(requests)} examples do not divide into {parts} equal shares")
    size = len(requests) // parts
    return list(requests[part * size : (part + 1) * size])
