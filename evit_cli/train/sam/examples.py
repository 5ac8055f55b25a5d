"""Training examples of promptable segmentation: a square image, some masks, and first prompts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evit_cli.config.recipe_sam import MaskSetPart, SamPart
from evit_cli.data.color import jitter
from evit_cli.data.loader import Sample
from evit_cli.data.mask_sets import open_masks
from evit_cli.data.masks import BoolMask, MaskMixture, Masks, MixedSet, fits
from evit_cli.data.sampling import Request
from evit_cli.models.sam.prompts import ABSENT
from evit_cli.train.sam.placement import Placement, random_placement
from evit_cli.train.sam.prompts import PromptRule, draw_kind, first_prompt

LEAST_PIXELS = 16
"""A mask with fewer pixels in the square is not learnt."""
_LEAST_POINTS = 2


def open_set(part: MaskSetPart, root: Path) -> MixedSet:
    """One set of a recipe, below the folder of the data.

    Raises:
        EvitError: the folder is laid out in another way.
    """
    images = None if part.images is None else root / part.images
    examples = open_masks(part.kind, root / part.folder, images=images, part=part.part)
    return MixedSet(examples, part.weight, part.area)


class SamExamples:
    """Examples by the rules of a recipe.

    Args:
        part: the recipe's section.
        root: folder of the data.

    Raises:
        EvitError: a set is laid out in another way.
    """

    def __init__(self, part: SamPart, root: Path) -> None:
        self.part = part
        self.images = MaskMixture([open_set(one, root) for one in part.sets])
        self.rule = PromptRule(part.boxes, part.box_noise, part.most_points, part.negatives)

    def __len__(self) -> int:
        return len(self.images)

    def where(self, index: int) -> str:
        """The image file."""
        return self.images.where(index)

    def sample(self, request: Request) -> Sample:
        """One example, K masks of one image.

        Returns:
            "image" (S, S, 3) uint8; "content" (2,) its height and width without padding; "masks"
            (K, S, S / 8) bits; "points" (K, N, 2), "labels" (K, N), "counts" (K,) and "boxed" (K,)
            of the first prompts; "single", whether the single token learns; "valid", 0 where the
            image has no mask that can be learnt.
        """
        rng = request.rng()
        image, masks = self.images.read(request.index)
        side = request.size_hw.height
        placement = random_placement(
            image.shape[:2], side, rng, scale=self.part.scale, flip=self.part.flip
        )
        color = self.part.color.model_dump()
        if any(color.values()):
            image = jitter(image, rng, **color)
        count = self.part.masks_per_image
        chosen = choose_masks(masks, placement, self.images.area(request.index), count, rng)
        share = self.part.multimask
        return {
            "image": placement.image(image),
            "content": np.array(placement.content_hw, np.int64),
            "masks": np.packbits(np.stack(_repeated(chosen, count, side)), axis=-1),
            **self._prompts(chosen, rng),
            "single": np.bool_(share != "both" and rng.random() >= share),
            "valid": np.float32(bool(chosen)),
        }

    def _prompts(
        self, chosen: Sequence[BoolMask], rng: np.random.Generator
    ) -> dict[str, npt.NDArray[np.generic]]:
        """One prompt per mask; a mask that is there twice gets two."""
        count = self.part.masks_per_image
        kind = draw_kind(self.rule, rng)
        room = max(_LEAST_POINTS, self.rule.most_points)
        points = np.zeros((count, room, 2), np.float32)
        labels = np.full((count, room), ABSENT, np.float32)
        used = _LEAST_POINTS if kind.box else kind.points
        for place in range(count if chosen else 0):
            mask = chosen[place % len(chosen)]
            points[place, :used], labels[place, :used] = first_prompt(mask, kind, self.rule, rng)
        counts, boxed = np.full(count, used, np.int64), np.full(count, kind.box)
        return {"points": points, "labels": labels, "counts": counts, "boxed": boxed}


def choose_masks(
    masks: Masks,
    placement: Placement,
    area: tuple[float, float],
    count: int,
    rng: np.random.Generator,
) -> list[BoolMask]:
    """Up to `count` masks in random order, as they lie in the square.

    Masks outside the limits of `area`, and those of which the square shows next to nothing, are
    passed over.
    """
    chosen: list[BoolMask] = []
    for place in rng.permutation(len(masks)):
        if len(chosen) == count:
            break
        mask = masks[int(place)]
        if fits(mask, area):
            placed = placement.mask(mask)
            if np.count_nonzero(placed) >= LEAST_PIXELS:
                chosen.append(placed)
    return chosen


def _repeated(chosen: Sequence[BoolMask], count: int, side: int) -> list[BoolMask]:
    """`count` masks: again from the first, or empty ones."""
    if not chosen:
        return [np.zeros((side, side), np.bool_)] * count
    return [chosen[i % len(chosen)] for i in range(count)]


def unpacked(bits: Tensor) -> Tensor:
    """(..., S / 8) uint8 of `np.packbits` -> (..., S) bool."""
    shifts = torch.arange(7, -1, -1, device=bits.device, dtype=torch.uint8)
    ones = torch.bitwise_right_shift(bits[..., None], shifts) & 1
    return ones.flatten(-2).bool()
