"""The paper's metrics on a data set, by the published protocol of each set, over any `Session`."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from evit_cli.data.sample import Examples, check_size
from evit_cli.errors import EvitError
from evit_cli.inference.classifier import ImageClassifier
from evit_cli.inference.preprocess import Placement, place
from evit_cli.inference.segmenter import Segmenter
from evit_cli.metrics.classification import TopK
from evit_cli.metrics.segmentation import Confusion
from evit_cli.types import ImageSize, NoProgress, Preprocess, Progress

T = TypeVar("T")

_CITYSCAPES_HW = ImageSize(1024, 2048)
_CAMVID_HW = ImageSize(736, 960)
_ADE20K_SHORT = 512
_ADE20K_STRIDE = 32


class Group(Protocol):
    """Several processes that share the images of one evaluation (`train.distributed.Group`)."""

    def share(self, items: Sequence[T]) -> list[T]:
        """The items of this process."""

    def total(self, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The sum of integer counts over all processes."""


@dataclass(frozen=True)
class SegmentationScore:
    """The result on a segmentation set.

    Attributes:
        mean_iou: mean over the classes that occur, in [0, 1].
        pixel_accuracy: share of the labelled pixels that are right, in [0, 1].
        iou: (classes,) in [0, 1], NaN for classes that do not occur.
        confusion: (true class, predicted class) pixel counts.
        classes: names.
        images: how many were used.
        seconds: wall time.
        protocol: how images were fitted into the model's input, in words.
    """

    mean_iou: float
    pixel_accuracy: float
    iou: npt.NDArray[np.float64]
    confusion: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    images: int
    seconds: float
    protocol: str

    def summary(self) -> dict[str, Any]:
        """The score as plain values for JSON; classes that do not occur have None."""
        return {
            "mean_iou": self.mean_iou,
            "pixel_accuracy": self.pixel_accuracy,
            "iou": {
                name: round(float(value), 6) if np.isfinite(value) else None
                for name, value in zip(self.classes, self.iou, strict=True)
            },
            "images": self.images,
            "seconds": round(self.seconds, 3),
            "protocol": self.protocol,
        }


@dataclass(frozen=True)
class ClassificationScore:
    """The result on a classification set; accuracies in [0, 1]."""

    top1: float
    top5: float
    images: int
    seconds: float
    protocol: str


def _stretched(image_hw: ImageSize, input_hw: ImageSize) -> Placement:
    return Placement(image_hw, input_hw, input_hw)


def published_placement(dataset: str, image_hw: ImageSize, preprocess: Preprocess) -> Placement:
    """How the published evaluation of `dataset` lays an image into the input.

    Cityscapes: resized to 1024x2048, its own size. ADE20K: the short side to 512, the long one up
    to a multiple of 32, slightly stretched. CamVid (zero-shot): stretched to 736x960. Anything
    else: as `evit segment` does it, with the aspect kept.
    """
    if dataset not in ("cityscapes", "ade20k", "camvid"):
        return place(image_hw, preprocess)
    if dataset == "cityscapes":
        return _stretched(image_hw, _CITYSCAPES_HW)
    if dataset == "camvid":
        return _stretched(image_hw, _CAMVID_HW)
    short, long = sorted(image_hw)
    units = math.ceil(long / short * _ADE20K_SHORT / _ADE20K_STRIDE)
    sides = (_ADE20K_SHORT, units * _ADE20K_STRIDE)
    tall = image_hw.height > image_hw.width
    return _stretched(image_hw, ImageSize(*(sides[::-1] if tall else sides)))


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """At most `count` items, evenly over the whole sequence."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def part_used(used: int, of: int) -> str:
    """A caveat for scores over a part of a set."""
    return "" if used == of else f", ONLY {used} OF {of} IMAGES"


def evaluate_segmentation(
    segmenter: Segmenter,
    dataset: Examples,
    *,
    table: Sequence[int],
    classes: tuple[str, ...],
    max_images: int | None = None,
    group: Group | None = None,
    progress: Progress | None = None,
) -> SegmentationScore:
    """Mean IoU over a set, single scale, no flip, at the labels' resolution.

    Args:
        segmenter: the model; its `size_hw` replaces the published input size.
        dataset: images and labels.
        table: the set's class for each of the model's classes.
        classes: names of the set's classes.
        max_images: use this many, spread over the whole set.
        group: processes that share the work; each gets the score of the whole.
        progress: gets one step per image.

    Raises:
        EvitError: an image or label cannot be read, or they have different sizes.
    """
    progress = progress or NoProgress()
    lookup = np.asarray(table, dtype=np.int64)
    confusion = Confusion(len(dataset.classes))
    items = spread(range(len(dataset)), max_images)
    preprocess = segmenter.session.info.preprocess
    started = time.perf_counter()
    mine = items if group is None else group.share(items)
    progress.start(len(mine), "image")
    try:
        for index in mine:
            image, labels = dataset.read(index)
            if isinstance(labels, int):
                raise EvitError(f"data set '{dataset.name}' has no label per pixel")
            check_size(image, labels, dataset.where(index))
            size_hw = ImageSize(*image.shape[:2])
            if segmenter.size_hw is None:
                placement = published_placement(dataset.name, size_hw, preprocess)
            else:
                placement = segmenter.placement(size_hw)
            result = segmenter.segment_at(image, placement, antialias=False)
            confusion.update(labels, lookup[result.class_map])
            progress.advance(1, model_ms=result.model_ms)
    finally:
        progress.close()
    if group is not None:
        confusion.counts = group.total(confusion.counts)
    sizes = "published" if segmenter.size_hw is None else f"fitted into {segmenter.size_hw}"
    return SegmentationScore(
        mean_iou=confusion.mean_iou,
        pixel_accuracy=confusion.pixel_accuracy,
        iou=confusion.iou,
        confusion=confusion.counts,
        classes=classes,
        images=len(items),
        seconds=time.perf_counter() - started,
        protocol=f"single scale, no flip, input size {sizes}" + part_used(len(items), len(dataset)),
    )


def evaluate_classification(
    classifier: ImageClassifier,
    dataset: Examples,
    *,
    max_images: int | None = None,
    group: Group | None = None,
    progress: Progress | None = None,
) -> ClassificationScore:
    """Top-1 and top-5 accuracy by the published single-crop protocol.

    Args:
        classifier: the model.
        dataset: images and classes.
        max_images: use this many, spread over the whole set.
        group: processes that share the work; each gets the score of the whole.
        progress: gets one step per image.

    Raises:
        EvitError: the set has classes that the model does not know, or an image cannot be read.
    """
    progress = progress or NoProgress()
    if len(dataset.classes) > len(classifier.classes):
        raise EvitError(
            f"the set has {len(dataset.classes)} classes, and the model {len(classifier.classes)}"
        )
    items = spread(range(len(dataset)), max_images)
    score = TopK((1, 5))
    started = time.perf_counter()
    mine = items if group is None else group.share(items)
    progress.start(len(mine), "image")
    try:
        for index in mine:
            image, target = dataset.read(index)
            if not isinstance(target, int):
                raise EvitError(f"data set '{dataset.name}' has no class per image")
            result = classifier(image, topk=5)
            score.update(target, [prediction.index for prediction in result.top])
            progress.advance(1, model_ms=result.model_ms)
    finally:
        progress.close()
    if group is not None:
        hits = group.total(np.array([score.count, *score.hits.values()], np.int64))
        score.count = int(hits[0])
        score.hits = dict(zip(score.hits, map(int, hits[1:]), strict=True))
    preprocess = classifier.session.info.preprocess
    return ClassificationScore(
        top1=score.accuracy(1),
        top5=score.accuracy(5),
        images=len(items),
        seconds=time.perf_counter() - started,
        protocol=f"centre crop {preprocess.size_hw}, crop ratio {preprocess.crop_ratio}"
        + part_used(len(items), len(dataset)),
    )
