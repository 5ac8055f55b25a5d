"""The weights behind a measurement: published, given, embedded, or random where speed is meant."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evit_cli.errors import EvitError
from evit_cli.types import ModelInfo

if TYPE_CHECKING:
    from torch import nn

RANDOM = "random"


def open_source(order: Mapping[str, Any]) -> tuple[nn.Module, ModelInfo]:
    """The model that an order names ("model", "weights", "random", "offline"), and its info.

    Raises:
        EvitError: the weights cannot be had.
        MissingDependency: torch is not installed.
    """
    from evit_cli.errors import require

    require("torch", extra="torch", why="running a model from its weights")
    if order.get("random"):
        from evit_cli.weights.untrained import untrained_model

        return untrained_model(order["model"])
    from evit_cli.weights.load import load_model

    weights = order.get("weights")
    try:
        loaded = load_model(
            order["model"], weights=Path(weights) if weights else None, offline=order["offline"]
        )
    except EvitError as error:
        more = "--random-weights measures the speed alone"
        hint = f"{error.hint}; {more}" if error.hint else more
        raise EvitError(error.message, hint=hint, exit_code=error.exit_code) from error
    return loaded.model, loaded.info
