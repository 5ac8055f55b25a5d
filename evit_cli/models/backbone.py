"""The B, L and XL backbones, built from a `BackboneSpec`."""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.blocks import EfficientViTModule, convolution_block
from evit_cli.models.layers import ConvNorm, Residual
from evit_cli.models.variants import BackboneSpec, Stage


def _stem(spec: BackboneSpec) -> nn.Sequential:
    """3x3 convolution with the stem's stride, then residual blocks of the stem's kind."""
    entry = ConvNorm(
        3,
        spec.stem_width,
        kernel=3,
        stride=spec.stem_stride,
        norm_eps=spec.norm_eps,
        act=spec.act,
    )
    blocks = [
        Residual(
            convolution_block(
                spec.stem_kind,
                spec.stem_width,
                spec.stem_width,
                expand=1,
                norm_eps=spec.norm_eps,
                act=spec.act,
            )
        )
        for _ in range(spec.stem_depth)
    ]
    return nn.Sequential(entry, *blocks)


def _block(spec: BackboneSpec, stage: Stage) -> nn.Module:
    if stage.kind == "att":
        return EfficientViTModule(
            stage.width,
            head_dim=spec.head_dim,
            scales=spec.attention_scales,
            attention=spec.global_attention,
            expand=stage.expand,
            norm_eps=spec.norm_eps,
            act=spec.act,
        )
    return Residual(
        convolution_block(
            stage.kind,
            stage.width,
            stage.width,
            expand=stage.expand,
            norm_eps=spec.norm_eps,
            act=spec.act,
            bias_instead_of_norm=stage.bias_instead_of_norm,
        )
    )


def _stage(spec: BackboneSpec, c_in: int, stage: Stage) -> nn.Sequential:
    """An entry, without shortcut where the shape changes, then `depth` residual blocks."""
    entry = convolution_block(
        stage.kind,
        c_in,
        stage.width,
        expand=stage.entry_expand,
        norm_eps=spec.norm_eps,
        act=spec.act,
        stride=stage.stride,
        bias_instead_of_norm=stage.bias_instead_of_norm,
    )
    if stage.stride == 1 and c_in == stage.width:
        entry = Residual(entry)
    return nn.Sequential(entry, *(_block(spec, stage) for _ in range(stage.depth)))


class Backbone(nn.Module):
    """A pyramid of features, at strides 2, 4, 8, ... or those of the spec.

    Args:
        spec: the widths, depths and kinds, from `evit_cli.models.variants.BACKBONES`.
    """

    def __init__(self, spec: BackboneSpec) -> None:
        super().__init__()
        self.spec = spec
        self.stem = _stem(spec)
        self.stages = nn.ModuleList(
            _stage(spec, c_in, stage) for c_in, stage in zip(spec.widths, spec.stages, strict=False)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised RGB (B, 3, H, W) -> one (B, widths[i], H / stride, W / stride) per level."""
        features = [self.stem(x)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features
