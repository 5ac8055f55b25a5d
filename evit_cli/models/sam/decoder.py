"""From an embedding and prompts to masks (arXiv 2304.02643, appendix A, "Mask decoder").

Token 0 is for prompts that leave no doubt; tokens 1 to 3 offer three answers to one that does.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.models.layers import LayerNorm2d
from evit_cli.models.sam.drawn import DRAWN, DrawnPrompts
from evit_cli.models.sam.prompts import ABSENT, PromptEncoder
from evit_cli.models.sam.transformer import TwoWayTransformer
from evit_cli.models.specs import SamDecoderSpec

MASKS = 4
_UNSEEN = -1e4
"""Added before the softmax; float16 holds it, and its exponential is 0."""


class Mlp(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        widths: of the input, of what lies between, and of the output.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        pairs = itertools.pairwise(widths)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., widths[0]) -> (..., widths[-1])."""
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
        return self.layers[-1](x)  # type: ignore[no-any-return]


class SamDecoder(nn.Module):
    """Draws masks for a batch of prompts on one image.

    Args:
        spec: its sizes.

    Attributes:
        takes_absent: whether labels may be `ABSENT`, which costs a little; for arrays whose number
            of points is fixed.
    """

    def __init__(self, spec: SamDecoderSpec) -> None:
        super().__init__()
        dim = spec.dim
        self.takes_absent = False
        self.prompts = PromptEncoder(dim)
        self.drawn = DrawnPrompts(dim) if spec.drawn else None
        self.iou_token = nn.Parameter(torch.randn(1, dim))
        self.mask_tokens = nn.Parameter(torch.randn(MASKS, dim))
        self.transformer = TwoWayTransformer(
            dim,
            spec.heads,
            mlp_width=spec.mlp_width,
            depth=spec.depth,
            downsample=spec.downsample,
        )
        self.enlarge = nn.Sequential(
            nn.ConvTranspose2d(dim, dim // 4, 2, stride=2),
            LayerNorm2d(dim // 4),
            nn.GELU(),
            nn.ConvTranspose2d(dim // 4, dim // 8, 2, stride=2),
            nn.GELU(),
        )
        maps = dim // 8 + (DRAWN if spec.drawn else 0)
        self.mask_weights = nn.ModuleList(Mlp((dim, dim, dim, maps)) for _ in range(MASKS))
        self.iou = Mlp((dim, spec.iou_width, spec.iou_width, MASKS))

    def forward(
        self,
        embedding: Tensor,
        points_xy: Tensor,
        labels: Tensor,
        mask_input: Tensor | None = None,
        has_mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Masks of a batch of prompts.

        Args:
            embedding: (1, dim, 64, 64), or one for each prompt: (P, dim, 64, 64).
            points_xy: (P, N, 2), pixels of the 1024x1024 frame.
            labels: (P, N), see `evit_cli.models.sam.prompts`.
            mask_input: logits (P, 1, 256, 256) of a mask to start from.
            has_mask: (P,), 0 where `mask_input` is to be ignored; None uses it everywhere.

        Returns:
            Logits (P, 4, 256, 256), above 0 inside, and the IoU that each mask is expected to have
            with the true one, (P, 4).
        """
        prompts = points_xy.shape[0]  # len() would make it a constant of an exported graph
        own = torch.cat((self.iou_token, self.mask_tokens))
        tokens = torch.cat(
            (own.expand(prompts, -1, -1), self.prompts.tokens(points_xy, labels)), dim=1
        )
        image = embedding + self.prompts.map(mask_input, has_mask)
        side = image.shape[-1]
        if self.drawn is not None:
            image = image + self.drawn(points_xy, labels, side)
        places = self.prompts.places.of_grid(side).flatten(2).transpose(1, 2)
        pixels = image.flatten(2).transpose(1, 2)  # (P or 1, 4096, dim)
        tokens, pixels = self.transformer(tokens, pixels, places, self._bias(labels))
        image = pixels.transpose(1, 2).reshape(pixels.shape[0], -1, side, side)
        features = self.enlarge(image)  # (P, dim / 8, 256, 256)
        weights = torch.stack(
            [mlp(tokens[:, 1 + i]) for i, mlp in enumerate(self.mask_weights)], dim=1
        )
        height, width = features.shape[-2:]
        if self.drawn is not None:
            picture = self.drawn.picture(points_xy, labels, height)
            features = torch.cat((features, picture.to(features.dtype)), dim=1)
        masks = (weights @ features.flatten(2)).reshape(-1, MASKS, height, width)
        return masks, self.iou(tokens[:, 0])

    def _bias(self, labels: Tensor) -> Tensor | None:
        """(P, 1, 1, T): 0, and very negative for absent points."""
        if not self.takes_absent:
            return None
        absent = F.pad((labels == ABSENT).to(self.iou_token.dtype), (1 + MASKS, 0))
        return (absent * _UNSEEN)[:, None, None]
