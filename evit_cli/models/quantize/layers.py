"""The quantised layers: float tensors that only hold values an int8 tensor can hold.

Quantisation is written as quantize/dequantize pairs, which every exporter of PyTorch understands:
LiteRT turns a layer between pairs into its int8 operator, ONNX gets QuantizeLinear and
DequantizeLinear for ONNX Runtime, OpenVINO and TensorRT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
import torch.nn.functional as F
from torch import Tensor, nn

_LOW, _HIGH = -128, 127
_WEIGHT_HIGH = 127
_SMALLEST_SCALE = 1e-8
_UNEVEN = 1e-5


@dataclass(frozen=True)
class Range:
    """The real values that the 256 codes of a tensor span.

    Attributes:
        low: of code -128; moved so that zero has a code of its own.
        high: of code 127.
        source: where the range is that of a module's input, the name of the tensor that it is.
    """

    low: float
    high: float
    source: str = ""

    @property
    def scale(self) -> float:
        """Distance between neighbouring codes."""
        return max((max(self.high, 0.0) - min(self.low, 0.0)) / (_HIGH - _LOW), _SMALLEST_SCALE)

    @property
    def zero_point(self) -> int:
        """The code of zero, -128..127."""
        return min(max(round(_LOW - min(self.low, 0.0) / self.scale), _LOW), _HIGH)


UNIT = Range(0.0, 1.0)
_SIX = Range(0.0, 6.0)


def snap(x: Tensor, to: Range) -> Tensor:
    """`x` rounded to the codes of a range and clipped to it."""
    if not torch.compiler.is_exporting():  # the same arithmetic in one pass
        return torch.fake_quantize_per_tensor_affine(x, to.scale, to.zero_point, _LOW, _HIGH)
    ops = torch.ops.quantized_decomposed
    codes = ops.quantize_per_tensor(x, to.scale, to.zero_point, _LOW, _HIGH, torch.int8)
    out: Tensor = ops.dequantize_per_tensor(codes, to.scale, to.zero_point, _LOW, _HIGH, torch.int8)
    return out


def weight_scales(weight: Tensor) -> Tensor:
    """The distance between neighbouring codes of each output channel's weights, (c_out,)."""
    return weight.flatten(1).abs().amax(dim=1).clamp(min=_SMALLEST_SCALE) / _WEIGHT_HIGH


class QuantizedConv2d(nn.Module):
    """A convolution with int8 weights, input and output.

    Weights are symmetric with a scale per output channel, activations asymmetric with one scale.

    Args:
        source: the float convolution, zero padding.
        input_range: of the input, or None where its producer has quantised it.
        output_range: of the output.
    """

    weight: Tensor
    scales: Tensor
    zero_points: Tensor

    def __init__(
        self, source: nn.Conv2d, *, input_range: Range | None, output_range: Range
    ) -> None:
        super().__init__()
        self.input_range, self.output_range = input_range, output_range
        self.stride, self.padding, self.groups = source.stride, source.padding, source.groups
        self.in_channels, self.out_channels = source.in_channels, source.out_channels
        self.kernel_size = source.kernel_size
        weight = source.weight.detach().clone()
        # Not codes yet: LiteRT's converter takes no int8 constants, and rounds alike.
        self.register_buffer("weight", weight)
        self.register_buffer("scales", weight_scales(weight))
        self.register_buffer("zero_points", torch.zeros(len(weight), dtype=torch.int64))
        bias = torch.zeros(len(weight)) if source.bias is None else source.bias.detach().clone()
        self.bias = nn.Parameter(bias, requires_grad=False)

    def store_codes(self) -> None:
        """Keep the weights as int8 codes, which ONNX takes as they are."""
        if self.weight.dtype is not torch.int8:
            codes = (self.weight / self.scales.view(-1, 1, 1, 1)).round()
            self.weight = codes.clamp(-_WEIGHT_HIGH, _WEIGHT_HIGH).to(torch.int8)

    def snapped_weight(self) -> Tensor:
        """The weights as int8 holds them."""
        ops, limits = torch.ops.quantized_decomposed, (-_WEIGHT_HIGH, _WEIGHT_HIGH)
        how = (self.scales, self.zero_points, 0, *limits)
        codes = self.weight
        if codes.dtype is not torch.int8:
            if not torch.compiler.is_exporting():
                return torch.fake_quantize_per_channel_affine(
                    codes, self.scales, self.zero_points.int(), 0, *limits
                )
            codes = ops.quantize_per_channel(codes, *how, torch.int8)
        out: Tensor = ops.dequantize_per_channel(codes, *how, torch.int8)
        return out

    def taken(self, x: Tensor) -> Tensor:
        """The input as the convolution sees it."""
        return x if self.input_range is None else snap(x, self.input_range)

    def convolve(self, x: Tensor) -> Tensor:
        """The output before it is rounded."""
        padding = self.padding
        assert not isinstance(padding, str)
        return F.conv2d(
            self.taken(x),
            self.snapped_weight(),
            self.bias,
            self.stride,
            padding,
            groups=self.groups,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        return snap(self.convolve(x), self.output_range)


class ScaledHardswish(nn.Module):
    """`hardswish(s x) / s` with a scale s per channel: hard-swish between equalised tensors.

    Args:
        scale: (C,), positive.
    """

    scale: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        return x * (x * (self.scale / 6) + 0.5).clamp(0, 1)


class SixfoldHardswish(nn.Module):
    """`6 hardswish(x) = x relu6(x + 3)`: the sixth is left to the next layer's weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        return x * F.relu6(x + 3)


class QuantizedSixfoldHardswish(nn.Module):
    """`SixfoldHardswish` as an addition with a clamp and a product, both int8.

    The cheapest form: seg-b0 at 512x1024 takes 0.72 of the float32 time with it, 0.93 with
    `QuantizedHardswish` in its place (LiteRT, two x86 cores).

    Args:
        input_range: of the input, or None where its producer has quantised it.
        output_range: of the result.
    """

    def __init__(self, input_range: Range | None, output_range: Range) -> None:
        super().__init__()
        self.input_range, self.output_range = input_range, output_range

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        if self.input_range is not None:
            x = snap(x, self.input_range)
        return snap(x * snap(F.relu6(x + 3), _SIX), self.output_range)


class QuantizedHardswish(nn.Module):
    """Hard-swish as two int8 operators that every delegate has.

    XNNPACK does not take an int8 HARD_SWISH. Here the gate, `clamp(s x / 6 + 1/2, 0, 1)`, is a 1x1
    depthwise convolution whose output range of 0 to 1 does the clamping, and a product follows.

    Args:
        scale: (C,), the scales of `ScaledHardswish`; ones for the plain function.
        input_range: of the input, or None where its producer has quantised it.
        output_range: of the result.
    """

    def __init__(self, scale: Tensor, input_range: Range | None, output_range: Range) -> None:
        super().__init__()
        channels = scale.numel()
        gate = nn.Conv2d(channels, channels, 1, groups=channels)
        gate.weight.data = scale.detach().reshape(-1, 1, 1, 1) / 6
        # Not all the same: LiteRT's converter gives a constant bias the first channel's scale.
        half = 0.5 + torch.linspace(0, _UNEVEN, channels)
        gate.bias = nn.Parameter(half, requires_grad=False)
        self.gate = QuantizedConv2d(gate, input_range=None, output_range=UNIT)
        self.input_range, self.output_range = input_range, output_range

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in and out."""
        if self.input_range is not None:
            x = snap(x, self.input_range)
        return snap(x * self.gate(x), self.output_range)


class QuantizedResidual(nn.Module):
    """`x + main(x)` in int8.

    Args:
        main: the branch.
        input_range: of x, or None where its producer has quantised it.
        output_range: of the sum.
    """

    def __init__(self, main: nn.Module, input_range: Range | None, output_range: Range) -> None:
        super().__init__()
        self.main = main
        self.input_range, self.output_range = input_range, output_range

    def forward(self, x: Tensor) -> Tensor:
        """Same shape in and out."""
        if self.input_range is not None:
            x = snap(x, self.input_range)
        return snap(x + self.main(x), self.output_range)


class Snapped(nn.Module):
    """A float layer with a quantised output.

    Args:
        source: the layer; a ReLU is merged into the convolution before it.
        output_range: of its output.
    """

    def __init__(self, source: nn.Module, output_range: Range) -> None:
        super().__init__()
        self.source, self.output_range = source, output_range

    def forward(self, x: Tensor) -> Tensor:
        """As the source."""
        return snap(self.source(x), self.output_range)
