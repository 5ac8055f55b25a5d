"""A peer as a PyTorch module: normalised RGB in, one tensor out, random weights from one seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evit_cli.bench.peers.catalog import Peer, find_peer
from evit_cli.bench.peers.families import FAMILIES, Pick
from evit_cli.bench.peers.library import import_library
from evit_cli.errors import EvitError, UsageError
from evit_cli.export.quiet import quiet_libraries
from evit_cli.types import ImageSize

if TYPE_CHECKING:
    from torch import nn

_SEED = 0
_READS_AS_IT_BUILDS = frozenset({"swinir"})
"""Families that read values of tensors while they build, which meta tensors do not have."""


def build_peer(name: str, *, size_hw: ImageSize, batch: int = 1, device: str = "cpu") -> nn.Module:
    """Build a peer for speed: what it gives means nothing.

    The result maps normalised RGB (B, 3, H, W) to what its library gives before postprocessing:
    classification logits (B, 1000); SegFormer logits (B, classes, H / 4, W / 4); DeepLabV3+ logits
    (B, classes, H, W); Mask2Former and MaskFormer class scores (B, classes, H / 4, W / 4), masks
    and classes multiplied out; SwinIR and Swin2SR (B, 3, 2 H, 2 W); Restormer
    (B, 3, H, W); SAM's image encoder (B, 256, H / 16, W / 16).

    Args:
        name: of a peer.
        size_hw: the input size it will run at.
        batch: images per run; every peer takes any.
        device: "cpu", "cuda", or "meta" for counting without memory.

    Raises:
        UsageError: there is no such peer, or it does not take this size.
        EvitError: no well-kept library has it; the hint names peers near to it.
        MissingDependency: its library is not installed or cannot be imported.
    """
    peer = find_peer(name)
    check_size(peer, size_hw)
    if batch < 1:
        raise UsageError(f"a batch has at least 1 image, not {batch}")
    check_library(peer)
    library = import_library(peer)
    import torch

    first = "cpu" if peer.family in _READS_AS_IT_BUILDS else device
    with torch.random.fork_rng(devices=[]), quiet_libraries():
        torch.manual_seed(_SEED)
        try:
            with torch.device(first):
                model, pick = FAMILIES[peer.family](library, peer, size_hw)
        except (ImportError, AttributeError, TypeError) as error:
            raise EvitError(
                f"{peer.library} does not build {name} any more: {error}",
                hint=f"install the version of {peer.library} that evit was tested with",
            ) from error
    return _one_output(model, pick).to(device).eval().requires_grad_(False)


def check_library(peer: Peer) -> None:
    """Refuse a peer that no well-kept library has.

    Raises:
        EvitError: as it says; the hint names peers near to it.
    """
    if peer.library:
        return
    why = f": {peer.note}" if peer.note else ""
    raise EvitError(
        f"no well-kept library has {peer.name}{why}",
        hint=f"take {' or '.join(peer.nearest)}" if peer.nearest else "",
    )


def check_size(peer: Peer, size_hw: ImageSize) -> None:
    """Refuse a size that a peer does not take.

    Raises:
        UsageError: it is not square, or a side is no multiple of the peer's stride.
    """
    if peer.square and size_hw[0] != size_hw[1]:
        raise UsageError(f"{peer.name} takes square images, not {ImageSize(*size_hw)}")
    if any(side % peer.stride for side in size_hw):
        raise UsageError(
            f"{peer.name} takes multiples of {peer.stride}, not {ImageSize(*size_hw)}",
            hint=f"its own size is {peer.size_hw}",
        )


def count_params(model: nn.Module) -> int:
    """Parameters of a module; tensors that two layers share count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _one_output(model: nn.Module, pick: Pick) -> nn.Module:
    """The model with one tensor as its result."""
    from torch import nn

    class OneOutput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            """(B, 3, H, W) -> one tensor."""
            return pick(self.model(x))

    return OneOutput()
