"""Bias correction: what rounding adds to a channel on average is taken back out of its bias."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from evit_cli.models.quantize.layers import QuantizedConv2d


def _mean_outputs(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Mean output of every channel of every convolution."""
    means: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor], Tensor], None]:
        def hook(_: nn.Module, __: tuple[Tensor], out: Tensor) -> None:
            means[name] = out.mean((0, 2, 3))

        return hook

    handles = [
        module.register_forward_hook(keep(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    model(batch)
    for handle in handles:
        handle.remove()
    return means


@torch.no_grad()
def correct_biases(model: nn.Module, quantised: nn.Module, batches: Iterable[Tensor]) -> None:
    """Make the mean output of every quantised convolution that of the float one, in place.

    Each layer is corrected behind the already corrected layers before it (Nagel et al., arXiv
    1906.04721, section 4.2, with measured means). Batches follow each other with weights 1, 1/2,
    1/3..., so that the result is their mean and only one is in memory.

    Args:
        model: the float model.
        quantised: made of it by `quantise`; changed.
        batches: the model's inputs.
    """
    for count, batch in enumerate(batches, start=1):
        wanted = _mean_outputs(model, batch)
        handles = [
            module.register_forward_pre_hook(_correct(wanted[name], 1 / count))
            for name, module in quantised.named_modules()
            if isinstance(module, QuantizedConv2d) and name in wanted
        ]
        quantised(batch)
        for handle in handles:
            handle.remove()


def _correct(wanted: Tensor, share: float) -> Callable[[nn.Module, tuple[Tensor]], None]:
    def hook(module: nn.Module, args: tuple[Tensor]) -> None:
        assert isinstance(module, QuantizedConv2d)
        found = module.convolve(args[0]).mean((0, 2, 3))
        module.bias.data.add_(share * (wanted - found))

    return hook
