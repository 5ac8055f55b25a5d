"""Classification in the training loop: random crops, mixup and cutmix, soft targets, top-1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.config.recipe_parts import ClassifyPart
from evit_cli.data.augment_classify import AugmentOptions, augment
from evit_cli.data.loader import Batch, Sample
from evit_cli.data.sampling import Request
from evit_cli.errors import EvitError
from evit_cli.inference.classifier import ImageClassifier
from evit_cli.inference.evaluate import evaluate_classification
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.train.distributed import Group
from evit_cli.train.labelled import LabelledTask, Parts
from evit_cli.train.losses import class_loss, soft_targets
from evit_cli.train.mix import mix_batch
from evit_cli.train.task import Loss, Score
from evit_cli.types import ImageSize, Progress

_SMALLEST = 1e-30
"""Of a teacher's probabilities: the logarithm of 0 would make the loss NaN."""

if TYPE_CHECKING:
    from typing_extensions import Unpack


def augment_options(part: ClassifyPart) -> AugmentOptions:
    """The random changes that a recipe asks for."""
    return AugmentOptions(
        area=part.area,
        aspect=part.aspect,
        flip=part.flip,
        rand_augment=part.rand_augment,
        erase=part.erase,
        **part.color.model_dump(),
    )


class ClassifyTask(LabelledTask):
    """See `TrainTask`; the metric is the top-1 accuracy by the published single-crop protocol.

    Args:
        recipe: its `classify` section is used.
        model: to be trained.
        variant: of the model.
        info: of the model, with its classes.
        train_set: what to learn from.
        val_set: what to measure on.
    """

    metric = "top1"

    def __init__(self, recipe: Recipe, model: nn.Module, **parts: Unpack[Parts]) -> None:
        super().__init__(recipe, model, **parts)
        if recipe.classify is None:
            raise ValueError("a classification task needs a recipe with a section 'classify'")
        self.part = recipe.classify
        self.sizes: Sequence[ImageSize] = [ImageSize(size, size) for size in self.part.sizes]
        self.options = augment_options(self.part)

    def sample(self, request: Request) -> Sample:
        """A random crop: "image" (size, size, 3) uint8 and "label", its class."""
        image, label = self.read(request.index)
        size = request.size_hw.height
        changed = augment(image, size, options=self.options, rng=request.rng())
        return {"image": changed, "label": label}

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """One example of the training set.

        Raises:
            EvitError: the file cannot be read, or the set has another kind of target.
        """
        image, label = self.train_set.read(index)
        if not isinstance(label, int):
            raise EvitError(f"data set '{self.train_set.name}' has no class per image")
        return image, label

    def change(
        self, images: Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, Batch]:
        """Mixup or cutmix of images and soft targets."""
        labels = batch.tensors["label"]
        targets = soft_targets(labels, len(self.train_set.classes), self.part.label_smoothing)
        mix = mix_batch(images, rng, mixup=self.part.mixup, cutmix=self.part.cutmix)
        tensors = {**batch.tensors, "targets": mix.targets(targets)}
        if "logits" in tensors:  # a teacher's answers to whole images mix as the labels do
            chances = mix.targets(tensors["logits"].float().softmax(1))
            tensors["logits"] = chances.clamp(min=_SMALLEST).log()
        return mix.images, Batch(batch.requests, tensors)

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The recipe's loss towards the targets, and MESA towards the averaged model."""
        total, weight = class_loss(outputs, batch.tensors["targets"], kind=self.part.loss)
        if average is None:
            return Loss(total, weight, {})
        return self.with_mesa(total, weight, outputs, average)

    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """Top-1 and top-5 accuracy in [0, 1], as `evit eval` measures them."""
        session = TorchSession(model, self.info, device=str(group.device))
        score = evaluate_classification(
            ImageClassifier(session), self.val_set, group=group, progress=progress
        )
        return Score({"top1": round(score.top1, 6), "top5": round(score.top5, 6)})

    def picture(self, model: nn.Module) -> npt.NDArray[np.uint8] | None:
        """Validation images with the predicted class; green where it is right."""
        from evit_cli.train.pictures import prediction_tiles

        session = TorchSession(model, self.info, device=str(next(model.parameters()).device))
        classifier = ImageClassifier(session)
        step = max(1, len(self.val_set) // 12)
        tiles = []
        for index in range(0, len(self.val_set), step)[:12]:
            image, truth = self.val_set.read(index)
            top = classifier(image, topk=1).top[0]
            tiles.append((image, top.name, top.index == truth))
        return prediction_tiles(tiles)
