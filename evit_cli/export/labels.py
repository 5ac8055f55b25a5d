"""Mean IoU of an artifact and of its source against labels, on the same inputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evit_cli.data.open import open_examples
from evit_cli.data.sample import Examples
from evit_cli.errors import EvitError, UsageError
from evit_cli.export.fidelity import Originals, open_originals
from evit_cli.inference.evaluate import evaluate_segmentation
from evit_cli.inference.segmenter import Segmenter
from evit_cli.models.class_maps import ClassTranslation, choose_translation
from evit_cli.runtime.session import Session
from evit_cli.types import ModelInfo, Progress, Task


@dataclass(frozen=True)
class Labels:
    """A labelled set, its classes for the model's, and how many of its images to use."""

    examples: Examples
    translation: ClassTranslation
    max_images: int | None = None


def open_labels(
    info: ModelInfo, dataset: str | None, folder: Path | None, *, max_images: int | None = None
) -> Labels | Originals | None:
    """The validation part of a labelled set, as `evit eval` opens it; None where none is named.

    Raises:
        UsageError: the set is not for what the model does.
        EvitError: the set is not there, or has other classes.
    """
    if (dataset is None) != (folder is None):
        raise UsageError("--dataset and --data go together")
    if dataset is None or folder is None:
        return None
    if info.task is Task.SUPERRES and dataset == "superres":
        return open_originals(folder, max_images)
    if info.task is not Task.SEGMENT or info.classes is None:
        raise UsageError(
            f"--dataset {dataset} is for segmentation, and {info.name} does not segment"
        )
    translation = choose_translation(None, info.classes, dataset)
    count = len(translation.classes)
    examples = open_examples(dataset, folder, "val", num_classes=count)
    if len(examples.classes) != count:
        raise EvitError(
            f"{dataset} has {len(examples.classes)} classes, and the model's give {count}",
            hint="choose a set with the model's classes",
        )
    return Labels(examples, translation, max_images)


def mean_ious(
    artifact: Session, source: Session, labels: Labels, progress: Progress
) -> tuple[float, float]:
    """Mean IoU of the artifact and of its source; both get the same inputs."""
    own = Segmenter(artifact)
    other = Segmenter(source)
    other.fixed_hw, other.size_hw = own.fixed_hw, own.size_hw
    found, expected = (
        evaluate_segmentation(
            segmenter,
            labels.examples,
            table=labels.translation.table,
            classes=labels.translation.classes,
            max_images=labels.max_images,
            progress=progress,
        ).mean_iou
        for segmenter in (own, other)
    )
    return found, expected
