"""Semantic segmentation in the training loop: crops, pixel loss, mean IoU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evit_cli.config.recipe import Recipe
from evit_cli.config.recipe_parts import SegmentPart
from evit_cli.data.augment_segment import (
    SegmentAugment,
    Window,
    choose_window,
    cut_image,
    cut_labels,
    disturb,
)
from evit_cli.data.loader import Batch, Sample
from evit_cli.data.sample import Examples, Labels
from evit_cli.data.sampling import Request
from evit_cli.errors import EvitError
from evit_cli.inference.evaluate import evaluate_segmentation
from evit_cli.inference.segmenter import Segmenter
from evit_cli.runtime.torch_session import TorchSession
from evit_cli.train.distributed import Group
from evit_cli.train.labelled import LabelledTask, Parts
from evit_cli.train.losses import pixel_cross_entropy
from evit_cli.train.pictures import prediction_grid
from evit_cli.train.task import Loss, Score
from evit_cli.types import ClassSet, ImageSize, Progress

_PICTURED = 4
_BALANCED_ON = 500
"""Label images that "balanced" class weights are computed from."""

if TYPE_CHECKING:
    from typing_extensions import Unpack


def augment_options(part: SegmentPart) -> SegmentAugment:
    """The random changes that a recipe asks for."""
    return SegmentAugment(
        base_hw=None if part.base_hw is None else ImageSize(*part.base_hw),
        scale=part.scale,
        flip=part.flip,
        max_class_share=part.max_class_share,
        color=part.color.model_dump(),
        blur=part.blur,
        noise=part.noise,
    )


class SegmentTask(LabelledTask):
    """See `TrainTask`; the metric is the mean IoU by the published protocol of the data set.

    Args:
        recipe: its `segment` section is used.
        model: to be trained.
        variant: of the model.
        info: of the model, with its classes.
        train_set: what to learn from.
        val_set: what to measure on.
    """

    metric = "mean_iou"

    def __init__(self, recipe: Recipe, model: nn.Module, **parts: Unpack[Parts]) -> None:
        super().__init__(recipe, model, **parts)
        if recipe.segment is None:
            raise ValueError("a segmentation task needs a recipe with a section 'segment'")
        self.part = recipe.segment
        self.sizes: Sequence[ImageSize] = [ImageSize(*size) for size in self.part.crop_hw]
        self.options = augment_options(self.part)
        self.judge_by(range(len(self.val_set.classes)), self.info.classes)
        self._class_weights = self._weights()

    def judge_by(self, table: Sequence[int], classes: ClassSet | None) -> None:
        """Compare predictions with the labels by `table`, the data's class for each of the model's.

        Args:
            table: one index per class of the model.
            classes: of the data, for pictures.
        """
        self.table, self.shown = table, classes

    def sample(self, request: Request) -> Sample:
        """A random crop: "image" (H, W, 3) uint8 and "labels" (h, w) int16."""
        rng = request.rng()
        image, labels = read_labelled(self.train_set, request.index)
        window = choose_window(labels, request.size_hw, self.options, rng)
        return self.crop(image, labels, window, rng)

    def crop(
        self,
        image: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.int16],
        window: Window,
        rng: np.random.Generator,
    ) -> dict[str, npt.NDArray[Any]]:
        """The window of one example, with colours changed."""
        return {
            "image": disturb(cut_image(image, window), self.options, rng),
            "labels": cut_labels(labels, window, stride=self.part.label_stride),
        }

    def change(
        self, images: Tensor, batch: Batch, rng: np.random.Generator
    ) -> tuple[Tensor, Batch]:
        """Segmentation has no change of a whole batch."""
        return images, batch

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """Cross-entropy of the labelled pixels, and MESA towards the averaged model."""
        total, weight = self.label_loss(outputs, batch)
        if average is None:
            return Loss(total, weight, {})
        return self.with_mesa(total, weight, outputs, average)

    def label_loss(self, logits: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """The recipe's loss towards the labels: (sum, weight)."""
        weights = self._class_weights
        return pixel_cross_entropy(
            logits,
            batch.tensors["labels"],
            class_weights=None if weights is None else weights.to(logits.device),
            label_smoothing=self.part.label_smoothing,
            hard_below=self.part.ohem,
            hard_min_share=self.part.ohem_min_share,
        )

    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """Mean IoU and pixel accuracy in [0, 1], as `evit eval` measures them."""
        segmenter = self._segmenter(model, group.device)
        classes = self.val_set.classes
        score = evaluate_segmentation(
            segmenter,
            self.val_set,
            table=self.table,
            classes=classes,
            group=group,
            progress=progress,
        )
        values = {"mean_iou": score.mean_iou, "pixel_accuracy": score.pixel_accuracy}
        return Score({name: round(value, 6) for name, value in values.items()})

    def picture(self, model: nn.Module) -> npt.NDArray[np.uint8] | None:
        """Image, labels and prediction of a few validation images, one row each."""
        segmenter = self._segmenter(model, next(model.parameters()).device)
        step = max(1, len(self.val_set) // _PICTURED)
        chosen = range(0, len(self.val_set), step)[:_PICTURED]
        examples = (read_labelled(self.val_set, i) for i in chosen)
        lookup = np.asarray(self.table)
        rows = [(image, labels, lookup[segmenter(image).class_map]) for image, labels in examples]
        return prediction_grid(rows, self.shown or segmenter.classes)

    def _segmenter(self, model: nn.Module, device: torch.device) -> Segmenter:
        size = None if self.part.eval_hw is None else ImageSize(*self.part.eval_hw)
        session = TorchSession(model, self.info, device=str(device))
        return Segmenter(session, size_hw=size)

    def _weights(self) -> Tensor | None:
        given = self.part.class_weights
        if given is None:
            return None
        count = len(self.train_set.classes)
        if given != "balanced":
            if len(given) != count:
                raise EvitError(
                    f"segment.class_weights has {len(given)} values for {count} classes"
                )
            return torch.tensor(given)
        return torch.tensor(balanced_weights(self.train_set), dtype=torch.float32)


def read_labelled(examples: Examples, index: int) -> tuple[npt.NDArray[np.uint8], Labels]:
    """One example whose target must be a class per pixel.

    Raises:
        EvitError: the file cannot be read, or has another kind of target.
    """
    image, labels = examples.read(index)
    if isinstance(labels, int):
        raise EvitError(f"data set '{examples.name}' has a class per image, not per pixel")
    return image, labels


def balanced_weights(train_set: Examples) -> npt.NDArray[np.float64]:
    """Median-frequency balancing (arXiv 1411.4734, section 6.3.2): median share / class share.

    A class's share is that of its pixels within the images that show it; a class that none shows
    gets weight 1.
    """
    count = len(train_set.classes)
    pixels, shown = np.zeros(count), np.zeros(count)
    for index in range(0, len(train_set), max(1, len(train_set) // _BALANCED_ON)):
        labels = read_labelled(train_set, index)[1]
        known = labels[labels >= 0]
        counts = np.bincount(known, minlength=count)
        pixels += counts
        shown += (counts > 0) * known.size
    share = np.divide(pixels, shown, out=np.full(count, np.nan), where=shown > 0)
    weights: npt.NDArray[np.float64] = np.nan_to_num(np.nanmedian(share) / share, nan=1.0)
    return weights
