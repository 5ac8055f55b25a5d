"""Losses of masks, taken at points that matter (PointRend, arXiv 1912.08193, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PointRule:
    """Where the loss is taken.

    Attributes:
        count: points per mask.
        oversample: so many times the points are drawn, and the doubtful ones kept.
        doubtful: share of the points that are chosen for doubt; the rest is random.
    """

    count: int = 112 * 112
    oversample: int = 3
    doubtful: float = 0.75


def sample_map(values: Tensor, places: Tensor) -> Tensor:
    """Bilinear values of (P, h, w) maps at (P, N, 2) places, x and y as shares: (P, N)."""
    grid = 2 * places[:, None] - 1
    found = F.grid_sample(
        values[:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return found[:, 0, 0]


@torch.no_grad()
def choose_places(logits: Tensor, extent: Tensor, rule: PointRule) -> Tensor:
    """Random places, most of them where the logit is near zero.

    Args:
        logits: (P, h, w).
        extent: (P, 2) the width and height that hold the image, as shares; padding is left out.
        rule: how many.

    Returns:
        (P, N, 2) x and y as shares of the map.
    """
    prompts = len(logits)
    many = rule.count * rule.oversample
    drawn = torch.rand(prompts, many, 2, device=logits.device) * extent[:, None]
    doubt = -sample_map(logits.float(), drawn).abs()
    kept = int(rule.doubtful * rule.count)
    best = doubt.topk(kept, dim=1, sorted=False).indices
    doubtful = drawn.gather(1, best[..., None].expand(-1, -1, 2))
    spare = torch.rand(prompts, rule.count - kept, 2, device=logits.device) * extent[:, None]
    return torch.cat((doubtful, spare), 1)


def mask_losses(
    logits: Tensor, masks: Tensor, extent: Tensor, *, rule: PointRule, focal: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Cross-entropy and Dice loss of each mask, at points.

    Args:
        logits: (P, h, w).
        masks: (P, H, W) float 0 or 1, the truth over the same extent.
        extent: see `choose_places`.
        rule: where.
        focal: exponent of the focal loss (arXiv 1708.02002); 0 is plain cross-entropy.

    Returns:
        (P,) and (P,); the Dice loss is 1 - (2 |a b| + 1) / (|a| + |b| + 1).
    """
    places = choose_places(logits.detach(), extent, rule)
    found = sample_map(logits.float(), places)
    truth = sample_map(masks, places)
    return point_losses(found, truth, focal=focal)


def point_losses(found: Tensor, truth: Tensor, *, focal: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy (focal if asked for) and Dice of (P, N) logits and shares: (P,) and (P,)."""
    entropy = F.binary_cross_entropy_with_logits(found, truth, reduction="none")
    p = found.sigmoid()
    if focal:
        missed = p * (1 - truth) + (1 - p) * truth
        entropy = entropy * missed**focal
    dice = 1 - (2 * (p * truth).sum(1) + 1) / (p.sum(1) + truth.sum(1) + 1)
    return entropy.mean(1), dice


@torch.no_grad()
def mask_iou(logits: Tensor, masks: Tensor) -> Tensor:
    """IoU of (P, T, h, w) logits above 0 with (P, h, w) bool masks: (P, T); 0 where both are empty.

    >>> mask_iou(torch.ones(1, 1, 2, 2), torch.tensor([[[True, True], [False, False]]]))
    tensor([[0.5000]])
    """
    found = logits > 0
    both = (found & masks[:, None]).flatten(2).sum(2)
    either = (found | masks[:, None]).flatten(2).sum(2)
    return both.float() / either.clamp(min=1)


def shrunk_masks(masks: Tensor, side: int) -> Tensor:
    """(P, S, S) float 0 or 1 -> (P, side, side) bool: pixels of which at least half are covered."""
    return F.adaptive_avg_pool2d(masks[:, None], side)[:, 0] >= 0.5
