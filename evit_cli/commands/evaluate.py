"""`evit eval`: the paper's metrics on a data set, by the published protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_cli.commands.evaluate_scores import (
    show_classification,
    show_segmentation,
    show_superres,
)
from evit_cli.commands.options import (
    BackendName,
    ClassMap,
    Force,
    Json,
    MaxImages,
    Model,
    Offline,
    Out,
    PrecisionName,
    Quiet,
    Size,
    Threads,
    ValShare,
    Void,
    Weights,
    examples,
    open_model,
    parse_size,
    processes,
    speaks,
)
from evit_cli.errors import EvitError, UsageError
from evit_cli.types import Task
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.runtime.session import Session

_EXAMPLES = examples(
    "evit eval --model seg-b0-cityscapes --dataset cityscapes --data cityscapes/ --json",
    "evit eval --weights mine.safetensors --dataset folders --data val/ --out result/",
    "evit eval --weights sr.safetensors --dataset superres --data set5/   # PSNR and SSIM on Y",
    "torchrun --nproc-per-node 8 -m evit_cli eval -m seg-l2-ade20k --dataset ade20k --data ade/",
)


def evaluate(
    dataset: Annotated[
        str,
        typer.Option(
            "--dataset",
            help="A set by name, as in recipes: cityscapes, camvid, folders, imagenet, ...",
        ),
    ],
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="Where the set lies.")],
    model: Model = None,
    weights: Weights = None,
    backend: BackendName = None,
    precision: PrecisionName = None,
    size: Size = None,
    class_map: ClassMap = None,
    void: Void = None,
    max_images: MaxImages = None,
    val_share: ValShare = None,
    out: Out = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: mean IoU per class, top-1 and top-5 accuracy, or PSNR and SSIM."""
    sink = Sink(json_output=json_output, quiet=quiet)
    size_hw = parse_size(size)
    from evit_cli.data.open import open_examples
    from evit_cli.media.outputs import check_folder

    if model is None and weights is None:
        raise UsageError("no model was named", hint="pass --model NAME, or --weights FILE")
    if out is not None:
        check_folder(out, ["confusion.png"], force=force)
    session = open_model(
        sink,
        model or "",
        weights=weights,
        backend=backend,
        precision=precision,
        threads=threads,
        offline=offline,
        size_hw=size_hw,
    )
    if session.info.task is not Task.SEGMENT:
        given = {"--size": size, "--map": class_map, "--void": void, "--out": out}
        for name in (name for name, value in given.items() if value is not None):
            kind = session.info.task.value
            raise UsageError(f"{name} is for segmentation, and {session.info.name} is for {kind}")
        _without_maps(sink, session, dataset, data, max_images=max_images, val_share=val_share)
        return
    if void is not None and dataset not in ("folders", "shards"):
        raise UsageError(f"--void is for --dataset folders; {dataset} has its own void label")

    from evit_cli.inference.evaluate import evaluate_segmentation
    from evit_cli.inference.segmenter import Segmenter
    from evit_cli.models.class_maps import choose_translation
    from evit_cli.ui.progress import progress_for

    segmenter = Segmenter(session, size_hw=size_hw)
    translation = choose_translation(class_map, segmenter.classes, dataset)
    count = len(translation.classes)
    void = 255 if void is None else void
    found = open_examples(dataset, data, "val", void=void, val_share=val_share, num_classes=count)
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
            max_images=max_images,
            group=group,
            progress=progress_for(sink) if speaks(group) else None,
        )
    if speaks(group):
        show_segmentation(sink, score, session, out)


def _without_maps(
    sink: Sink,
    session: Session,
    dataset: str,
    data: Path,
    *,
    max_images: int | None,
    val_share: float | None,
) -> None:
    """Super-resolution and classification."""
    if (session.info.task is Task.SUPERRES) != (dataset == "superres"):
        raise UsageError(f"{session.info.name} is for {session.info.task.value}, not for {dataset}")
    if session.info.task is Task.SUPERRES:
        show_superres(sink, session, data, max_images)
        return
    from evit_cli.data.open import open_examples

    found = open_examples(dataset, data, "val", val_share=val_share)
    show_classification(sink, session, found, max_images)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", epilog=_EXAMPLES)(evaluate)
