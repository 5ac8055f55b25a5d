"""The model in training: an embedding per image, rounds of prompts on it, their loss."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.config.recipe_sam import SamPart
from evit_cli.data.loader import Batch
from evit_cli.models.sam.model import Sam
from evit_cli.train.sam.examples import unpacked
from evit_cli.train.sam.losses import PointRule, mask_iou, mask_losses, shrunk_masks
from evit_cli.train.sam.prompts import PromptBatch, next_clicks
from evit_cli.train.task import Loss

TOKENS = 4


class SamNetwork(nn.Module):
    """What is trained: called with images it gives embeddings, its decoder is used by the loss.

    Args:
        sam: the model; from here on its decoder takes absent points, so that prompts of different
            lengths share a batch.
    """

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam
        sam.decoder.takes_absent = True

    def forward(self, images: Tensor) -> Tensor:
        """Normalised RGB (B, 3, S, S), zero in the padding -> (B, C, 64, 64)."""
        return self.sam.encoder(images)  # type: ignore[no-any-return]

    def touch(self) -> Tensor:
        """Zero, but of every weight of the decoder.

        A batch without a box does not use the corners' embeddings. Processes that share a run wait
        for a gradient of every weight.
        """
        return torch.stack([p.sum() for p in self.sam.decoder.parameters()]).sum() * 0


class Targets(NamedTuple):
    """What a batch shall become; P is all masks of all its images.

    Attributes:
        masks: (P, S, S) float 0 or 1.
        owners: (P,) index of the image.
        extent: (P, 2) width and height of the image, as shares of the square.
        single: (P,) bool, the single token learns.
        triple: (P,) bool, the best of the other three learns.
        weight: (P,) 1, or 0 where there was no mask.
    """

    masks: Tensor
    owners: Tensor
    extent: Tensor
    single: Tensor
    triple: Tensor
    weight: Tensor


class Answer(NamedTuple):
    """One round's losses, (P,) each, and (P, 256, 256) logits of the best mask of each prompt."""

    bce: Tensor
    dice: Tensor
    iou_error: Tensor
    iou: Tensor
    logits: Tensor


def targets_of(batch: Batch, *, both: bool) -> Targets:
    """The masks of a batch of `SamExamples`; `both` lets all tokens learn."""
    tensors = batch.tensors
    masks = unpacked(tensors["masks"])
    images, count, side = masks.shape[:3]
    owners = torch.arange(images, device=masks.device).repeat_interleave(count)
    floats = masks.flatten(0, 1).float()
    single = tensors["single"].repeat_interleave(count)
    content = tensors["content"].flip(1).float() / side
    return Targets(
        floats,
        owners,
        content[owners],
        torch.ones_like(single) if both else single,
        torch.ones_like(single) if both else ~single,
        tensors["valid"].repeat_interleave(count),
    )


class PromptedLoss:
    """The loss of some rounds of prompts.

    Args:
        network: its decoder answers.
        part: the recipe's section.
        autocast: makes the context that the decoder runs in.
    """

    def __init__(self, network: SamNetwork, part: SamPart, autocast: Any = nullcontext) -> None:
        self.network, self.part = network, part
        self.autocast = autocast
        self.rule = PointRule(part.points, part.oversample, part.doubtful)

    def __call__(self, embeddings: Tensor, batch: Batch) -> Loss:
        """The loss of embeddings (B, C, 64, 64) and their batch, the mean over the rounds."""
        part = self.part
        targets = targets_of(batch, both=part.multimask == "both")
        flat = {name: batch.tensors[name].flatten(0, 1) for name in ("points", "labels")}
        counts, boxed = (batch.tensors[name].flatten() for name in ("counts", "boxed"))
        prompts = PromptBatch(flat["points"], flat["labels"], counts, boxed)
        images = embeddings.float()[targets.owners]
        answers: list[Answer] = []
        for round_ in range(part.rounds):
            shown = None
            if round_:
                prompts, shown = self._corrected(prompts, answers[-1].logits, targets)
            answers.append(self._answer(images, prompts, targets, shown))
        return self._sum(answers, targets.weight)

    def _answer(
        self, images: Tensor, prompts: PromptBatch, targets: Targets, shown: Tensor | None
    ) -> Answer:
        points, labels = prompts.padded()
        given = None if shown is None else shown.flatten(1).any(1).float()
        with self._context():
            masks, expected = self.network.sam.decoder(
                images, points, labels, None if shown is None else shown[:, None], given
            )
        masks, expected = masks.float(), expected.float()
        entropy, dice = self._by_token(masks, targets)
        chosen = _choose(self.part.bce * entropy + self.part.dice * dice, targets)
        rows = torch.arange(len(masks), device=masks.device)
        true = mask_iou(masks, shrunk_masks(targets.masks, masks.shape[-1]))
        return Answer(
            bce=(entropy.gather(1, chosen.tokens) * chosen.shares).sum(1),
            dice=(dice.gather(1, chosen.tokens) * chosen.shares).sum(1),
            iou_error=(expected - true).square().mean(1),
            iou=true[rows, chosen.best].detach(),
            logits=masks[rows, chosen.best].detach(),
        )

    def _by_token(self, masks: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice of every token that learns, (P, 4); infinite for the others."""
        columns: list[tuple[Tensor, Tensor]] = []
        for token in range(TOKENS):
            rows = (targets.single if token == 0 else targets.triple).nonzero()[:, 0]
            empty = masks.new_full((len(masks),), torch.inf)
            pair = empty, empty
            if len(rows):
                found = mask_losses(
                    masks[rows, token],
                    targets.masks[rows],
                    targets.extent[rows],
                    rule=self.rule,
                    focal=self.part.focal,
                )
                pair = empty.index_copy(0, rows, found[0]), empty.index_copy(0, rows, found[1])
            columns.append(pair)
        entropy, dice = (torch.stack(side, 1) for side in zip(*columns, strict=True))
        return entropy, dice

    def _corrected(
        self, prompts: PromptBatch, logits: Tensor, targets: Targets
    ) -> tuple[PromptBatch, Tensor | None]:
        """One more click each, and masks to start from, zero where there is none."""
        side = targets.masks.shape[-1]
        large = F.interpolate(logits[:, None], size=side, mode="bilinear", align_corners=False)
        clicks = next_clicks(large[:, 0] > 0, targets.masks > 0, how=self.part.clicks)
        if not self.part.mask_prompts:
            return prompts.add(*clicks), None
        given = torch.rand(len(logits), device=logits.device) < self.part.mask_prompts
        return prompts.add(*clicks), logits * given[:, None, None]

    def _sum(self, answers: list[Answer], weight: Tensor) -> Loss:
        part, rounds, count = self.part, len(answers), len(weight)

        def summed(name: str) -> Tensor:
            values = [getattr(answer, name) for answer in answers]
            return (torch.stack(values).mean(0) * weight).sum() / count

        parts = {name: summed(name) for name in ("bce", "dice", "iou_error", "iou")}
        total = part.bce * parts["bce"] + part.dice * parts["dice"] + self.network.touch()
        if part.iou:
            total = total + part.iou * parts["iou_error"]
        if rounds > 1:
            parts["iou_first"] = (answers[0].iou * weight).sum() / count
        return Loss(total, weight.sum() / count, parts)

    def _context(self) -> AbstractContextManager[Any]:
        return self.autocast()  # type: ignore[no-any-return]


class _Chosen(NamedTuple):
    """(P, 2) the single token and the best of the three, (P, 2) their shares, (P,) the best one."""

    tokens: Tensor
    shares: Tensor
    best: Tensor


def _choose(losses: Tensor, targets: Targets) -> _Chosen:
    """The tokens that learn: losses (P, 4) are infinite where one does not.

    A token that does not learn is replaced by one that does, with share zero: infinity times zero
    is not a number.
    """
    losses = losses.detach()
    best_three = losses[:, 1:].argmin(1) + 1
    first = torch.where(targets.single, 0, best_three)
    second = torch.where(targets.triple, best_three, 0)
    shares = torch.stack((targets.single, targets.triple), 1).float()
    return _Chosen(
        torch.stack((first, second), 1), shares / shares.sum(1, keepdim=True), losses.argmin(1)
    )
