"""Training for int8: the student answers as its int8 form would, and learns the teacher's answers.

The student keeps the teacher's classes, so the data's labels are not learnt; on the validation
images they tell how good the int8 form is.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from evit_cli.data.loader import Batch
from evit_cli.media.images import write_image
from evit_cli.models.quantize import DEFAULT_ISLANDS, RoundedModel, simulate_fast
from evit_cli.train.distill import DistilledSegmentTask, Lessons
from evit_cli.train.distributed import Group
from evit_cli.train.segment_task import read_labelled
from evit_cli.train.task import Loss, Score, normalise
from evit_cli.types import Progress

if TYPE_CHECKING:
    from typing_extensions import Self

_MEASURED = 8
"""Training images that ranges are measured on: as many as an export needs at least."""


class RoundedSegmentTask(DistilledSegmentTask):
    """Segmentation in int8 with a teacher; see `DistilledSegmentTask`."""

    def learn_from(self, lessons: Lessons) -> Self:
        """Take a teacher; the network then computes as in int8."""
        super().learn_from(lessons)
        self.measured = self._whole_images()
        self.network = RoundedModel(self.model, self.measured, islands=DEFAULT_ISLANDS)
        return self

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The distance to the teacher's probabilities."""
        total, weight = self.teacher_loss(outputs, self.answers(batch, images))
        return Loss(self.lessons.part.logits * total, weight, {"logits": total})

    def evaluate(self, model: nn.Module, group: Group, progress: Progress) -> Score:
        """Mean IoU and pixel accuracy of the int8 form that an export would make."""
        measured = [batch.to(group.device) for batch in self.measured]
        int8 = simulate_fast(model, measured, islands=DEFAULT_ISLANDS)
        return super().evaluate(int8, group, progress)

    def keep_measured(self, folder: Path) -> None:
        """Write the images that ranges are measured on, for the export to measure on them too.

        The weights fit these ranges: with those of other images the mean IoU is up to 1.5 points
        lower (docs/export.md).
        """
        folder.mkdir(parents=True, exist_ok=True)
        for index in self._chosen():
            write_image(folder / f"{index:06}.png", read_labelled(self.train_set, index)[0])

    def _chosen(self) -> list[int]:
        """Images of the training part, evenly over it."""
        count = len(self.train_set)
        return sorted({i * count // _MEASURED for i in range(_MEASURED)})

    def _whole_images(self) -> list[Tensor]:
        """The chosen images in the size that an export is made for, since ranges depend on it."""
        part = self.part
        height, width = part.eval_hw or part.base_hw or part.crop_hw[-1]
        images = [read_labelled(self.train_set, i)[0] for i in self._chosen()]
        sized = [cv2.resize(i, (width, height), interpolation=cv2.INTER_CUBIC) for i in images]
        return [normalise(torch.from_numpy(np.asarray(i))[None], self.info) for i in sized]
