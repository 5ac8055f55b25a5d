"""Prompts drawn from masks: the first ones, and clicks that mend what a prediction got wrong.

Places are in the prompts' frame of 1024 pixels, where the decoder adds half a pixel: the centre of
pixel i of a square of `side` pixels is at (i + 0.5) 1024 / side - 0.5. Corners of boxes lie on the
outer edges of pixels, at i 1024 / side, as in COCO's boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evit_cli.data.masks import BoolMask
from evit_cli.models.sam.prompts import (
    ABSENT,
    FRAME,
    LOWER_RIGHT,
    NEGATIVE,
    PADDING,
    POSITIVE,
    UPPER_LEFT,
)

MOST_POINTS = 10
_NEAR = 0.5
"""Negative points lie in the box made larger by this share of its sides, on each side."""
_MOST_NOISE = 20.0
"""Pixels of the frame that a corner moves at most (arXiv 2304.02643, appendix A)."""

Points = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Places (N, 2) as x, y, and labels (N,)."""


@dataclass(frozen=True)
class PromptRule:
    """How first prompts are drawn; the fields are those of a recipe's `sam` section."""

    boxes: float = 0.5
    box_noise: float = 0.1
    most_points: int = MOST_POINTS
    negatives: float = 0.0


@dataclass(frozen=True)
class PromptKind:
    """What all masks of one image are prompted with.

    Attributes:
        box: with a box, else with points.
        points: how many of them.
    """

    box: bool
    points: int = 0


def draw_kind(rule: PromptRule, rng: np.random.Generator) -> PromptKind:
    """A box, or a number of points."""
    if rng.random() < rule.boxes:
        return PromptKind(True)
    return PromptKind(False, int(rng.integers(1, rule.most_points + 1)))


def box_of(mask: BoolMask) -> npt.NDArray[np.float32]:
    """(4,) x0, y0, x1, y1 around a mask that is not empty: outer edges, in its pixels."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corners = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return np.array(corners, np.float32)


def noisy_box(
    box_xyxy: npt.NDArray[np.float32], share: float, *, most: float, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """The box with its corners moved: deviation `share` of its sides, never more than `most`.

    The corners stay in order.
    """
    sides = np.tile(box_xyxy[2:] - box_xyxy[:2], 2)
    moved = box_xyxy + np.clip(rng.standard_normal(4) * share * sides, -most, most)
    ordered = np.concatenate((np.minimum(moved[:2], moved[2:]), np.maximum(moved[:2], moved[2:])))
    return ordered.astype(np.float32)


def centres(pixels_xy: npt.NDArray[np.integer], side: int) -> npt.NDArray[np.float32]:
    """Centres of pixels of the square, in the frame."""
    return ((pixels_xy + 0.5) * (FRAME / side) - 0.5).astype(np.float32)


def draw_points(
    mask: BoolMask, kind: PromptKind, rule: PromptRule, rng: np.random.Generator
) -> Points:
    """Pixels of a mask that is not empty, with repeats; each but the first may be a negative one.

    Negative points lie outside the mask and near it. Where nothing is outside, all are positive.
    """
    inside = _pixels(mask)
    near = _pixels(_surroundings(mask)) if rule.negatives else inside[:0]
    chosen = inside[rng.integers(len(inside), size=kind.points)]
    labels = np.full(kind.points, POSITIVE, np.float32)
    wrong = rng.random(kind.points) < rule.negatives
    wrong[0] = False
    if wrong.any() and len(near):
        chosen[wrong] = near[rng.integers(len(near), size=int(wrong.sum()))]
        labels[wrong] = NEGATIVE
    return centres(chosen, mask.shape[1]), labels


def first_prompt(
    mask: BoolMask, kind: PromptKind, rule: PromptRule, rng: np.random.Generator
) -> Points:
    """The box or the points of one mask that is not empty; see the module for the coordinates."""
    if not kind.box:
        return draw_points(mask, kind, rule, rng)
    box = box_of(mask) * (FRAME / mask.shape[1])
    if rule.box_noise:
        box = noisy_box(box, rule.box_noise, most=_MOST_NOISE, rng=rng)
    return box.reshape(2, 2), np.array([UPPER_LEFT, LOWER_RIGHT], np.float32)


def _pixels(mask: BoolMask) -> npt.NDArray[np.int64]:
    """(N, 2) x, y of the True pixels."""
    return np.argwhere(mask)[:, ::-1]


def _surroundings(mask: BoolMask) -> BoolMask:
    """The pixels of the enlarged box that do not belong to the mask."""
    x0, y0, x1, y1 = box_of(mask)
    dx, dy = _NEAR * (x1 - x0), _NEAR * (y1 - y0)
    rows = slice(max(0, int(y0 - dy)), int(np.ceil(y1 + dy)))
    columns = slice(max(0, int(x0 - dx)), int(np.ceil(x1 + dx)))
    near = np.zeros_like(mask)
    near[rows, columns] = ~mask[rows, columns]
    return near


@dataclass
class PromptBatch:
    """Prompts of a batch, on the device; clicks are added to it.

    Attributes:
        points_xy: (P, N, 2) places in the frame.
        labels: (P, N), `ABSENT` where there is no point.
        counts: (P,) points and corners that each prompt has; they come first.
        boxed: (P,) whether a prompt has a box.
    """

    points_xy: Tensor
    labels: Tensor
    counts: Tensor
    boxed: Tensor

    def add(self, places_xy: Tensor, labels: Tensor) -> PromptBatch:
        """With one more point each: (P, 2) and (P,)."""
        column = self.points_xy.new_zeros(len(self.counts), 1, 2)
        points = torch.cat((self.points_xy, column), 1)
        marks = torch.cat((self.labels, self.labels.new_full((len(self.counts), 1), ABSENT)), 1)
        rows = torch.arange(len(self.counts), device=points.device)
        points[rows, self.counts] = places_xy.to(points.dtype)
        marks[rows, self.counts] = labels.to(marks.dtype)
        return PromptBatch(points, marks, self.counts + 1, self.boxed)

    def padded(self) -> tuple[Tensor, Tensor]:
        """Points and labels as the decoder takes them: without a box, a padding point follows."""
        places = torch.zeros_like(self.points_xy[:, 0])
        added = self.add(places, torch.where(self.boxed, ABSENT, PADDING))
        widest = int((self.counts + ~self.boxed).max())
        return added.points_xy[:, :widest], added.labels[:, :widest]


def next_clicks(
    found: Tensor, masks: Tensor, *, how: Literal["random", "centre"]
) -> tuple[Tensor, Tensor]:
    """One click per prompt where the prediction is wrong.

    It is positive where the mask was missed, and negative where too much was taken. Where nothing
    is wrong, it is a positive one inside the mask.

    Args:
        found: (P, side, side) bool predictions.
        masks: (P, side, side) bool truths.
        how: "random" takes any wrong pixel, all alike; "centre" the one that is deepest inside a
            region of missed, or of superfluous, pixels.

    Returns:
        Places (P, 2) in the frame and labels (P,), 1 or 0, float32.
    """
    wrong = found ^ masks
    wrong = torch.where(wrong.any(2).any(1)[:, None, None], wrong, masks)
    places = _any_pixel(wrong) if how == "random" else _deepest(wrong & masks, wrong & ~masks)
    side = masks.shape[-1]
    labels = masks.flatten(1).gather(1, places[:, None])[:, 0].float()
    x, y = places % side, places // side
    return (torch.stack((x, y), 1) + 0.5) * (FRAME / side) - 0.5, labels


def _any_pixel(candidates: Tensor) -> Tensor:
    """(P,) flat index of one True pixel of each (P, side, side), evenly; 0 where there is none."""
    sums = candidates.flatten(1).cumsum(1, dtype=torch.int32)
    counts = sums[:, -1:]
    rank = (torch.rand(counts.shape, device=counts.device) * counts).int()
    rank = rank.minimum(counts - 1) + 1
    return torch.searchsorted(sums, rank)[:, 0].clamp(max=sums.shape[1] - 1)


def _deepest(missed: Tensor, superfluous: Tensor) -> Tensor:
    """(P,) flat index of the pixel that is farthest from the border of its region."""
    pairs = zip(missed.cpu().numpy(), superfluous.cpu().numpy(), strict=True)
    places = []
    for pair in pairs:
        depths = np.stack([_depth(region) for region in pair])
        places.append(int(depths.max(0).argmax()))
    return torch.tensor(places, device=missed.device)


def _depth(region: BoolMask) -> npt.NDArray[np.float32]:
    """(H, W) distance of each pixel to the outside; beyond the picture is outside."""
    bordered = np.pad(region.astype(np.uint8), 1)
    depth = cv2.distanceTransform(bordered, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(depth[1:-1, 1:-1], np.float32)
