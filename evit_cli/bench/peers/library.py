"""The libraries that build peers: imported where one is needed, or what is in the way said."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from functools import lru_cache
from types import ModuleType

from evit_cli.bench.peers.catalog import Peer
from evit_cli.errors import MissingDependency
from evit_cli.export.quiet import quiet_libraries

_INSTALL = {
    "transformers": 'pip install "evit-cli[peers]"',
    "timm": "pip install timm torchvision",
    "segmentation_models_pytorch": "pip install segmentation-models-pytorch torchvision",
    "spandrel": "pip install spandrel torchvision",
    "spandrel_extra_arches": "pip install spandrel_extra_arches torchvision",
}
_NEED_TORCHVISION = frozenset(_INSTALL) - {"transformers"}
_ONE_BUILD = "torch and torchvision must be of one build, both for the CPU or both for one CUDA"


def import_library(peer: Peer) -> ModuleType:
    """Import what builds a peer.

    Raises:
        MissingDependency: it is not installed, or torchvision is in its way.
    """
    library, name, hint = peer.library, peer.name, _INSTALL[peer.library]
    for module in ("torch", *peer.needs):
        if not _installed(module):
            raise MissingDependency(f"{name} needs {module}, which is not installed", hint=hint)
    if not _installed(library):
        also = f"; {_ONE_BUILD}" if library in _NEED_TORCHVISION else ""
        raise MissingDependency(
            f"{name} is built by {library}, which is not installed", hint=hint + also
        )
    trouble = torchvision_trouble()
    if trouble and library in _NEED_TORCHVISION:
        raise MissingDependency(
            f"{name} is built by {library}, which needs torchvision, and {trouble}", hint=_ONE_BUILD
        )
    if trouble and _installed("torchvision"):
        # transformers takes torchvision up wherever it is installed, and fails with it.
        raise MissingDependency(
            f"{name} is built by {library}, which fails since {trouble}",
            hint=f"pip uninstall torchvision, or mend it: {_ONE_BUILD}",
        )
    try:
        with quiet_libraries():
            return importlib.import_module(library)
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        raise MissingDependency(
            f"{name} is built by {library}, which does not import: {_first_line(error)}", hint=hint
        ) from error


@lru_cache(maxsize=1)
def torchvision_trouble() -> str:
    """Why torchvision cannot be used, "" if it can.

    Its wheels hold operators compiled for one build of torch: beside another they do not load.
    """
    if not _installed("torchvision"):
        return "torchvision is not installed"
    try:
        with quiet_libraries():
            importlib.import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        import torch

        version = importlib.metadata.version("torchvision")
        return (
            f"torchvision {version} does not load beside torch {torch.__version__} "
            f"({_first_line(error)})"
        )
    return ""


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0]
