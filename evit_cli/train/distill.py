"""Learning from a teacher: its class probabilities and its features, beside or without labels.

Logits: arXiv 1503.02531. Features: mean squared distance to the teacher's, each of its channels
brought to mean 0 and deviation 1, through a learnt 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from evit_cli.config.recipe_parts import DistillPart
from evit_cli.data.augment_segment import choose_window, cut_map
from evit_cli.data.loader import Batch, Sample
from evit_cli.data.outputs import OutputShards
from evit_cli.data.sample import IGNORE
from evit_cli.data.sampling import Request
from evit_cli.train.classify_task import ClassifyTask
from evit_cli.train.labelled import LabelledTask
from evit_cli.train.losses import divergence, feature_distance
from evit_cli.train.segment_task import SegmentTask, read_labelled
from evit_cli.train.task import Loss
from evit_cli.train.teacher import Student, Teacher
from evit_cli.train.unlabelled import Unlabelled

if TYPE_CHECKING:
    from typing_extensions import Self

_LOGIT_STRIDE = 8
_INSIDE = ".inside"


@dataclass(frozen=True)
class Lessons:
    """Where the teacher's answers come from.

    Attributes:
        part: the recipe's section.
        teacher: asked for every batch ("online"), and for the widths of its features.
        cached: its answers to whole images, None if it is asked online.
        extra: unlabelled images; they follow the labelled ones.
    """

    part: DistillPart
    teacher: Teacher
    cached: OutputShards | None
    extra: Unlabelled

    @property
    def levels(self) -> tuple[int, ...]:
        """Strides of the features that are compared."""
        return tuple(self.part.feature_levels) if self.part.features else ()


class TaughtTask(LabelledTask):
    """A task with a teacher, and with unlabelled images after the labelled ones."""

    lessons: Lessons

    def learn_from(self, lessons: Lessons) -> Self:
        """Take a teacher; the network then shows its features too."""
        self.lessons = lessons
        self.count = len(self.train_set) + len(lessons.extra)
        self.network = Student(self.model, lessons.teacher.widths, lessons.levels)
        return self

    def where(self, index: int) -> str:
        """The image file."""
        if index < len(self.train_set):
            return super().where(index)
        return self.lessons.extra.where(index - len(self.train_set))


class DistilledSegmentTask(TaughtTask, SegmentTask):
    """Segmentation with a teacher; see `SegmentTask`."""

    def sample(self, request: Request) -> Sample:
        """A random crop with the teacher's answers to the same place, where they are cached."""
        rng = request.rng()
        labelled = request.index < len(self.train_set)
        if labelled:
            image, labels = read_labelled(self.train_set, request.index)
        else:
            image = self.lessons.extra.read(request.index - len(self.train_set))
            labels = np.full(image.shape[:2], IGNORE, np.int16)
        window = choose_window(labels, request.size_hw, self.options, rng)
        sample = self.crop(image, labels, window, rng)
        if self.lessons.cached is not None:
            for name, values in self.lessons.cached.read(request.index).items():
                stride = _LOGIT_STRIDE if name == "logits" else int(name.removeprefix("stride"))
                cut, inside = cut_map(values.astype(np.float32), window, stride=stride)
                sample |= {name: cut, name + _INSIDE: inside}
        return sample

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """Labels, logits and features, each per position inside the images."""
        logits, features = outputs
        part, answers = self.lessons.part, self.answers(batch, images)
        total, weight = self.teacher_loss(logits, answers)
        parts = {"logits": total}
        total = part.logits * total
        labels, _ = self.label_loss(logits, batch)
        parts["labels"] = labels
        total = total + part.labels * labels
        for name, found in features.items():
            inside = answers[name + _INSIDE]
            parts[name] = feature_distance(found, answers[name], weight=inside)[0]
            total = total + part.features * parts[name] / len(features)
        return Loss(total, weight, parts)

    def teacher_loss(self, logits: Tensor, answers: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The distance to the teacher's probabilities: (sum, weight)."""
        target = answers["logits"]
        if logits.shape[-2:] != target.shape[-2:]:
            target = F.interpolate(target, size=logits.shape[-2:], mode="bilinear")
        inside = answers["logits" + _INSIDE]
        temperature = self.lessons.part.temperature
        return divergence(logits, target, temperature=temperature, weight=inside)

    def answers(self, batch: Batch, images: Tensor) -> dict[str, Tensor]:
        """The teacher's logits and features by name, and where each is inside the images."""
        if self.lessons.cached is not None:
            return dict(batch.tensors)
        logits, features = self.lessons.teacher(images, self.lessons.levels)
        found = {"logits": logits, **features}
        ones = {name + _INSIDE: torch.ones_like(values[:, 0]) for name, values in found.items()}
        return {**found, **ones}


class DistilledClassifyTask(TaughtTask, ClassifyTask):
    """Classification with a teacher; see `ClassifyTask`.

    A cached teacher saw each whole image once, and its answer is that to every crop of it. Features
    can be compared online only.
    """

    def read(self, index: int) -> tuple[Any, int]:
        """One example; unlabelled ones have the label `IGNORE`."""
        if index < len(self.train_set):
            return super().read(index)
        return self.lessons.extra.read(index - len(self.train_set)), IGNORE

    def sample(self, request: Request) -> Sample:
        """A random crop with the teacher's logits for the image, where they are cached."""
        sample = dict(super().sample(request))
        if self.lessons.cached is not None:
            sample["logits"] = self.lessons.cached.read(request.index)["logits"]
        return sample

    def loss(self, outputs: Any, batch: Batch, *, images: Tensor, average: Any) -> Loss:
        """Labels, logits and features, each per example."""
        logits, features = outputs
        part = self.lessons.part
        answers: dict[str, Tensor] = {}
        if self.lessons.cached is not None:
            target = batch.tensors["logits"]
        else:
            target, answers = self.lessons.teacher(images, self.lessons.levels)
        everywhere = torch.ones_like(target[:, 0])
        total, weight = divergence(logits, target, temperature=part.temperature, weight=everywhere)
        parts = {"logits": total}
        total = part.logits * total
        labels = super().loss(logits, batch, images=images, average=None).total
        parts["labels"] = labels
        total = total + part.labels * labels
        for name, found in features.items():
            ones = torch.ones_like(found[:, 0])
            parts[name] = feature_distance(found, answers[name], weight=ones)[0]
            total = total + part.features * parts[name] / len(features)
        return Loss(total, weight, parts)
