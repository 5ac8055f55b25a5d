"""What `evit eval` says of each task's scores."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from evit_cli.commands.options import processes, speaks
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.data.sample import Examples
    from evit_cli.inference.evaluate import SegmentationScore
    from evit_cli.runtime.session import Session


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
