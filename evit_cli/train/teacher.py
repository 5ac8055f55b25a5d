"""The teacher of a distillation: its outputs for whole images, made once and kept in shards."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evit_cli.config.recipe_parts import DistillPart
from evit_cli.data.outputs import Outputs, OutputShards
from evit_cli.errors import EvitError
from evit_cli.inference.evaluate import published_placement
from evit_cli.inference.preprocess import place
from evit_cli.models.backbone import Backbone
from evit_cli.models.class_maps import choose_translation
from evit_cli.models.fuse import fuse
from evit_cli.train.distributed import Group
from evit_cli.train.task import normalise
from evit_cli.types import ClassSet, ImageSize, ModelInfo, NoProgress, Preprocess, Progress, Task
from evit_cli.weights.atomic import atomic_file

_SILENT = -30.0
"""The logit of a class that no class of the teacher stands for."""

ImageU8 = npt.NDArray[np.uint8]


def level_index(stride: int) -> int:
    """The place of the features of a stride in a backbone's list."""
    return stride.bit_length() - 2


@dataclass(frozen=True)
class Teacher:
    """A trained model, and how its classes become the student's.

    Attributes:
        model: fused, in evaluation mode, on the device.
        info: the model's description.
        widths: channels of its backbone's features.
        table: (student classes, teacher classes) 0 or 1.
    """

    model: nn.Module
    info: ModelInfo
    widths: tuple[int, ...]
    table: Tensor

    @torch.no_grad()
    def __call__(self, images: Tensor, levels: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised RGB (B, 3, H, W) -> logits over the student's classes, features by name."""
        features = self.features(images)
        named = {feature_name(s): features[level_index(s)].float() for s in levels}
        return self.logits(features), named

    def features(self, images: Tensor) -> list[Tensor]:
        """Normalised RGB -> the backbone's features, finest first."""
        return self.model.backbone(images)  # type: ignore[operator, no-any-return]

    def logits(self, features: list[Tensor]) -> Tensor:
        """The backbone's features -> logits over the student's classes."""
        logits: Tensor = self.model.predict(features)  # type: ignore[operator]
        return self._translated(logits.float())

    def _translated(self, logits: Tensor) -> Tensor:
        """The logit of a class is that of the sum of its members' probabilities."""
        if len(self.table) == logits.shape[1] and bool(self.table.diagonal().all()):
            return logits
        members = self.table.to(logits.device).bool()
        log_p = logits.log_softmax(1)
        grouped = [
            log_p[:, row].logsumexp(1) if bool(row.any()) else torch.full_like(log_p[:, 0], _SILENT)
            for row in members
        ]
        return torch.stack(grouped, 1)


def feature_name(stride: int) -> str:
    """The name of the features of a stride in a sample."""
    return f"stride{stride}"


def load_teacher(
    part: DistillPart, classes: ClassSet, device: torch.device, *, offline: bool = False
) -> Teacher:
    """Load the model that `part` names.

    Raises:
        EvitError: it cannot be had, or its classes do not become the student's.
    """
    from evit_cli.weights.load import load_model

    loaded = load_model(part.teacher, offline=offline)
    own = loaded.info.classes
    if own is None:
        raise EvitError(f"{part.teacher} has no classes to teach")
    path = None if part.class_map is None else Path(part.class_map)
    translation = choose_translation(path, own, classes.name)
    if len(translation.classes) != len(classes):
        raise EvitError(
            f"the teacher's {len(translation.classes)} classes are not the data's {len(classes)}",
            hint="give distill.class_map, a JSON file as for `evit eval --map`",
        )
    table = torch.zeros(len(classes), len(own))
    table[list(translation.table), range(len(own))] = 1
    model = fuse(loaded.model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(model, loaded.info, loaded.variant.backbone.widths, table)


def teacher_input(
    image: ImageU8, preprocess: Preprocess, dataset: str, size_hw: ImageSize | None
) -> ImageU8:
    """A whole image at the teacher's size, whose sides its stride divides: nothing is padded."""
    image_hw = ImageSize(*image.shape[:2])
    if size_hw is None:
        content = published_placement(dataset, image_hw, preprocess).content_hw
    else:
        content = place(image_hw, preprocess, size_hw=size_hw).content_hw
    stride = preprocess.stride
    height, width = (max(stride, round(side / stride) * stride) for side in content)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(resized, dtype=np.uint8)


@dataclass(frozen=True)
class CacheRequest:
    """Whose outputs for which images.

    Attributes:
        read: the image of an example, RGB uint8.
        names: the file of each example, in order.
        dataset: whose protocol gives the input size.
        part: the recipe's section.
    """

    read: Callable[[int], ImageU8]
    names: Sequence[str]
    dataset: str
    part: DistillPart


def cache_outputs(
    teacher: Teacher,
    request: CacheRequest,
    folder: Path,
    *,
    group: Group,
    progress: Progress | None = None,
) -> OutputShards:
    """Run the teacher on every image that has no outputs yet, shared among the processes.

    What was interrupted goes on where it was; another teacher, size or set begins anew.

    Raises:
        EvitError: an image cannot be read, or the disk is full.
    """
    return fill_shards(
        OutputShards(folder, len(request.names)),
        _key(teacher, request),
        lambda index: _outputs(teacher, request, index, group.device),
        group=group,
        progress=progress,
    )


def fill_shards(
    shards: OutputShards,
    key: Mapping[str, object],
    answer: Callable[[int], Outputs],
    *,
    group: Group,
    progress: Progress | None = None,
) -> OutputShards:
    """Make the outputs that are not there yet, shared among the processes.

    Args:
        shards: where they are kept.
        key: what they are of; another key begins anew.
        answer: the outputs of one example.
        group: the processes of the run.
        progress: gets one step per example.

    Raises:
        EvitError: an example cannot be read, or the disk is full.
    """
    if group.first:
        shards.prepare(key, _write)
    group.wait()
    mine = group.share(shards.missing())
    group.wait()  # before anybody writes: all must divide the same list
    progress = progress or NoProgress()
    progress.start(sum(len(indices) for indices in mine), "image")
    try:
        for indices in mine:
            outputs = []
            for index in indices:
                outputs.append(answer(index))
                progress.advance(1)
            shards.write(indices, outputs, _write)
    finally:
        progress.close()
    group.wait()
    return shards


def _write(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)


def _key(teacher: Teacher, request: CacheRequest) -> dict[str, object]:
    names = hashlib.sha256("\n".join(request.names).encode()).hexdigest()
    part = request.part
    return {
        "teacher": teacher.info.sha256,
        "names": names,
        "dataset": request.dataset,
        "size_hw": part.teacher_hw,
        "levels": list(part.feature_levels) if part.features else [],
        "table": teacher.table.int().tolist(),
    }


def _outputs(
    teacher: Teacher, request: CacheRequest, index: int, device: torch.device
) -> dict[str, npt.NDArray[np.float16]]:
    part, info = request.part, teacher.info
    image = request.read(index)
    if info.task is Task.SEGMENT:
        size = None if part.teacher_hw is None else ImageSize(*part.teacher_hw)
        image = teacher_input(image, info.preprocess, request.dataset, size)
    else:
        from evit_cli.inference.preprocess import resize_short_and_crop

        image = resize_short_and_crop(image, info.preprocess)
    x = normalise(torch.from_numpy(image)[None].to(device), info)
    logits, features = teacher(x, part.feature_levels if part.features else ())
    found = {"logits": logits, **features}
    limit = float(np.finfo(np.float16).max)
    return {
        name: values[0].clamp(-limit, limit).half().cpu().numpy() for name, values in found.items()
    }


class Student(nn.Module):
    """A model that also shows its features, projected to the teacher's channels.

    Args:
        model: the student; its `backbone` and `predict` are used.
        teacher_widths: channels of the teacher's backbone features, finest first.
        levels: strides of the features to show.
    """

    def __init__(
        self, model: nn.Module, teacher_widths: Sequence[int], levels: Sequence[int]
    ) -> None:
        super().__init__()
        self.model = model
        backbone = model.backbone
        if not isinstance(backbone, Backbone):
            raise ValueError(f"{type(model).__name__} has no backbone to learn features")
        widths = backbone.spec.widths
        self.levels = tuple(levels)
        self.adapters = nn.ModuleDict(
            {
                feature_name(s): nn.Conv2d(
                    widths[level_index(s)], teacher_widths[level_index(s)], 1
                )
                for s in levels
            }
        )

    def forward(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Normalised RGB -> logits and the projected features by name."""
        features = self.model.backbone(x)  # type: ignore[operator]
        shown = {
            feature_name(s): self.adapters[feature_name(s)](features[level_index(s)])
            for s in self.levels
        }
        return self.model.predict(features), shown  # type: ignore[operator]
