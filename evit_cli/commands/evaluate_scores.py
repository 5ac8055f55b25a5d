"""What `evit eval` says of each task's scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from evit_cli.commands.options import processes, speaks
from evit_cli.errors import EvitError, UsageError
from evit_cli.types import Task
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.commands.evaluate_options import LabelledEval
    from evit_cli.data.sample import Examples
    from evit_cli.inference.evaluate import SegmentationScore
    from evit_cli.runtime.session import Session


def show_without_maps(
    sink: Sink,
    session: Session,
    dataset: str,
    data: Path,
    *,
    max_images: int | None,
    val_share: float | None,
) -> None:
    """Measure and show super-resolution and classification."""
    name, task = session.info.name, session.info.task
    if task is Task.SAM:
        hint = "promptable models are measured on coco, lvis and regions"
        raise UsageError(f"{name} is for {task.value}, not for {dataset}", hint=hint)
    if (task is Task.SUPERRES) != (dataset == "superres"):
        raise UsageError(f"{name} is for {task.value}, not for {dataset}")
    if task is Task.SUPERRES:
        show_superres(sink, session, data, max_images)
        return
    from evit_cli.data.open import open_examples

    found = open_examples(dataset, data, "val", val_share=val_share)
    show_classification(sink, session, found, max_images)


def show_superres(sink: Sink, session: Session, data: Path, max_images: int | None) -> None:
    """Measure and show PSNR and SSIM on a folder of pairs."""
    from evit_cli.data.superres import Pairs
    from evit_cli.inference.enlarge import scale_of
    from evit_cli.inference.evaluate_superres import evaluate_superres
    from evit_cli.ui.progress import progress_for

    pairs = Pairs(data, scale_of(session))
    with processes() as group:
        score = evaluate_superres(
            session,
            pairs,
            max_images=max_images,
            group=group,
            progress=progress_for(sink) if speaks(group) else None,
        )
    if speaks(group):
        sink.json({"model": session.info.name, **asdict(score)})
        sink.line(f"PSNR {score.psnr_db:.2f} dB  SSIM {score.ssim:.4f}")
        sink.say(f"bicubic: {score.bicubic_psnr_db:.2f} dB, {score.bicubic_ssim:.4f}")
        sink.say(f"{score.images} images in {score.seconds:.1f} s; {score.protocol}")


def show_classification(
    sink: Sink, session: Session, found: Examples, max_images: int | None
) -> None:
    """Measure and show top-1 and top-5 accuracy."""
    from evit_cli.inference.classifier import ImageClassifier
    from evit_cli.inference.evaluate import evaluate_classification
    from evit_cli.ui.progress import progress_for

    with processes() as group:
        score = evaluate_classification(
            ImageClassifier(session),
            found,
            max_images=max_images,
            group=group,
            progress=progress_for(sink) if speaks(group) else None,
        )
    if speaks(group):
        sink.json({"model": session.info.name, **asdict(score)})
        sink.line(f"top-1 {100 * score.top1:.3f}  top-5 {100 * score.top5:.3f}")
        sink.say(f"{score.images} images in {score.seconds:.1f} s; {score.protocol}")


def measure_segmentation(sink: Sink, session: Session, asked: LabelledEval) -> None:
    """Measure and show mean IoU per class.

    Raises:
        EvitError: the set's classes are not the model's.
    """
    from evit_cli.data.open import open_examples
    from evit_cli.inference.evaluate import evaluate_segmentation
    from evit_cli.inference.segmenter import Segmenter
    from evit_cli.models.class_maps import choose_translation
    from evit_cli.ui.progress import progress_for

    dataset, void, val_share = asked.dataset, asked.void, asked.val_share
    if void is not None and dataset not in ("folders", "shards"):
        raise UsageError(f"--void is for --dataset folders; {dataset} has its own void label")
    segmenter = Segmenter(session, size_hw=asked.size_hw)
    translation = choose_translation(asked.class_map, segmenter.classes, dataset)
    count = len(translation.classes)
    void = 255 if void is None else void
    found = open_examples(
        dataset, asked.data, "val", void=void, val_share=val_share, num_classes=count
    )
    if len(found.classes) != count:
        raise EvitError(
            f"{dataset} has {len(found.classes)} classes, and the model's give {count}",
            hint="translate them with --map FILE",
        )
    with processes() as group:
        score = evaluate_segmentation(
            segmenter,
            found,
            table=translation.table,
            classes=translation.classes,
            max_images=asked.max_images,
            group=group,
            progress=progress_for(sink) if speaks(group) else None,
        )
    if speaks(group):
        show_segmentation(sink, score, session, asked.out)


def show_segmentation(
    sink: Sink, score: SegmentationScore, session: Session, out: Path | None
) -> None:
    """Show mean IoU, IoU per class, and a picture of the confusions if asked for."""
    summary = score.summary()
    which = {"backend": session.backend, "precision": session.precision}
    sink.json({"model": session.info.name} | which | summary)
    values = ((name, "-" if v is None else f"{v:.4f}") for name, v in summary["iou"].items())
    rows = [{"class": name, "IoU": text} for name, text in values]
    if sink.human:
        sink.table(["class", "IoU"], rows, title="IoU per class")
    sink.line(f"mIoU {score.mean_iou:.4f}  pixel accuracy {score.pixel_accuracy:.4f}")
    sink.say(f"{score.images} images in {score.seconds:.1f} s; {score.protocol}")
    if out is not None:
        from evit_cli.media.confusion_picture import save_confusion

        sink.line(str(save_confusion(out, score.confusion, score.classes).resolve()))
