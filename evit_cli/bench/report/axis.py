"""Scales of a plot: from a value to a place, and the ticks that are written beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MANTISSAS: tuple[tuple[float, ...], ...] = (
    (1,),
    (1, 3),
    (1, 2, 5),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9),
)
_FEWEST, _MOST = 4, 10
_NARROWEST = 1.6  # a logarithmic axis shows at least this ratio


@dataclass(frozen=True)
class Axis:
    """A range of values laid over a range of places; `log` ones hold positive values only."""

    low: float
    high: float
    start: float
    stop: float
    log: bool

    def place(self, value: float) -> float:
        """Where a value lies."""
        low, high = self._scale(self.low), self._scale(self.high)
        share = (self._scale(value) - low) / (high - low)
        return round(self.start + share * (self.stop - self.start), 1)

    def _scale(self, value: float) -> float:
        return math.log10(value) if self.log else value

    @property
    def ticks(self) -> list[float]:
        """Four or more round values within the range."""
        return self._log_ticks() if self.log else self._even_ticks()

    def _log_ticks(self) -> list[float]:
        found: list[float] = []
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        for mantissas in _MANTISSAS:
            every = (mantissa * 10.0**power for power in powers for mantissa in mantissas)
            found = [value for value in every if self.low <= value <= self.high]
            if len(found) >= _FEWEST:
                break
        return found[:: math.ceil(len(found) / _MOST)]

    def _even_ticks(self) -> list[float]:
        rough = (self.high - self.low) / _FEWEST
        power = 10.0 ** math.floor(math.log10(rough))
        step = max(size * power for size in (1, 2, 5) if size * power <= rough)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def fit_axis(values: Sequence[float], start: float, stop: float, *, log: bool) -> Axis:
    """An axis that holds all of the values, with room at both ends.

    Args:
        values: at least one; positive where `log`.
        start: place of the low end.
        stop: place of the high end.
        log: whether equal ratios take equal room.
    """
    low, high = min(values), max(values)
    if log:
        if high / low < _NARROWEST:
            middle = math.sqrt(low) * math.sqrt(high)
            low, high = middle / math.sqrt(_NARROWEST), middle * math.sqrt(_NARROWEST)
        margin = (high / low) ** 0.09
        return Axis(low / margin, high * margin, start, stop, True)
    margin = 0.12 * (high - low) or max(abs(high), 1.0) * 0.05
    return Axis(low - margin, high + margin, start, stop, False)


def tick_texts(axis: Axis) -> list[str]:
    """Words of the ticks: "0.5", "20", "1,000"; evenly spaced ones have equally many decimals."""
    texts = [f"{value:,.6f}".rstrip("0").rstrip(".") for value in axis.ticks]
    if axis.log:
        return texts
    decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
    return [f"{value:,.{decimals}f}" for value in axis.ticks]
