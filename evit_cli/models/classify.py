"""EfficientViT for image classification (paper Table 4)."""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.backbone import Backbone
from evit_cli.models.layers import ConvNorm, activation
from evit_cli.models.variants import ClassifyHeadSpec, Variant


class ClassifyHead(nn.Module):
    """1x1 convolution, global average pooling, two linear layers with a LayerNorm between."""

    def __init__(self, variant: Variant, spec: ClassifyHeadSpec) -> None:
        super().__init__()
        backbone = variant.backbone
        if backbone.norm_eps is None:
            raise ValueError(f"variant {variant.name}: a classifier needs a norm_eps")
        self.in_conv = ConvNorm(
            backbone.widths[-1], spec.conv_width, norm_eps=backbone.norm_eps, act=backbone.act
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(spec.conv_width, spec.linear_width, bias=False)
        self.norm = nn.LayerNorm(spec.linear_width, eps=backbone.norm_eps)
        self.act = activation(backbone.act)
        self.classifier = nn.Linear(spec.linear_width, variant.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> logits (B, num_classes)."""
        x = self.pool(self.in_conv(x)).flatten(1)  # (B, conv_width)
        return self.classifier(self.act(self.norm(self.hidden(x))))  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Backbone and classification head.

    Args:
        variant: a variant whose task is `Task.CLASSIFY`.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if not isinstance(variant.head, ClassifyHeadSpec):
            raise ValueError(f"variant {variant.name} has no classification head")
        self.variant = variant
        self.backbone = Backbone(variant.backbone)
        self.head = ClassifyHead(variant, variant.head)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W) float -> logits (B, num_classes)."""
        return self.predict(self.backbone(x))

    def predict(self, features: list[Tensor]) -> Tensor:
        """The backbone's features -> logits."""
        return self.head(features[-1])  # type: ignore[no-any-return]
