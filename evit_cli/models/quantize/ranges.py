"""Which tensors are quantised, and the range of each, from real images."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from evit_cli.models.aggregation import MultiScaleAggregation
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.layers import Residual
from evit_cli.models.quantize.layers import Range, ScaledHardswish, SixfoldHardswish

METHODS = ("minmax", "percentile", "mse")

METHOD = "mse"
"""How ranges are chosen in exports, and so in the training for them."""

INPUT = ":input"
"""Ends the name of a tensor that a module takes from something that is not quantised."""

_TAIL = 5e-4
"""The share that "percentile" cuts off at either end."""

_LEAST_REACH = 1e-5
"""Of a symmetric range: that of a tensor of zeros must have its zero in the middle too."""

_BINS = 4096
_CUTS = (0.0, 1e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 2e-3)
"""Shares of the values at one end that "mse" considers clipping."""


def is_point(module: nn.Module) -> bool:
    """Whether the output of a module is quantised."""
    hardswish = nn.Hardswish | ScaledHardswish | SixfoldHardswish
    return isinstance(module, nn.Conv2d | nn.ReLU | Residual | hardswish)


def is_island(name: str, islands: Collection[str]) -> bool:
    """Whether a module, or a module around it, is named among the islands.

    "backbone.stem" also names the stem of a model that is wrapped in another.
    """
    return any(f".{island}." in f".{name}." for island in islands)


def clamp_below(module: nn.Module, x: Tensor) -> Tensor:
    """A hard-swish's input without the part that it turns into zero."""
    if isinstance(module, ScaledHardswish):
        return torch.maximum(x, -3 / module.scale)
    return x.clamp(min=-3) if isinstance(module, nn.Hardswish | SixfoldHardswish) else x


class Watch:
    """Hooks that tell every quantised tensor of a forward pass, by name.

    Args:
        model: fused, float.

    Attributes:
        sources: for every module that takes a quantised tensor, the tensor's name.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.sources: dict[str, str] = {}
        self._known: dict[int, tuple[str, Tensor]] = {}  # keeps the tensors: ids are not reused

    def seen(self, name: str, tensor: Tensor) -> None:
        """Called once per pass and tensor; to be overridden."""

    def _before(self, name: str, x: Tensor) -> None:
        if id(x) not in self._known:
            self._known[id(x)] = (name + INPUT, x)
            self.seen(name + INPUT, x)
        self.sources[name] = self._known[id(x)][0]

    def _after(self, name: str, y: Tensor, module: nn.Module) -> None:
        self._known[id(y)] = (name, y)
        self.seen(name, y)

    @contextmanager
    def attached(self) -> Iterator[None]:
        """While the hooks are in place."""
        handles = []
        for name, module in self.model.named_modules():
            if not is_point(module):
                continue
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, name=name: self._before(name, args[0])
                )
            )
            handles.append(
                module.register_forward_hook(lambda m, _, out, name=name: self._after(name, out, m))
            )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def run(self, batch: Tensor) -> Any:
        """One forward pass."""
        self._known.clear()
        with torch.inference_mode():
            return self.model(batch)


def concatenated(model: nn.Module) -> list[list[str]]:
    """Names of tensors that are concatenated: in int8 that takes one scale for all of them."""
    groups = []
    for name, module in model.named_modules():
        if isinstance(module, MultiScaleLinearAttention | MultiScaleAggregation):
            first = "qkv" if isinstance(module, MultiScaleLinearAttention) else "value"
            parts = [first, *(f"scales.{i}.1" for i in range(len(module.scales)))]
            groups.append([f"{name}.{part}".lstrip(".") for part in parts])
    return groups


class _Histogram:
    """Counts of a tensor's values in bins that grow as wider values come."""

    def __init__(self) -> None:
        self.low, self.high = 0.0, 0.0  # zero must have a code, so it is always inside
        self.counts = torch.zeros(_BINS, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        low, high = min(self.low, float(x.amin())), max(self.high, float(x.amax()))
        if low == high:
            return
        if (low, high) != (self.low, self.high):
            old = torch.zeros_like(self.counts)
            if self.counts.any():
                centres = self.centres()
                index = ((centres - low) / (high - low) * _BINS).long().clamp(0, _BINS - 1)
                old.index_add_(0, index, self.counts)
            self.counts, self.low, self.high = old, low, high
        self.counts += torch.histc(x.float().flatten(), _BINS, low, high)

    def centres(self) -> Tensor:
        step = (self.high - self.low) / _BINS
        return self.low + step * (torch.arange(_BINS, dtype=torch.float64) + 0.5)

    def cut(self, share_low: float, share_high: float) -> Range:
        """The range without the given shares of the values at its ends."""
        total = self.counts.sum()
        cumulated = self.counts.cumsum(0)
        step = (self.high - self.low) / _BINS
        first = int((cumulated <= share_low * total).sum()) if share_low else 0
        last = int((cumulated < (1 - share_high) * total).sum()) + 1 if share_high else _BINS
        return Range(min(self.low + step * first, 0.0), max(self.low + step * last, 0.0))

    def best(self) -> Range:
        """The cut whose rounding and clipping error has the least mean square."""
        centres = self.centres()
        candidates = {self.cut(low, high) for low in _CUTS for high in _CUTS}

        def error(to: Range) -> float:
            codes = (centres / to.scale).round() + to.zero_point
            snapped = (codes.clamp(-128, 127) - to.zero_point) * to.scale
            # Inside a step the error is uniform, whatever the width of the bins.
            square = (snapped - centres) ** 2
            square[(codes >= -128) & (codes <= 127)] = to.scale**2 / 12
            return float((self.counts * square).sum())

        return min(sorted(candidates, key=lambda r: (r.low, r.high)), key=error)


class _RangeWatch(Watch):
    """Histograms of every quantised tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.histograms: dict[str, _Histogram] = {}
        self._acts = activation_after(model)

    def seen(self, name: str, tensor: Tensor) -> None:
        act = self._acts.get(name)
        values = tensor if act is None else clamp_below(act, tensor)
        self.histograms.setdefault(name, _Histogram()).add(values)


def collect_ranges(model: nn.Module, batches: Iterable[Tensor], *, method: str) -> dict[str, Range]:
    """Run a float model over real images and choose the range of every quantised tensor.

    Args:
        model: fused; convolutions are `nn.Conv2d`.
        batches: its inputs, normalised RGB (B, 3, H, W).
        method: "minmax" keeps every value; "percentile" cuts 0.05 % off either end; "mse" makes
            the mean square of rounding and clipping least.

    Returns:
        Name of the tensor -> range. The output of a module has the module's path for a name; what
        a convolution takes from something that is not quantised has its path and ":input".

    Raises:
        ValueError: an unknown method, or no batch.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    watch = _RangeWatch(model)
    with watch.attached():
        for batch in batches:
            watch.run(batch)
    if not watch.histograms:
        raise ValueError("no batch to take ranges from")
    choose = {
        "minmax": lambda h: h.cut(0, 0),
        "percentile": lambda h: h.cut(_TAIL, _TAIL),
        "mse": _Histogram.best,
    }[method]
    ranges = {name: choose(histogram) for name, histogram in watch.histograms.items()}
    for group in concatenated(model):
        low, high = min(ranges[n].low for n in group), max(ranges[n].high for n in group)
        ranges.update(dict.fromkeys(group, Range(low, high)))
    for name, source in watch.sources.items():
        given = ranges[source]
        ranges[name + INPUT] = Range(given.low, given.high, source)
    return ranges


def symmetric(ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges widened until the code of zero is 0: TensorRT takes no other."""
    widened = {}
    for name, given in ranges.items():
        reach = max(given.high, -given.low * 127 / 128, _LEAST_REACH)
        widened[name] = Range(-reach * 128 / 127, reach, given.source)
    return widened


def activation_after(model: nn.Module) -> dict[str, nn.Module]:
    """The activation that follows each convolution directly, by the convolution's name."""
    from evit_cli.models.layers import ConvNorm

    return {
        f"{name}.conv": module.act
        for name, module in model.named_modules()
        if isinstance(module, ConvNorm)
    }
