"""Static int8 quantisation: one quantised PyTorch model for every target, and for training.

    fused = fuse(model)
    equal = equalise(fused, images, islands=DEFAULT_ISLANDS)
    ranges = collect_ranges(equal, images, method="mse")
    int8 = quantise(equal, ranges, islands=DEFAULT_ISLANDS)
    correct_biases(equal, int8, images)

`equalise` takes the fused model; the other steps take any form of it whose convolutions are
`nn.Conv2d`, such as the one with its normalisation inside that is exported.
"""

from __future__ import annotations

from evit_cli.models.quantize.bias import correct_biases
from evit_cli.models.quantize.equalise import equalise
from evit_cli.models.quantize.layers import QuantizedConv2d, Range
from evit_cli.models.quantize.quantise import quantise
from evit_cli.models.quantize.ranges import METHOD, METHODS, collect_ranges, symmetric
from evit_cli.models.quantize.rounded import RoundedModel, simulate_fast
from evit_cli.models.quantize.sixfold import sixfold

DEFAULT_ISLANDS = ("backbone.stem",)
"""Left in float. The stem's few channels are spread over two decades, and what rounding makes of
them passes through the whole network: of the published B0's 0.691 mean IoU on 12 frames of CamVid
0.667 was left with an int8 stem, 0.685 with a float one (simulated)."""

__all__ = [
    "DEFAULT_ISLANDS",
    "METHOD",
    "METHODS",
    "QuantizedConv2d",
    "Range",
    "RoundedModel",
    "collect_ranges",
    "correct_biases",
    "equalise",
    "quantise",
    "simulate_fast",
    "sixfold",
    "symmetric",
]
