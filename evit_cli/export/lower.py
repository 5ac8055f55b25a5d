"""From a trained model to the form that a runtime gets: the same function, other operators."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar, cast

import torch
from torch import Tensor, nn

from evit_cli.export.attention import BlockAttention, TokenAttention, attention_by_sums
from evit_cli.export.form import Attention, Form
from evit_cli.export.resize import MatrixResize, PhaseResize
from evit_cli.export.sam_norms import replace_norms
from evit_cli.export.strips import StripMBConv
from evit_cli.export.superres import STRIDES, LoweredSuperResolver
from evit_cli.models.attention import MultiScaleLinearAttention
from evit_cli.models.blocks import MBConv
from evit_cli.models.fuse import fuse
from evit_cli.models.sam.encoder import SamEncoder, SamNeck
from evit_cli.models.sam.prompts import EMBEDDING_SIDE
from evit_cli.models.segment import SegmentHead
from evit_cli.models.superres import SuperresHead, SuperResolver
from evit_cli.types import ImageSize, Preprocess

M = TypeVar("M", bound=nn.Module)

PIXELS_PER_CHANNEL = 2
"""From how many on one product for all heads is the faster one: its size is that of the channels
squared. OpenVINO in bfloat16, of the time with one for each head: B1's classifier at 224x224 (0.2
and 1.5 pixels per channel) 1.09, L1's segmenter at 512x1024 (1) 1.03, B1's (2 and 16) 0.91."""


class ImageModel(nn.Module):
    """A model with its normalisation: RGB from 0 to 255 in, float32 logits or RGB out.

    Args:
        model: maps normalised RGB (B, 3, H, W) to logits or RGB; in evaluation mode, fused. What
            takes the image is changed.
        preprocess: mean and deviation.
        form: of input and output.
        size_hw: of the input; does not matter where it is free.
    """

    mean: Tensor

    def __init__(
        self, model: nn.Module, preprocess: Preprocess, form: Form, size_hw: ImageSize
    ) -> None:
        super().__init__()
        self.model, self.form = model, form
        # The deviation goes into the first convolution. The mean cannot: the convolution's
        # padding is zero after the mean is subtracted.
        taking: list[nn.Module] = [next(m for m in model.modules() if isinstance(m, nn.Conv2d))]
        if isinstance(model, LoweredSuperResolver):
            taking.append(model.enlarge)
        scale = 1 / (255 * torch.tensor(preprocess.std_rgb)).view(1, 3, 1, 1)
        for layer in taking:
            assert isinstance(layer.weight, Tensor)
            layer.weight.data = layer.weight.data * scale
        mean = 255 * torch.tensor(preprocess.mean_rgb)
        self.by_row = form.whole_rows and form.channels_last and not form.free_size
        if self.by_row:
            mean = mean.repeat(size_hw.width)
        self.register_buffer("mean", mean if form.channels_last else mean.view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """(B, H, W, 3) or (B, 3, H, W) -> (B, C, h, w), (B, h, w, C), (B, classes)."""
        rows = image.flatten(2) if self.by_row else image
        x = (rows.to(self.mean.dtype) - self.mean).view(image.shape)
        if self.form.channels_last:
            x = x.permute(0, 3, 1, 2)
        out: Tensor = self.model(x)
        out = out.float()
        return out.permute(0, 2, 3, 1) if self.form.outputs_last and out.ndim == 4 else out


def lower(model: M, size_hw: ImageSize, form: Form) -> M:
    """A fused copy of `model` in the given form; outputs agree to 1e-4 of their deviation.

    Args:
        model: a classifier, segmenter, super-resolver or SAM encoder.
        size_hw: the input size; the smallest where it is free. Multiples of the model's stride.
        form: what to take.

    Raises:
        ValueError: a side is not a multiple of the stride.
    """
    stride = STRIDES[0] if isinstance(model, SuperResolver) else 32
    if any(side % stride for side in size_hw):
        raise ValueError(f"both sides must be multiples of {stride}, got {size_hw}")
    fused = fuse(model)
    _replace_attention(fused, size_hw, form.attention)
    if form.strips:
        replace_modules(fused, MBConv, StripMBConv)
    return _lower_head(fused, size_hw, form).eval().requires_grad_(False)


def _replace_attention(model: nn.Module, size_hw: ImageSize, form: Attention) -> None:
    """Put another form of attention in place of the model's own, "means"."""
    if form == "tokens":
        replace_modules(model, MultiScaleLinearAttention, TokenAttention)
    if form not in ("sums", "blocks"):
        return
    pixels = _attends_to(model, size_hw) if form == "blocks" else {}
    for name, module in list(model.named_modules()):
        if not isinstance(module, MultiScaleLinearAttention):
            continue
        if name in pixels and pixels[name] >= PIXELS_PER_CHANNEL * module.qkv.in_channels:
            model.set_submodule(name, BlockAttention(module))
        else:
            module.attend = attention_by_sums


def _attends_to(model: nn.Module, size_hw: ImageSize) -> dict[str, int]:
    """How many pixels each attention of a model sees, by the module's name."""
    pixels: dict[str, int] = {}
    shadow = copy.deepcopy(model).to("meta")
    for name, module in shadow.named_modules():
        if isinstance(module, MultiScaleLinearAttention):
            module.register_forward_pre_hook(
                lambda _, args, name=name: pixels.update({name: args[0].shape[2:].numel()})
            )
    shadow(torch.empty((1, 3, *size_hw), device="meta"))
    return pixels


def _lower_head(fused: M, size_hw: ImageSize, form: Form) -> M:
    """What the dense heads have, in place where that is possible."""
    for module in fused.modules():
        if isinstance(module, SegmentHead | SuperresHead | SamNeck):
            _replace_resizes(module, size_hw, form)
    if isinstance(fused, SamEncoder) and form.scaled_norms:
        replace_norms(fused)
    if isinstance(fused, SuperResolver):
        return cast(M, LoweredSuperResolver(fused, form))
    return fused


def _replace_resizes(
    head: SegmentHead | SuperresHead | SamNeck, size_hw: ImageSize, form: Form
) -> None:
    """Put other forms of what upsamples to the last stride, which stays as it is."""
    strides = STRIDES if isinstance(head, SuperresHead) else (32, 16, 8)
    if isinstance(head, SamNeck):
        finest = size_hw.height // EMBEDDING_SIDE
        strides = (4 * finest, 2 * finest, finest)
    for i, stride in enumerate(strides[:-1]):
        factor = stride // strides[-1]
        if form.free_size:
            conv = head.projections[i].get_submodule("conv")
            assert isinstance(conv, nn.Conv2d)
            head.resizes[i] = PhaseResize(conv.out_channels, factor)
        else:
            height, width = size_hw.height // stride, size_hw.width // stride
            head.resizes[i] = MatrixResize(height, width, factor)


def replace_modules(
    model: nn.Module, kind: type[nn.Module], make: Callable[..., nn.Module]
) -> None:
    """Replace every submodule of `kind` by `make(it)`, in place."""
    for name, child in model.named_children():
        if isinstance(child, kind):
            setattr(model, name, make(child))
        else:
            replace_modules(child, kind, make)
