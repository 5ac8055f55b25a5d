"""What mends a quantised model once its ranges are chosen: biases and the rounding of weights.

Both walk through the network once, layer by layer, so that each layer sees what the already mended
layers before it really give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from evit_cli.export.quantize.layers import QuantizedConv2d

_DAMPING = 0.01
"""Added to the diagonal of a layer's input covariance, as a share of its mean."""


def _mean_outputs(model: nn.Module, batch: Tensor) -> dict[str, Tensor]:
    """Mean output of every channel of every convolution."""
    means: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: means.__setitem__(name, out.mean((0, 2, 3)))
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.inference_mode():
        model(batch)
    for handle in handles:
        handle.remove()
    return means


def correct_biases(
    model: nn.Module, quantised: nn.Module, batches: Iterable[Tensor], *, round_weights: bool = True
) -> None:
    """Mend a quantised model in place, layer by layer.

    Args:
        model: the float model.
        quantised: made of it by `quantise`; changed.
        batches: inputs, normalised RGB (B, 3, H, W), of one size.
        round_weights: also choose the rounding of the 1x1 convolutions' weights.
    """
    batch = torch.cat(list(batches))
    wanted = _mean_outputs(model, batch)

    def mend(name: str) -> Callable[[nn.Module, tuple[Tensor]], None]:
        def hook(module: nn.Module, args: tuple[Tensor]) -> None:
            assert isinstance(module, QuantizedConv2d)
            if round_weights and module.kernel_size == (1, 1) and module.groups == 1:
                module.weight.copy_(rounded(module, module.taken(args[0])))
            module.bias += wanted[name] - module.convolve(args[0]).mean((0, 2, 3))

        return hook

    handles = [
        module.register_forward_pre_hook(mend(name))
        for name, module in quantised.named_modules()
        if isinstance(module, QuantizedConv2d) and name in wanted
    ]
    with torch.no_grad():
        quantised(batch)
    for handle in handles:
        handle.remove()


def rounded(conv: QuantizedConv2d, x: Tensor) -> Tensor:
    """Weights on the grid of a 1x1 convolution that give the least output error on its input.

    Column by column, the rounding error of an input channel is made up for by the channels that
    are not rounded yet, as far as they vary together (Frantar et al., arXiv 2210.17323, Eq. 3).

    Args:
        conv: the layer.
        x: its quantised input, (B, C, H, W).

    Returns:
        (out, C, 1, 1) float32.
    """
    weight = conv.weight.flatten(1).double()
    scales = conv.scales.double()
    flat = x.transpose(0, 1).flatten(1)
    flat = flat[:, :: max(1, flat.shape[1] // 200_000)].double()
    flat = flat - flat.mean(dim=1, keepdim=True)  # the mean is the bias's business
    covariance = flat @ flat.T / flat.shape[1]
    diagonal = covariance.diagonal()
    diagonal += _DAMPING * diagonal.mean() + 1e-12
    order = diagonal.argsort(descending=True)
    covariance, weight = covariance[order][:, order], weight[:, order]
    inverse = torch.linalg.cholesky(torch.linalg.inv(covariance), upper=True)
    out = torch.empty_like(weight)
    for i in range(weight.shape[1]):
        codes = (weight[:, i] / scales).round().clamp(-127, 127)
        out[:, i] = codes * scales
        error = (weight[:, i] - out[:, i]) / inverse[i, i]
        weight[:, i:] -= error[:, None] * inverse[i, i:]
    return out[:, order.argsort()].float().view_as(conv.weight)
