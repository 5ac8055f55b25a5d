"""`evit eval`: the paper's metrics on a data set, by the published protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evit_cli.commands.evaluate_options import (
    PROMPTED_SETS,
    Detections,
    Images,
    LabelledEval,
    Part,
    PromptedEval,
    Prompts,
    SetPart,
    is_prompted,
    refuse,
)
from evit_cli.commands.evaluate_prompted import open_prompted, show_prompted
from evit_cli.commands.evaluate_scores import measure_segmentation, show_without_maps
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
)
from evit_cli.errors import UsageError
from evit_cli.types import Task
from evit_cli.ui.sink import Sink

_EXAMPLES = examples(
    "evit eval --model seg-b0-cityscapes --dataset cityscapes --data cityscapes/ --json",
    "evit eval --weights mine.safetensors --dataset folders --data val/ --out result/",
    "evit eval --weights sr.safetensors --dataset superres --data set5/   # PSNR and SSIM on Y",
    "evit eval --model sam-b0 --dataset coco --data coco/ --prompts box --prompts 1",
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
    prompts: Prompts = None,
    detections: Detections = None,
    part: SetPart = None,
    images: Images = None,
    out: Out = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model: mean IoU per class, accuracy, PSNR and SSIM, or masks by prompts."""
    sink = Sink(json_output=json_output, quiet=quiet)
    size_hw = parse_size(size)
    from evit_cli.media.outputs import check_folder

    if model is None and weights is None:
        raise UsageError("no model was named", hint="pass --model NAME, or --weights FILE")
    maps_only = {"--size": size, "--map": class_map, "--void": void, "--out": out}
    prompted_only = {
        "--prompts": prompts, "--detections": detections, "--part": part, "--images": images
    }  # fmt: skip
    if is_prompted(dataset, model, weights, offline=offline):
        refuse(maps_only | {"--val-share": val_share}, "models without prompts")
        asked = PromptedEval(
            dataset,
            data,
            prompts=tuple(prompts or ()),
            detections=detections,
            part=part or Part.VAL,
            images=images,
            max_images=max_images,
        )
        prompted = open_prompted(
            sink,
            model,
            weights=weights,
            backend=backend,
            precision=precision,
            threads=threads,
            offline=offline,
        )
        show_prompted(sink, prompted, asked)
        return
    refuse(prompted_only, f"promptable models, on {', '.join(PROMPTED_SETS)}")
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
        refuse(maps_only, f"segmentation, and {session.info.name} is for {session.info.task.value}")
        show_without_maps(sink, session, dataset, data, max_images=max_images, val_share=val_share)
        return
    labelled = LabelledEval(
        dataset, data, size_hw, class_map, void, max_images=max_images, val_share=val_share, out=out
    )
    measure_segmentation(sink, session, labelled)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("eval", epilog=_EXAMPLES)(evaluate)
