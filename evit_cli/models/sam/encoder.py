"""The image encoder: an EfficientViT backbone whose last three levels are fused at 64x64."""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.backbone import Backbone
from evit_cli.models.fusion import FusionHead
from evit_cli.models.layers import LayerNorm2d
from evit_cli.models.specs import SamHeadSpec, Variant


class SamNeck(FusionHead):
    """Adds the projected features at the finest of three levels, refines and projects them."""

    def __init__(self, variant: Variant, spec: SamHeadSpec) -> None:
        super().__init__(variant, spec)
        self.out = nn.Conv2d(spec.width, spec.width, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Backbone features (finest first) -> (B, width, S / 8, S / 8), XL: S / 16."""
        return self.out(self.fuse(features))  # type: ignore[no-any-return]


class SamEncoder(nn.Module):
    """From an image to its embedding.

    Args:
        variant: a variant whose task is `Task.SAM`.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if not isinstance(variant.head, SamHeadSpec):
            raise ValueError(f"variant {variant.name} is no SAM model")
        self.input_side = variant.head.input_side
        self.backbone = Backbone(variant.backbone)
        self.neck = SamNeck(variant, variant.head)
        self.norm = LayerNorm2d(variant.head.width)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, S, S), zero right of and below the image -> (B, width, 64, 64)."""
        return self.norm(self.neck(self.backbone(x)))  # type: ignore[no-any-return]
