"""Prompts as tokens and as a map (arXiv 2304.02643, appendix A, "Prompt encoder")."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from evit_cli.models.layers import LayerNorm2d

FRAME = 1024
"""Side of the square that prompts are given in, whatever the encoder's input."""
EMBEDDING_SIDE = 64
MASK_SIDE = 256
"""Side of the masks, those that come out and those that go in as prompts."""

ABSENT, PADDING, NEGATIVE, POSITIVE, UPPER_LEFT, LOWER_RIGHT = -2, -1, 0, 1, 2, 3
"""Labels of points. `PADDING` is a learnt token that the published model sees in place of a box;
`ABSENT` (ours) fills arrays of a fixed length, and nothing sees it."""

_HALF_PIXEL = 0.5


class PointPlaces(nn.Module):
    """Random Fourier features of places in the frame (arXiv 2006.10739).

    Args:
        dim: features per place, half of them sines.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", torch.randn(2, dim // 2))

    def forward(self, places: Tensor) -> Tensor:
        """(..., 2) x and y as shares of the frame -> (..., dim)."""
        angles = 2 * math.pi * ((2 * places - 1) @ self.frequencies)
        return torch.cat((angles.sin(), angles.cos()), dim=-1)

    def of_grid(self, side: int = EMBEDDING_SIDE) -> Tensor:
        """The features of the embedding's pixels, (1, dim, side, side)."""
        steps = torch.arange(side, device=self.frequencies.device)
        centres = (steps.to(self.frequencies.dtype) + _HALF_PIXEL) / side
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        return self(torch.stack((x, y), dim=-1)).permute(2, 0, 1)[None]  # type: ignore[no-any-return]


class PromptEncoder(nn.Module):
    """Points, corners of boxes and a mask in the model's channels.

    Args:
        dim: channels.
        mask_width: channels of the mask's first convolutions.
    """

    def __init__(self, dim: int, *, mask_width: int = 16) -> None:
        super().__init__()
        self.places = PointPlaces(dim)
        self.points = nn.ParameterList(torch.randn(1, dim) for _ in range(4))  # by label
        self.padding = nn.Parameter(torch.randn(1, dim))
        self.no_mask = nn.Parameter(torch.randn(1, dim))
        self.mask = nn.Sequential(
            nn.Conv2d(1, mask_width // 4, 2, stride=2),
            LayerNorm2d(mask_width // 4),
            nn.GELU(),
            nn.Conv2d(mask_width // 4, mask_width, 2, stride=2),
            LayerNorm2d(mask_width),
            nn.GELU(),
            nn.Conv2d(mask_width, dim, 1),
        )

    def tokens(self, points_xy: Tensor, labels: Tensor) -> Tensor:
        """(P, N, 2) in the frame's pixels and (P, N) labels -> (P, N, dim)."""
        labels = labels[..., None]
        places = self.places((points_xy + _HALF_PIXEL) / FRAME)
        known = (labels >= NEGATIVE).to(places.dtype)
        kinds = (
            sum(
                (labels == label).to(places.dtype) * point[0]
                for label, point in enumerate(self.points)
            )
            + (labels == PADDING).to(places.dtype) * self.padding[0]
        )
        return places * known + kinds  # type: ignore[no-any-return]

    def map(self, mask_input: Tensor | None, has_mask: Tensor | None) -> Tensor:
        """Mask logits (P, 1, 256, 256) and (P,) 0 or 1 -> (P or 1, dim, 64, 64) or (1, dim, 1, 1).

        What is added to the image's embedding: a learnt vector where there is no mask.
        """
        without = self.no_mask.view(1, -1, 1, 1)
        if mask_input is None:
            return without
        mapped = self.mask(mask_input)
        if has_mask is None:
            return mapped  # type: ignore[no-any-return]
        given = has_mask.view(-1, 1, 1, 1).to(mapped.dtype)
        return mapped * given + without * (1 - given)  # type: ignore[no-any-return]
