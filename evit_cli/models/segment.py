"""EfficientViT for semantic segmentation (paper Tables 2 and 3)."""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.backbone import Backbone
from evit_cli.models.fusion import FusionHead
from evit_cli.models.layers import ConvNorm
from evit_cli.models.variants import SegmentHeadSpec, Variant


class SegmentHead(FusionHead):
    """Adds the projected features of strides 32, 16 and 8 at stride 8, then classifies (Fig. 5)."""

    def __init__(self, variant: Variant, spec: SegmentHeadSpec) -> None:
        super().__init__(variant, spec)
        eps, act = variant.backbone.norm_eps, variant.backbone.act
        width = spec.width * (spec.final_expand or 1)
        self.expand = (
            ConvNorm(spec.width, width, norm_eps=eps, act=act)
            if spec.final_expand
            else nn.Identity()
        )
        self.classifier = nn.Conv2d(width, variant.num_classes, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Backbone features (finest first) -> logits (B, num_classes, H / 8, W / 8)."""
        return self.classifier(self.expand(self.fuse(features)))  # type: ignore[no-any-return]


class Segmenter(nn.Module):
    """Backbone and segmentation head.

    Args:
        variant: a variant whose task is `Task.SEGMENT`.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if not isinstance(variant.head, SegmentHeadSpec):
            raise ValueError(f"variant {variant.name} has no segmentation head")
        self.variant = variant
        self.backbone = Backbone(variant.backbone)
        self.head = SegmentHead(variant, variant.head)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) float -> logits (B, num_classes, ceil(H/8), ceil(W/8))."""
        return self.predict(self.backbone(x))

    def predict(self, features: list[Tensor]) -> Tensor:
        """The backbone's features -> logits."""
        return self.head(features)  # type: ignore[no-any-return]
