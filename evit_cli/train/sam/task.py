"""Promptable segmentation in the training loop: masks, prompts drawn from them, IoU by box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.config.recipe_sam import SamPart
from evit_cli.data.loader import Batch, Sample
from evit_cli.data.sampling import Request
from evit_cli.errors import EvitError
from evit_cli.models.classes import spread_colors
from evit_cli.models.sam.model import Sam
from evit_cli.models.variants import SamHeadSpec, Variant, get_variant
from evit_cli.train.distributed import Group
from evit_cli.train.pictures import prediction_grid
from evit_cli.train.sam.examples import SamExamples, open_set
from evit_cli.train.sam.network import PromptedLoss, SamNetwork
from evit_cli.train.sam.validate import BOX, blanked, embed, framed, mean_ious
from evit_cli.train.sam.validate import answers as answers_of
from evit_cli.train.start import seed_everything, start_model
from evit_cli.train.task import Loss, Score
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Preprocess, Progress, Task

_PICTURED, _DRAWN = 4, 8
"""Validation images in the picture, and objects in each."""


def sam_variant(recipe: Recipe) -> tuple[Variant, SamHeadSpec, SamPart]:
    """The variant, its head and the section of a sam recipe.

    Raises:
        EvitError: the variant is for another task.
    """
    variant = get_variant(recipe.model.variant)
    if not isinstance(variant.head, SamHeadSpec) or recipe.sam is None:
        raise EvitError(f"model.variant {variant.name} is not for sam")
    return variant, variant.head, recipe.sam


def first_model(
    recipe: Recipe, variant: Variant, *, offline: bool, progress: Progress | None
) -> Sam:
    """The model with its first weights."""
    seed_everything(recipe.train.seed)
    model = start_model(recipe.model, variant, offline=offline, progress=progress).model
    if not isinstance(model, Sam):
        raise ValueError(f"{variant.name} is built as {type(model).__name__}")
    return model


def sam_info(recipe: Recipe, side: int) -> ModelInfo:
    """What the trained weights will say about themselves."""
    preprocess = Preprocess(ImageSize(side, side), interpolation="linear")
    return ModelInfo(recipe.name, Task.SAM, preprocess, licence=recipe.licence)


class SamTask:
    """See `TrainTask`; the metric is the mean IoU of objects that are prompted with their boxes.

    Args:
        recipe: its `sam` section is used.
        offline: make no network request for weights.
        progress: told of downloads.

    Raises:
        EvitError: the data are laid out in another way, or weights are missing or do not fit.
    """

    metric = "box_iou"

    def __init__(
        self, recipe: Recipe, *, offline: bool = False, progress: Progress | None = None
    ) -> None:
        self.variant, head, self.part = sam_variant(recipe)
        if self.part.val is None or recipe.data.dir is None:
            raise ValueError("a sam task needs sets of masks and data")
        self.recipe = recipe
        sides = self.part.sides or (head.input_side,)
        self.side = max(sides)
        root = Path(recipe.data.dir).expanduser()
        self.train_set = SamExamples(self.part, root)
        self.val_set = open_set(self.part.val, root)
        sam = first_model(recipe, self.variant, offline=offline, progress=progress)
        network = SamNetwork(sam)
        self.model: nn.Module = sam
        self.network: nn.Module = network
        self.count = len(self.train_set)
        self.sizes: Sequence[ImageSize] = [ImageSize(side, side) for side in sides]
        self.info = sam_info(recipe, head.input_side)
        self._loss = PromptedLoss(network, self.part, self._autocast)

    def _autocast(self) -> torch.autocast:
        """What the loop runs the encoder in."""
        precision = self.recipe.train.precision
        dtype = torch.float16 if precision == "fp16" else torch.bfloat16
        device = next(self.model.parameters()).device.type
        return torch.autocast(device, dtype, enabled=precision != "fp32")

    def sample(self, request: Request) -> Sample:
        """Some masks of one image with their prompts; see `SamExamples`."""
        return self.train_set.sample(request)

    def where(self, index: int) -> str:
        """The image file."""
        return self.train_set.where(index)

    def change(
        self, images: Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, Batch]:
        """Padding becomes zero after the normalisation, as the published models have it."""
        return blanked(images, batch.tensors["content"]), batch

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The recipe's loss over all prompts of the batch, the embeddings given."""
        return self._loss(outputs, batch)

    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """Mean IoU in [0, 1] with boxes and after the recipe's numbers of clicks."""
        assert isinstance(model, Sam)
        found = mean_ious(
            model,
            self.info,
            self.val_set,
            side=self.side,
            clicks=self.part.val_clicks,
            group=group,
            progress=progress,
        )
        clicks = {f"click{name}_iou": round(v, 6) for name, v in found.items() if name != BOX}
        return Score({self.metric: round(found[BOX], 6), **clicks})

    def picture(self, model: nn.Module) -> npt.NDArray[np.uint8] | None:
        """Image, objects and what their boxes give, for a few validation images."""
        assert isinstance(model, Sam)
        count = len(self.val_set.examples)
        rows = []
        for index in range(0, count, max(1, count // _PICTURED))[:_PICTURED]:
            one = framed(self.val_set, index, self.side)
            one = one._replace(masks=one.masks[:_DRAWN])
            height, width = one.placement.content_hw
            found = np.zeros_like(one.masks)
            if len(one.masks):
                _, predicted = next(answers_of(model, embed(model, self.info, one), one.masks, ()))
                found = predicted.cpu().numpy()
            rows.append(
                (
                    one.image[:height, :width],
                    _numbered(one.masks)[:height, :width],
                    _numbered(found)[:height, :width].astype(np.uint8),
                )
            )
        colors = ((0, 0, 0), *spread_colors(_DRAWN))
        return prediction_grid(rows, ClassSet("objects", ("",) * len(colors), colors))


def _numbered(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.int16]:
    """(K, H, W) -> (H, W): the number of the mask from 1, smaller ones over larger ones."""
    numbers = np.zeros(masks.shape[1:], np.int16)
    for place in np.argsort(-masks.sum((1, 2))):
        numbers[masks[place]] = place + 1
    return numbers
