"""Top-k accuracy, accumulated over a data set."""

from __future__ import annotations

from collections.abc import Sequence


class TopK:
    """How often the true class is among the k most likely, for several k at once.

    Args:
        ks: the values of k, for example (1, 5).
    """

    def __init__(self, ks: Sequence[int] = (1, 5)) -> None:
        self.hits = dict.fromkeys(ks, 0)
        self.count = 0

    def update(self, truth: int, ranked: Sequence[int]) -> None:
        """Add one sample.

        Args:
            truth: its class.
            ranked: predicted classes, most likely first, at least max(ks) of them.
        """
        self.count += 1
        for k in self.hits:
            self.hits[k] += truth in ranked[:k]

    def accuracy(self, k: int) -> float:
        """Share of the samples whose class is among the first k, in [0, 1]."""
        return self.hits[k] / self.count if self.count else float("nan")
