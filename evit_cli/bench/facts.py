"""Parameters, multiply-accumulates and accuracy of a point, as far as they are known without it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evit_cli.bench.row import Point
from evit_cli.bench.source import RANDOM
from evit_cli.types import ImageSize
from evit_cli.weights.catalog import find_entry
from evit_cli.weights.embedded import EMBEDDED

_METRIC = re.compile(r"(?P<name>[\w -]*?)\s*(?P<value>\d+\.\d+)\s*(?:\((?P<dataset>.*)\))?")
_MACS = re.compile(r"(?P<giga>[\d.]+)G @(?P<size>\d+x\d+)")


@dataclass(frozen=True)
class ModelFacts:
    """What stands in the catalog, brought to the point's input size; see `Row` for the fields."""

    params: int | None = None
    macs: int | None = None
    metric: Mapping[str, Any] = field(default_factory=dict)


def model_facts(point: Point) -> ModelFacts:
    """The facts of a model of ours or of a peer; empty for a model of the user's own."""
    if point.peer:
        from evit_cli.bench.peers.catalog import find_peer

        peer = find_peer(point.model)
        return ModelFacts(peer.params, _scaled(peer.macs, peer.size_hw, point.size_hw))
    known = EMBEDDED.get(point.model) or find_entry(point.model)
    if known is None:
        return _counted(point)
    entry = find_entry(point.model)
    elsewhere = entry is not None and entry.preprocess.size_hw != point.size_hw
    metric = {} if point.weights == RANDOM or elsewhere else _metric(known.metric)
    if metric and entry is None:
        metric["source"] = "measured with evit"
    return ModelFacts(known.params, _macs_at(known.macs, point.size_hw), metric)


def _counted(point: Point) -> ModelFacts:
    """Of a variant that no weights were published of, where torch is there to count."""
    from evit_cli.models.variants import SUPERRES

    if point.model not in SUPERRES or importlib.util.find_spec("torch") is None:
        return ModelFacts()
    from evit_cli.bench.estimates.layers import model_macs, model_params

    variant = SUPERRES[point.model]
    return ModelFacts(model_params(variant), model_macs(variant, point.size_hw))


def _macs_at(text: str, size_hw: ImageSize) -> int | None:
    """MACs go with the area, but for a classifier's linear layers (0.3 % of a B1)."""
    match = _MACS.match(text)
    if match is None:
        return None
    return _scaled(float(match["giga"]) * 1e9, ImageSize.parse(match["size"]), size_hw)


def _scaled(macs: float | None, known_hw: ImageSize, size_hw: ImageSize) -> int | None:
    if macs is None:
        return None
    return round(macs * (size_hw.height * size_hw.width) / (known_hw.height * known_hw.width))


def _metric(text: str) -> dict[str, Any]:
    """{"name", "value", "dataset", "source"} of "mIoU 75.653 (Cityscapes val)"."""
    match = _METRIC.match(text)
    if match is None:
        return {}
    return {
        "name": match["name"].strip() or "top-1",
        "value": float(match["value"]),
        "dataset": match["dataset"] or "",
        "source": "published",
    }
