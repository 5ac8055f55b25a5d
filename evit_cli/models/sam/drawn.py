"""Prompts drawn as a picture beside the image's embedding, for decoders that few data train.

A published decoder learns from eleven million images where a token's place is. A small one gets it
drawn: boxes filled, clicks as spots, as in interactive segmentation (arXiv 2102.06583, section
3.2). The drawing joins the embedding at its resolution, and the maps that masks are mixed of at
theirs: the answer starts from the box, and learns where to leave it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from evit_cli.models.sam.prompts import FRAME, LOWER_RIGHT, NEGATIVE, POSITIVE, UPPER_LEFT

_SPOT = 24.0
"""Deviation of a click's spot, pixels of the frame."""
_SMALL = 64.0
"""Pixels of the frame, four cells of the embedding: what is not much larger is hardly seen."""
DRAWN = 5
"""Channels of the picture."""


class DrawnPrompts(nn.Module):
    """The drawing, and a map of it to be added to the embedding.

    Args:
        dim: channels of the embedding.
        width: between the two convolutions.
    """

    def __init__(self, dim: int, *, width: int = 32) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Conv2d(DRAWN, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, dim, 1)
        )

    def picture(self, points_xy: Tensor, labels: Tensor, side: int) -> Tensor:
        """What is drawn.

        Args:
            points_xy: (P, N, 2), pixels of the frame.
            labels: (P, N), see `evit_cli.models.sam.prompts`.
            side: of the picture.

        Returns:
            (P, 5, side, side) of 0 to 1: positive spots, negative spots, the box (its edge covers
            cells in part), whether there is a box, and the box again, fainter the larger it is: of
            a small object the box is nearly all that can be known.
        """
        cell = FRAME / side
        centres = (torch.arange(side, device=points_xy.device, dtype=points_xy.dtype) + 0.5) * cell
        away = (points_xy[..., None] - centres) / _SPOT  # (P, N, 2, side)
        spots = (-0.5 * away.square()).exp()
        x, y = spots[:, :, 0], spots[:, :, 1]
        clicks = []
        for label in (POSITIVE, NEGATIVE):
            kind = (labels == label).to(x.dtype)[..., None]
            clicks.append(((y * kind)[..., None] * x[:, :, None]).amax(1))  # (P, side, side)
        corners, given = [], []
        for label in (UPPER_LEFT, LOWER_RIGHT):
            kind = (labels == label).to(x.dtype)[..., None]
            corners.append((points_xy * kind).sum(1))  # (P, 2)
            given.append(kind.sum(1))
        low, high = corners[0][..., None], corners[1][..., None]
        inside = ((centres - low) / cell + 0.5).clamp(0, 1) * ((high - centres) / cell + 0.5).clamp(
            0, 1
        )  # (P, 2, side)
        boxed = (given[0] * given[1])[..., None]  # (P, 1, 1)
        box = inside[:, 1, :, None] * inside[:, 0, None, :] * boxed
        area = ((high - low)[:, 0] * (high - low)[:, 1]).clamp(min=0)[..., None]  # (P, 1, 1)
        faint = (-area.sqrt() / _SMALL).exp()
        return torch.stack((*clicks, box, torch.ones_like(box) * boxed, box * faint), dim=1)

    def forward(self, points_xy: Tensor, labels: Tensor, side: int) -> Tensor:
        """See `picture`; -> (P, dim, side, side)."""
        drawn = self.picture(points_xy, labels, side)
        return self.mix(drawn.to(next(self.mix.parameters()).dtype))  # type: ignore[no-any-return]
