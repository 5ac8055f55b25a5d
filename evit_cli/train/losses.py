"""Losses as sums with the weight of what they count, so that they add up over micro-batches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from evit_cli.data.sample import IGNORE

Sums = tuple[Tensor, Tensor]
"""(sum, weight), both 0-d and divided by the same constant."""


def pixel_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    class_weights: Tensor | None = None,
    label_smoothing: float = 0.0,
    hard_below: float | None = None,
    hard_min_share: float = 0.1,
) -> Sums:
    """Cross-entropy over the labelled pixels, at the labels' resolution.

    Args:
        logits: (B, classes, h, w); resized bilinearly to the labels.
        labels: (B, H, W) integer, `IGNORE` where nothing is known.
        class_weights: (classes,) or None for ones.
        label_smoothing: share of the target that is spread over all classes.
        hard_below: online hard example mining (arXiv 1604.03540): only pixels whose true class has
            a lower probability count.
        hard_min_share: but at least this share of the labelled pixels, the hardest.
    """
    labels = labels.long()
    logits = logits.float()
    if logits.shape[-2:] != labels.shape[-2:]:
        logits = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=False)
    losses = F.cross_entropy(
        logits,
        labels,
        weight=class_weights,
        ignore_index=IGNORE,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    counts = (labels != IGNORE).to(losses.dtype)
    if class_weights is not None:
        counts = counts * class_weights[labels.clamp(min=0)]
    if hard_below is not None:
        counts = counts * _hard(logits.detach(), labels, hard_below, hard_min_share)
        losses = losses * (counts > 0)
    return losses.sum() / labels.numel(), counts.sum() / labels.numel()


def _hard(logits: Tensor, labels: Tensor, below: float, min_share: float) -> Tensor:
    """(B, H, W) 1 for the pixels that count."""
    known = labels != IGNORE
    probability = logits.softmax(1).gather(1, labels.clamp(min=0).unsqueeze(1)).squeeze(1)
    values = probability[known]
    if values.numel() == 0:
        return known.to(logits.dtype)
    at_least = max(1, int(min_share * values.numel()))
    limit = max(below, float(values.kthvalue(at_least).values))
    return (known & (probability <= limit)).to(logits.dtype)


_CHARBONNIER = 1e-3
"""The difference in RGB of 0..1 at which the Charbonnier loss is rounded off."""


def pixel_distance(found: Tensor, truth: Tensor, *, kind: str) -> Sums:
    """Mean distance of two images (B, 3, H, W).

    Args:
        found: the result.
        truth: of the same shape.
        kind: "l1", or "charbonnier": sqrt(d^2 + 0.001^2), which has a gradient at zero.
    """
    distance = found.float() - truth
    if kind == "charbonnier":
        each = (distance.square() + _CHARBONNIER**2).sqrt()
    else:
        each = distance.abs()
    return each.mean(), each.new_ones(())


def class_loss(logits: Tensor, targets: Tensor, *, kind: str) -> Sums:
    """Classification loss over soft targets.

    Args:
        logits: (B, classes).
        targets: (B, classes): labels after smoothing, mixup or cutmix. A row sums to 1, to 0 for an
            example without a label, or to what mixing made of both.
        kind: "bce", the mean over classes of binary cross-entropies (as published for ImageNet),
            or "ce".
    """
    logits = logits.float()
    if kind == "bce":
        each = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    else:
        each = -(targets * logits.log_softmax(1)).sum(1)
    known = targets.sum(1)
    if kind == "bce":
        each = each * known
    return each.mean(), known.mean()


def soft_targets(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """(B,) class indices -> (B, classes) with `smoothing` of the mass spread over all classes.

    Rows of `IGNORE` are 0.
    """
    hot = F.one_hot(labels.long().clamp(min=0), classes).float()
    known = (labels != IGNORE).unsqueeze(1)
    return (hot * (1 - smoothing) + smoothing / classes) * known


def divergence(student: Tensor, teacher: Tensor, *, temperature: float, weight: Tensor) -> Sums:
    """T^2 KL(teacher || student) of softened class probabilities (arXiv 1503.02531).

    Args:
        student: logits (B, classes, ...).
        teacher: logits of the same shape.
        temperature: divides both.
        weight: (B, ...) share of each position that counts.
    """
    log_p = (student.float() / temperature).log_softmax(1)
    log_q = (teacher.float() / temperature).log_softmax(1)
    each = (log_q.exp() * (log_q - log_p)).sum(1) * temperature**2
    return (each * weight).sum() / each.numel(), weight.sum() / each.numel()


def feature_distance(student: Tensor, teacher: Tensor, *, weight: Tensor) -> Sums:
    """Mean squared distance after each of the teacher's channels got mean 0 and deviation 1.

    Args:
        student: (B, C, h, w), projected to the teacher's channels.
        teacher: (B, C, h, w).
        weight: (B, h, w) share of each position that counts.
    """
    teacher = teacher.float()
    w = weight.unsqueeze(1)
    total = w.sum().clamp(min=1e-6)
    mean = (teacher * w).sum((0, 2, 3), keepdim=True) / total
    var = ((teacher - mean).square() * w).sum((0, 2, 3), keepdim=True) / total
    standard = (teacher - mean) * torch.rsqrt(var + 1e-6)
    each = (student.float() - standard).square().mean(1)
    return (each * weight).sum() / each.numel(), weight.sum() / each.numel()
