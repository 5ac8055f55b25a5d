"""Block-wise distillation (arXiv 1911.13053): every stage learns alone.

Stage k of the student is given the teacher's output of stage k - 1 and answers for the teacher's
stage k; the head is given all of the teacher's features. Errors do not add up over the depth, so a
student of the teacher's own layout learns in minutes what end to end takes hours. Afterwards the
stages are trained together, on their own features, for the last points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from evit_cli.data.loader import Batch
from evit_cli.errors import EvitError
from evit_cli.models.backbone import Backbone
from evit_cli.train.distill import DistilledSegmentTask, Lessons
from evit_cli.train.losses import divergence
from evit_cli.train.task import Loss
from evit_cli.train.teacher import Teacher

if TYPE_CHECKING:
    from typing_extensions import Self


class BlockStudent(nn.Module):
    """A model whose stages are asked one by one.

    Args:
        model: the student.
        teacher: of the same widths.

    Raises:
        EvitError: the widths differ.
    """

    def __init__(self, model: nn.Module, teacher: Teacher) -> None:
        super().__init__()
        backbone = model.backbone
        if not isinstance(backbone, Backbone) or backbone.spec.widths != teacher.widths:
            raise EvitError(
                "block-wise distillation needs a teacher with the student's widths",
                hint="set distill.blocks=0, or choose a teacher of the same size (b0, b1, ...)",
            )
        self.model = model
        self._backbone = (backbone,)  # in a tuple: `model` holds it already
        self._teacher = (teacher,)  # in a tuple: it is not a part of what is trained

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor], Tensor]:
        """Normalised RGB -> logits, the stages' outputs, those of the teacher, and its logits."""
        (teacher,) = self._teacher
        (backbone,) = self._backbone
        with torch.no_grad():
            taught = teacher.features(x)
            target = teacher.logits(taught)
        stages = [backbone.stem, *backbone.stages]
        found = [stage(given) for stage, given in zip(stages, [x, *taught[:-1]], strict=True)]
        return self.model.predict(taught), found, taught, target  # type: ignore[operator]


class BlockwiseSegmentTask(DistilledSegmentTask):
    """Segmentation learnt stage by stage; see `DistilledSegmentTask`."""

    def learn_from(self, lessons: Lessons) -> Self:
        """Take a teacher, which is asked online."""
        super().learn_from(lessons)
        self.network = BlockStudent(self.model, lessons.teacher)
        return self

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """The stages' distances, and the head's loss towards labels and teacher."""
        logits, found, taught, target = outputs
        part = self.lessons.part
        everywhere = torch.ones_like(target[:, 0])
        total, weight = divergence(logits, target, temperature=part.temperature, weight=everywhere)
        parts = {"logits": total}
        total = part.logits * total
        labels, _ = self.label_loss(logits, batch)
        parts["labels"] = labels
        total = total + part.labels * labels
        for level, (own, theirs) in enumerate(zip(found, taught, strict=True)):
            name = f"stride{2 ** (level + 1)}"
            parts[name] = relative_distance(own, theirs)
            total = total + part.blocks * parts[name]
        return Loss(total, weight, parts)


def relative_distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared difference over the variance of each channel; 1 for a constant answer.

    Args:
        found: (B, C, H, W).
        wanted: of the same shape.
    """
    wanted = wanted.float()
    variance = wanted.var((0, 2, 3), keepdim=True)
    # A channel that hardly varies must not count for more than the others.
    floor = 1e-2 * variance.mean()
    return ((found.float() - wanted).square() / (variance + floor)).mean()
