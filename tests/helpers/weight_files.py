"""Weights files in every layout, with random numbers in them."""

from __future__ import annotations

import io
from functools import cache
from pathlib import Path
from typing import Any

import torch

from evit_cli.models.build import build_model
from evit_cli.models.variants import get_variant
from evit_cli.weights.remap import Layout, from_evit


@cache
def random_state(name: str, num_classes: int | None = None) -> dict[str, Any]:
    """A state dict of the variant `name` in our layout; do not change it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return dict(build_model(get_variant(name, num_classes=num_classes)).state_dict())


@cache
def pt_bytes(name: str, layout: Layout = "published", num_classes: int | None = None) -> bytes:
    """A checkpoint file as the authors publish them: torch.save of {"state_dict": ...}."""
    state = from_evit(random_state(name, num_classes), get_variant(name), layout)
    buffer = io.BytesIO()
    torch.save({"state_dict": state}, buffer)
    return buffer.getvalue()


@cache
def safetensors_bytes(name: str, layout: Layout = "timm") -> bytes:
    """A weights file as timm hosts them."""
    from safetensors.torch import save

    state = from_evit(random_state(name), get_variant(name), layout)
    return save({k: v.contiguous() for k, v in state.items()}, {"format": "pt"})


def write(path: Path, content: bytes) -> Path:
    """Write a file and its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def same_state(left: Any, right: Any) -> bool:
    """Whether two state dicts hold the same tensors under the same names."""
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
