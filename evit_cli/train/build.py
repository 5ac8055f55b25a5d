"""From a recipe to the task that the loop runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from evit_cli.config.recipe import Recipe
from evit_cli.config.recipe_parts import DistillPart, SegmentPart
from evit_cli.data.open import open_examples
from evit_cli.data.sample import Examples
from evit_cli.errors import EvitError, UsageError
from evit_cli.models.classes import class_set, spread_colors
from evit_cli.models.variants import Variant, get_variant
from evit_cli.train.blockwise import BlockwiseSegmentTask
from evit_cli.train.classify_task import ClassifyTask
from evit_cli.train.distill import DistilledClassifyTask, DistilledSegmentTask, Lessons
from evit_cli.train.distributed import Group
from evit_cli.train.segment_task import SegmentTask
from evit_cli.train.start import seed_everything, start_model
from evit_cli.train.task import TrainTask
from evit_cli.train.teacher import CacheRequest, cache_outputs, load_teacher
from evit_cli.train.unlabelled import open_unlabelled
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Preprocess, Progress, Task


def build_task(
    recipe: Recipe,
    *,
    group: Group,
    cache: Path,
    offline: bool = False,
    progress: Progress | None = None,
) -> TrainTask:
    """Open the data, build the model with its first weights, and put them together.

    Args:
        recipe: what to train.
        group: the processes of the run.
        cache: where a teacher's outputs are kept.
        offline: make no network request for weights.
        progress: told of downloads and of the teacher's work.

    Raises:
        EvitError: the data are laid out in another way, or weights are missing or do not fit.
    """
    if recipe.data.dir is None:
        raise UsageError("no data were named", hint="pass --data DIR")
    train_set, val_set = (
        open_examples(
            recipe.data.name,
            Path(recipe.data.dir).expanduser(),
            part,
            void=recipe.data.void,
            val_share=recipe.data.val_share,
            num_classes=None if recipe.model.classes is None else len(recipe.model.classes),
        )
        for part in ("train", "val")
    )
    names = recipe.model.classes or train_set.classes
    if len(names) != len(train_set.classes):
        raise EvitError(
            f"model.classes names {len(names)} classes, and the data have {len(train_set.classes)}"
        )
    variant = get_variant(recipe.model.variant, num_classes=len(names))
    if variant.task is not recipe.task:
        raise EvitError(
            f"model.variant {variant.name} is for task {variant.task.value}, and the recipe is for"
            f" {recipe.task.value}"
        )
    seed_everything(recipe.train.seed)
    model = start_model(recipe.model, variant, offline=offline, progress=progress).model
    info = model_info(recipe, tuple(names))
    parts = _Parts(recipe, model, variant, info, train_set, val_set)
    if recipe.distill is None:
        return _plain(parts)
    return _distilled(parts, group=group, cache=cache, offline=offline, progress=progress)


@dataclass(frozen=True)
class _Parts:
    """What every task is made of."""

    recipe: Recipe
    model: nn.Module
    variant: Variant
    info: ModelInfo
    train_set: Examples
    val_set: Examples

    def task(self, kind: type[SegmentTask] | type[ClassifyTask]) -> SegmentTask | ClassifyTask:
        return kind(
            self.recipe,
            self.model,
            variant=self.variant,
            info=self.info,
            train_set=self.train_set,
            val_set=self.val_set,
        )


def _plain(parts: _Parts) -> TrainTask:
    return parts.task(SegmentTask if parts.recipe.task is Task.SEGMENT else ClassifyTask)


def _distilled(
    parts: _Parts, *, group: Group, cache: Path, offline: bool, progress: Progress | None
) -> TrainTask:
    part = parts.recipe.distill
    if part is None or parts.info.classes is None:
        raise ValueError("a distillation needs a section 'distill' and classes")
    classifies = parts.recipe.task is Task.CLASSIFY
    if classifies and part.blocks:
        raise EvitError("block-wise distillation is for segmentation", hint="set distill.blocks=0")
    if classifies and part.features and part.view == "cached":
        raise EvitError(
            "a classifier's features cannot be learnt from a cache of whole images",
            hint="set distill.view=online, or distill.features=0",
        )
    if parts.recipe.segment is not None and part.view == "cached":
        _check_strides(parts.recipe.segment, part)
    teacher = load_teacher(part, parts.info.classes, group.device, offline=offline)
    if group.first:
        open_unlabelled(part.extra, every=part.extra_every, cache=cache / "frames")
    group.wait()
    extra = open_unlabelled(part.extra, every=part.extra_every, cache=cache / "frames")
    cached = None
    if part.view == "cached":
        labelled = parts.train_set
        count = len(labelled)

        def read(index: int) -> npt.NDArray[np.uint8]:
            return labelled.read(index)[0] if index < count else extra.read(index - count)

        names = [labelled.where(i) for i in range(count)]
        names += [extra.where(i) for i in range(len(extra))]
        request = CacheRequest(read, names, labelled.name, part)
        cached = cache_outputs(teacher, request, cache / "outputs", group=group, progress=progress)
    kind: type[DistilledClassifyTask] | type[DistilledSegmentTask] = DistilledClassifyTask
    if not classifies:
        kind = BlockwiseSegmentTask if part.blocks else DistilledSegmentTask
    task = parts.task(kind)
    if not isinstance(task, DistilledClassifyTask | DistilledSegmentTask):
        raise ValueError(f"{type(task).__name__} does not learn from a teacher")
    return task.learn_from(Lessons(part, teacher, cached, extra))


def _check_strides(segment: SegmentPart, part: DistillPart) -> None:
    """Cached maps are cut at their stride, which has to divide the crops."""
    stride = max([8, *(part.feature_levels if part.features else ())])
    for size in segment.crop_hw:
        if any(side % stride for side in size):
            raise EvitError(
                f"segment.crop_hw {ImageSize(*size)} is no multiple of {stride}, as a cached"
                " teacher's maps need it",
                hint="change the crop, or set distill.view=online",
            )


def model_info(recipe: Recipe, classes: tuple[str, ...]) -> ModelInfo:
    """What the trained weights will say about themselves."""
    return ModelInfo(
        name=recipe.name,
        task=recipe.task,
        preprocess=_preprocess(recipe),
        classes=_class_set(recipe.data.name, classes),
        licence=recipe.licence,
    )


def _preprocess(recipe: Recipe) -> Preprocess:
    if recipe.task is Task.CLASSIFY and recipe.classify is not None:
        size = ImageSize(recipe.classify.eval_size, recipe.classify.eval_size)
        return Preprocess(size, crop_ratio=recipe.classify.crop_ratio)
    part = recipe.segment
    if part is None:
        raise ValueError(f"no input size is known for task {recipe.task.value}")
    return Preprocess(ImageSize(*(part.eval_hw or part.base_hw or part.crop_hw[-1])))


def _class_set(dataset: str, names: tuple[str, ...]) -> ClassSet:
    """The names with the data set's own colours where it has them."""
    try:
        known = class_set(dataset)
    except EvitError:
        return ClassSet(dataset, names, spread_colors(len(names)))
    if len(known) != len(names):
        return ClassSet(dataset, names, spread_colors(len(names)))
    return ClassSet(dataset, names, known.colors_rgb)
