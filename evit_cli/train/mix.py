"""Mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899) of a batch with itself, reversed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """A mixed batch.

    Attributes:
        images: (B, 3, H, W).
        own: share of each example's own image in the result, in [0, 1]; the rest is that of the
            example at the same place from the end.
    """

    images: Tensor
    own: float

    def targets(self, targets: Tensor) -> Tensor:
        """(B, classes) probabilities, mixed as the images were."""
        if self.own == 1:
            return targets
        return targets * self.own + targets.flip(0) * (1 - self.own)


def mix_batch(images: Tensor, rng: np.random.Generator, *, mixup: float, cutmix: float) -> Mix:
    """Mix each image with another of its batch; with both alphas, one method is drawn.

    Args:
        images: (B, 3, H, W).
        rng: of the method, the share and the place.
        mixup: alpha of the Beta distribution of the share; 0 for none.
        cutmix: the same for a rectangle that is taken over.
    """
    methods = [(name, alpha) for name, alpha in (("mixup", mixup), ("cutmix", cutmix)) if alpha > 0]
    if not methods or len(images) < 2:
        return Mix(images, 1.0)
    name, alpha = methods[int(rng.integers(len(methods)))]
    own = float(rng.beta(alpha, alpha))
    if name == "mixup":
        return Mix(images * own + images.flip(0) * (1 - own), own)
    height, width = images.shape[-2:]
    cut_h, cut_w = (round(side * math.sqrt(1 - own)) for side in (height, width))
    y, x = int(rng.integers(height)), int(rng.integers(width))
    top, bottom = max(0, y - cut_h // 2), min(height, y + cut_h - cut_h // 2)
    left, right = max(0, x - cut_w // 2), min(width, x + cut_w - cut_w // 2)
    mixed = images.clone()
    mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
    return Mix(mixed, 1 - (bottom - top) * (right - left) / (height * width))
