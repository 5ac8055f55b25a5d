"""Training for int8: the student answers as its int8 form would, and learns the teacher's answers.

The student keeps the teacher's classes, so the data's labels are not learnt; on the validation
images they tell how good the int8 form is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from evit_cli.data.loader import Batch
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

    def _whole_images(self) -> list[Tensor]:
        """Images of the training part, evenly over it, of the size that an export is made for.

        An export measures at its own size, and ranges depend on it.
        """
        part = self.part
        height, width = part.eval_hw or part.base_hw or part.crop_hw[-1]
        count = len(self.train_set)
        chosen = sorted({i * count // _MEASURED for i in range(_MEASURED)})
        images = [read_labelled(self.train_set, i)[0] for i in chosen]
        sized = [cv2.resize(i, (width, height), interpolation=cv2.INTER_CUBIC) for i in images]
        return [normalise(torch.from_numpy(np.asarray(i))[None], self.info) for i in sized]
