"""What the tasks over labelled examples have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import torch.nn.functional as F
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.data.sample import Examples
from evit_cli.models.variants import Variant
from evit_cli.train.task import Loss
from evit_cli.types import ModelInfo

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Parts(TypedDict):
    """What a task is made of, beside the recipe and the model."""

    variant: Variant
    info: ModelInfo
    train_set: Examples
    val_set: Examples


class LabelledTask:
    """Data, model and description; the base of the tasks that `TrainTask` describes.

    Args:
        recipe: what to train.
        model: to be trained.
        variant: of the model.
        info: of the model, with its classes.
        train_set: what to learn from.
        val_set: what to measure on.
    """

    def __init__(self, recipe: Recipe, model: nn.Module, **parts: Unpack[Parts]) -> None:
        self.recipe = recipe
        self.network: nn.Module = model
        self.model = model
        self.variant, self.info = parts["variant"], parts["info"]
        self.train_set, self.val_set = parts["train_set"], parts["val_set"]
        self.count = len(self.train_set)

    def where(self, index: int) -> str:
        """The image file."""
        return self.train_set.where(index)

    def with_mesa(self, total: Tensor, weight: Tensor, outputs: Tensor, average: Tensor) -> Loss:
        """Add the loss towards the averaged model's probabilities (MESA, arXiv 2205.14083).

        Args:
            total: the loss towards the labels, a sum.
            weight: what it counts.
            outputs: logits.
            average: logits of the averaged model for the same images.
        """
        sharp = F.binary_cross_entropy_with_logits(outputs.float(), average.float().sigmoid())
        sharp = sharp * weight
        return Loss(total + self.recipe.train.mesa_ratio * sharp, weight, {"mesa": sharp})
