"""Reference data of the published models, where it lies beside the project."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.helpers.parity import reference_fill_module
from tests.helpers.paths import shared_dir


@pytest.fixture(scope="session")
def reference_fill() -> Any:
    """The module that fills published tensors from their names."""
    return reference_fill_module()


@pytest.fixture
def filled_state(reference_fill: Any) -> Callable[[str], dict[str, torch.Tensor]]:
    """A published state dict whose values come from the tensor names."""

    def fill(name: str) -> dict[str, torch.Tensor]:
        layout = json.loads(shared_dir("parity", "layouts", f"{name}.json").read_text())
        return {
            key: torch.from_numpy(reference_fill.tensor(key, shape))
            for key, shape in layout.items()
        }

    return fill
