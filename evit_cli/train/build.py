"""From a recipe to the task that the loop runs."""

from __future__ import annotations

from collections.abc import Sequence
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
from evit_cli.models.class_maps import choose_translation
from evit_cli.models.classes import class_set, spread_colors
from evit_cli.models.variants import Variant, get_variant
from evit_cli.train.blockwise import BlockwiseSegmentTask
from evit_cli.train.classify_task import ClassifyTask
from evit_cli.train.distill import DistilledClassifyTask, DistilledSegmentTask, Lessons
from evit_cli.train.distributed import Group
from evit_cli.train.rounded_task import RoundedSegmentTask
from evit_cli.train.sam.distill import EncoderTask
from evit_cli.train.sam.task import SamTask
from evit_cli.train.segment_task import SegmentTask
from evit_cli.train.start import seed_everything, start_model
from evit_cli.train.superres_task import SuperresTask
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
    if recipe.task is Task.SUPERRES:
        return SuperresTask(recipe, offline=offline, progress=progress)
    if recipe.task is Task.SAM and recipe.distill is not None:
        return EncoderTask(recipe, group=group, cache=cache, offline=offline, progress=progress)
    if recipe.task is Task.SAM:
        return SamTask(recipe, offline=offline, progress=progress)
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
    seed_everything(recipe.train.seed)
    model, variant, classes = _first_weights(recipe, train_set, offline, progress)
    info = model_info(recipe, classes)
    parts = _Parts(recipe, model, variant, info, train_set, val_set)
    if recipe.distill is None:
        return _plain(parts)
    return _distilled(parts, group=group, cache=cache, offline=offline, progress=progress)


def _first_weights(
    recipe: Recipe, train_set: Examples, offline: bool, progress: Progress | None
) -> tuple[nn.Module, Variant, ClassSet]:
    """The model to train; for int8 it is a trained one that keeps its classes."""
    from evit_cli.weights.load import load_model

    if recipe.distill is not None and recipe.distill.quantise:
        source = recipe.model.init or recipe.distill.teacher
        loaded = load_model(source, offline=offline, progress=progress)
        if loaded.variant.name != recipe.model.variant or loaded.info.classes is None:
            raise EvitError(
                f"{source} is {loaded.variant.name}, and model.variant {recipe.model.variant}"
            )
        return loaded.model, loaded.variant, loaded.info.classes
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
    model = start_model(recipe.model, variant, offline=offline, progress=progress).model
    return model, variant, _class_set(recipe.data.name, tuple(names))


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
    task = _student(parts, part).learn_from(Lessons(part, teacher, cached, extra))
    if isinstance(task, RoundedSegmentTask) and group.first:
        task.keep_measured(cache.parent / "calibration")
    return task


def _student(parts: _Parts, part: DistillPart) -> DistilledClassifyTask | DistilledSegmentTask:
    """The task of the kind that the recipe's section asks for, still without its teacher."""
    kind: type[DistilledClassifyTask] | type[DistilledSegmentTask] = DistilledSegmentTask
    if parts.recipe.task is Task.CLASSIFY:
        kind = DistilledClassifyTask
    elif part.quantise:
        kind = RoundedSegmentTask
    elif part.blocks:
        kind = BlockwiseSegmentTask
    task = parts.task(kind)
    if not isinstance(task, DistilledClassifyTask | DistilledSegmentTask):
        raise ValueError(f"{type(task).__name__} does not learn from a teacher")
    if isinstance(task, RoundedSegmentTask):
        path = None if part.class_map is None else Path(part.class_map)
        task.judge_by(*_judgement(path, parts))
    return task


def _judgement(class_map: Path | None, parts: _Parts) -> tuple[Sequence[int], ClassSet]:
    """The data's class for each of the model's, and the data's classes."""
    own, data = parts.info.classes, parts.val_set
    assert own is not None
    translation = choose_translation(class_map, own, data.name)
    if len(translation.classes) != len(data.classes):
        raise EvitError(
            f"the weights' {len(own)} classes are not the data's {len(data.classes)}",
            hint="give distill.class_map, a JSON file as for `evit eval --map`",
        )
    return translation.table, _class_set(data.name, tuple(data.classes))


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


def model_info(recipe: Recipe, classes: ClassSet) -> ModelInfo:
    """What the trained weights will say about themselves."""
    return ModelInfo(
        name=recipe.name,
        task=recipe.task,
        preprocess=_preprocess(recipe),
        classes=classes,
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
