"""EfficientViT for super-resolution: the paper's backbone and head at the input's resolution.

The paper gives the macro design and no numbers: a standard stem and four stages, EfficientViT
modules in the last two, the features of stages 2 to 4 added in the head. Here the strides are 1, 1,
2 and 4, so that the head works at the input's resolution and a pixel shuffle makes the new pixels.
"""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.backbone import Backbone
from evit_cli.models.fusion import FusionHead
from evit_cli.models.layers import BicubicResize
from evit_cli.models.variants import SUPERRES_PREPROCESS, SuperresHeadSpec, Variant


class SuperresHead(FusionHead):
    """Adds the projected features of strides 4, 2 and 1, then turns channels into pixels."""

    def __init__(self, variant: Variant, spec: SuperresHeadSpec) -> None:
        super().__init__(variant, spec)
        self.to_pixels = nn.Conv2d(spec.width, 3 * spec.scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(spec.scale)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Backbone features (finest first) -> what is missing, (B, 3, H * scale, W * scale)."""
        return self.shuffle(self.to_pixels(self.fuse(features)))  # type: ignore[no-any-return]


class SuperResolver(nn.Module):
    """Backbone and head, whose result is added to the input enlarged bicubically.

    Args:
        variant: a variant whose task is `Task.SUPERRES`.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if not isinstance(variant.head, SuperresHeadSpec):
            raise ValueError(f"variant {variant.name} has no super-resolution head")
        self.variant = variant
        self.scale = variant.head.scale
        self.backbone = Backbone(variant.backbone)
        self.head = SuperresHead(variant, variant.head)
        self.enlarge = BicubicResize()

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) -> RGB (B, 3, H * scale, W * scale), 0..1 and a bit beyond.

        H and W are multiples of 4.
        """
        size_hw = (x.shape[-2] * self.scale, x.shape[-1] * self.scale)
        y = self.enlarge(x, size_hw) + self.head(self.backbone(x))
        mean, std = SUPERRES_PREPROCESS.mean_rgb[0], SUPERRES_PREPROCESS.std_rgb[0]
        return y * std + mean  # type: ignore[no-any-return]
