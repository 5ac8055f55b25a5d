"""EfficientViT-SAM as one module with two parts, which run and are exported apart."""

from __future__ import annotations

from torch import Tensor, nn

from evit_cli.models.sam.decoder import SamDecoder
from evit_cli.models.sam.encoder import SamEncoder
from evit_cli.models.specs import SamHeadSpec, Variant


class Sam(nn.Module):
    """Promptable segmentation: the encoder runs once per image, the decoder once per prompt.

    Args:
        variant: a variant whose task is `Task.SAM`.
    """

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        if not isinstance(variant.head, SamHeadSpec):
            raise ValueError(f"variant {variant.name} is no SAM model")
        self.variant = variant
        self.encoder = SamEncoder(variant)
        self.decoder = SamDecoder(variant.head.decoder)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB (B, 3, S, S) -> embedding (B, width, 64, 64); see `SamEncoder`."""
        return self.encoder(x)  # type: ignore[no-any-return]
