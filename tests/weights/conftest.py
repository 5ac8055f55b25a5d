"""Fixtures of the weights tests: no test sees the user's cache, token or network."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from evit_cli.models.build import build_model
from evit_cli.models.variants import get_variant
from evit_cli.weights.remap import Layout, from_evit
from tests.helpers.hub_server import Hub, HubServer


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "EVIT_MODELS_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf_home")))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody answers
    # These two are read from the environment when the library is imported, once per process.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_TELEMETRY", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", "no-such-token")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the client waits between its tries


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """An empty hub that HF_ENDPOINT points to."""
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


@pytest.fixture
def evit() -> Callable[..., Result]:
    """Runs the command line: `evit("models", "ls")`."""
    from evit_cli.app import app

    runner = CliRunner()

    def run(*arguments: object) -> Result:
        return runner.invoke(app, [str(argument) for argument in arguments])

    return run


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
