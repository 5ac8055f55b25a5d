"""What the dense heads share: three resolutions added at the finest, then blocks (paper Fig. 5)."""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.blocks import convolution_block
from evit_cli.models.layers import BicubicResize, ConvNorm, Residual
from evit_cli.models.specs import SamHeadSpec, SegmentHeadSpec, SuperresHeadSpec, Variant


class FusionHead(nn.Module):
    """Projects the last three features to one width, adds them at the finest and refines the sum.

    Args:
        variant: its backbone gives the features.
        spec: width and blocks.
    """

    def __init__(
        self, variant: Variant, spec: SegmentHeadSpec | SuperresHeadSpec | SamHeadSpec
    ) -> None:
        super().__init__()
        eps, act = variant.backbone.norm_eps, variant.backbone.act
        deepest_first = variant.backbone.widths[:1:-1][:3]
        self.projections = nn.ModuleList(
            ConvNorm(width, spec.width, norm_eps=eps) for width in deepest_first
        )
        self.resizes = nn.ModuleList(BicubicResize() for _ in deepest_first)
        self.blocks = nn.Sequential(
            *(
                Residual(
                    convolution_block(
                        spec.kind, spec.width, spec.width, expand=spec.expand, norm_eps=eps, act=act
                    )
                )
                for _ in range(spec.depth)
            )
        )

    def fuse(self, features: list[Tensor]) -> Tensor:
        """Backbone features (finest first) -> (B, width, h, w) of the third last."""
        size_hw = features[-3].shape[-2:]
        levels = zip(self.projections, self.resizes, reversed(features), strict=False)
        coarse, middle, fine = (
            resize(project(level), size_hw) for project, resize, level in levels
        )
        # A runtime keeps the first one's memory layout: the finest is a convolution's output.
        return self.blocks(fine + coarse + middle)  # type: ignore[no-any-return]
