"""Models without weights: a variant's own random ones, for speed alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from evit_cli.errors import UsageError, require
from evit_cli.models.variants import VARIANTS, get_variant, own_info
from evit_cli.types import ModelInfo, Progress
from evit_cli.weights.catalog import find_entry, get_entry

if TYPE_CHECKING:
    from torch import nn

_SEED = 0
_UNEVEN = 0.02


def info_by_name(name: str) -> ModelInfo | None:
    """What is known of a catalog model, or of a variant that none was published of; else None."""
    entry = find_entry(name)
    if entry is not None:
        return entry.info
    variant = VARIANTS.get(name)
    return own_info(variant) if variant is not None and variant.ours else None


def untrained_model(name: str) -> tuple[nn.Module, ModelInfo]:
    """The model with random weights, the same in every process, in evaluation mode.

    Raises:
        EvitError: there is no such model; the hint suggests close names.
        MissingDependency: torch is not installed.
    """
    torch = require("torch", extra="torch", why="building a model")
    from evit_cli.models.build import build_model

    info = info_by_name(name)
    variant = get_entry(name).variant if info is None or find_entry(name) else name
    assert info is not None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = build_model(get_variant(variant)).eval()
        # Trained biases differ; converters treat ones that are all the same in another way.
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += _UNEVEN * torch.randn_like(parameter)
    return model, replace(info, sha256="", licence="")


def model_for(
    model: str | None,
    weights: Path | None,
    *,
    random: bool,
    offline: bool,
    progress: Progress | None = None,
) -> tuple[nn.Module, ModelInfo]:
    """The model with its weights, or with random ones where these are asked for.

    Raises:
        UsageError: random weights were asked for, and no name or others with them.
        EvitError: there is no such model, or its weights cannot be had.
        MissingDependency: torch is not installed.
    """
    if random:
        if model is None or weights is not None:
            raise UsageError("--random-weights needs --model, and no --weights")
        return untrained_model(model)
    from evit_cli.weights.load import load_model

    loaded = load_model(model, weights=weights, offline=offline, progress=progress)
    return loaded.model, loaded.info
