"""How well a model in training cuts out known objects: by their boxes, and by clicks.

As `evit eval` measures it (`evit_cli.inference.evaluate_sam`), but over the encoder's square in
place of the original pixels, and over the module itself: a run needs a figure of every evaluation,
not the last digit of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from evit_cli.data.masks import BoolMask, MixedSet, fits
from evit_cli.data.sample import ImageU8
from evit_cli.models.sam.model import Sam
from evit_cli.models.sam.prompts import ABSENT, FRAME, LOWER_RIGHT, UPPER_LEFT
from evit_cli.train.distributed import Group
from evit_cli.train.sam.placement import Placement, fitted
from evit_cli.train.sam.prompts import PromptBatch, box_of, next_clicks
from evit_cli.train.task import normalise
from evit_cli.types import ModelInfo, Progress

_TOGETHER = 32
_FIXED = 1_000_000
"""Sums over processes are of integers."""

BOX = "box"


class Framed(NamedTuple):
    """An image as the encoder sees it.

    Attributes:
        placement: where it lies in the square.
        image: (S, S, 3) uint8.
        masks: (K, S, S) of the objects that are measured.
    """

    placement: Placement
    image: ImageU8
    masks: npt.NDArray[np.bool_]


def framed(val: MixedSet, index: int, side: int) -> Framed:
    """One validation image, with the masks that the square shows anything of."""
    image, masks = val.examples.read(index)
    placement = fitted(image.shape[:2], side)
    placed: list[BoolMask] = [placement.mask(one) for one in masks if fits(one, val.area)]
    seen = [one for one in placed if one.any()]
    stacked = np.stack(seen) if seen else np.zeros((0, side, side), np.bool_)
    return Framed(placement, placement.image(image), stacked)


def blanked(images: Tensor, content: Tensor) -> Tensor:
    """Normalised images (B, 3, S, S) with zeros in the padding; `content` (B, 2) is its size."""
    steps = torch.arange(images.shape[-1], device=images.device)
    inside = steps < content[..., None]  # (B, 2, S)
    return images * (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]


@torch.no_grad()
def embed(model: Sam, info: ModelInfo, one: Framed) -> Tensor:
    """(1, C, 64, 64) of a framed image."""
    device = next(model.parameters()).device
    images = normalise(torch.from_numpy(one.image)[None].to(device), info)
    return model.encoder(  # type: ignore[no-any-return]
        blanked(images, torch.tensor([one.placement.content_hw], device=device))
    )


@torch.no_grad()
def best_masks(model: Sam, embedding: Tensor, prompts: PromptBatch, side: int) -> Tensor:
    """(P, side, side) bool: of each prompt's three masks, the one that the model thinks best."""
    points, labels = prompts.padded()
    masks, expected = model.decoder(embedding, points, labels)
    rows = torch.arange(len(masks), device=masks.device)
    chosen = masks[rows, expected[:, 1:].argmax(1) + 1].float()
    large = F.interpolate(chosen[:, None], size=side, mode="bilinear", align_corners=False)
    return large[:, 0] > 0


def box_prompts(masks: npt.NDArray[np.bool_], device: torch.device) -> PromptBatch:
    """The exact boxes of (P, S, S) masks."""
    scale = FRAME / masks.shape[-1]
    boxes = np.stack([box_of(mask) for mask in masks]).reshape(-1, 2, 2) * scale
    labels = torch.tensor([UPPER_LEFT, LOWER_RIGHT], device=device).float()
    count = len(masks)
    return PromptBatch(
        torch.from_numpy(boxes).to(device),
        labels.expand(count, -1),
        torch.full((count,), 2, device=device),
        torch.ones(count, dtype=torch.bool, device=device),
    )


def no_prompts(count: int, device: torch.device) -> PromptBatch:
    """Prompts without a point, to which clicks are added."""
    return PromptBatch(
        torch.zeros(count, 0, 2, device=device),
        torch.full((count, 0), float(ABSENT), device=device),
        torch.zeros(count, dtype=torch.int64, device=device),
        torch.zeros(count, dtype=torch.bool, device=device),
    )


def answers(
    model: Sam, embedding: Tensor, masks: npt.NDArray[np.bool_], clicks: Sequence[int]
) -> Iterator[tuple[str, Tensor]]:
    """Predictions (P, S, S) for (P, S, S) masks: by box, then after each number of clicks.

    A click is put in the middle of the largest wrong region.
    """
    device, side = embedding.device, masks.shape[-1]
    yield BOX, best_masks(model, embedding, box_prompts(masks, device), side)
    truth = torch.from_numpy(masks).to(device)
    prompts, found = no_prompts(len(masks), device), torch.zeros_like(truth)
    for number in range(1, max(clicks, default=0) + 1):
        prompts = prompts.add(*next_clicks(found, truth, how="centre"))
        found = best_masks(model, embedding, prompts, side)
        if number in clicks:
            yield str(number), found


def mean_ious(
    model: Sam,
    info: ModelInfo,
    val: MixedSet,
    *,
    side: int,
    clicks: Sequence[int],
    group: Group,
    progress: Progress,
) -> Mapping[str, float]:
    """Mean IoU over all objects, by "box" and by number of clicks; NaN without an object."""
    names = [BOX, *(str(number) for number in sorted(set(clicks)))]
    sums = dict.fromkeys(names, 0.0)
    objects = 0
    mine = group.share(range(len(val.examples)))
    progress.start(len(mine), "image")
    try:
        for index in mine:
            one = framed(val, index, side)
            if len(one.masks):
                embedding = embed(model, info, one)
                for start in range(0, len(one.masks), _TOGETHER):
                    some = one.masks[start : start + _TOGETHER]
                    for name, found in answers(model, embedding, some, clicks):
                        sums[name] += float(ious(found.cpu().numpy(), some).sum())
                objects += len(one.masks)
            progress.advance(1)
    finally:
        progress.close()
    whole = np.array([*(round(sums[name] * _FIXED) for name in names), objects], np.int64)
    *totals, count = group.total(whole).tolist()
    return {
        name: total / _FIXED / count if count else float("nan")
        for name, total in zip(names, totals, strict=True)
    }


def ious(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """(P,) of (P, S, S) masks; the truth is not empty."""
    both = np.count_nonzero(found & truth, axis=(1, 2))
    either = np.count_nonzero(found | truth, axis=(1, 2))
    return np.asarray(both / either, np.float64)
