"""`evit sam`: masks of objects by points, boxes, or of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from evit_cli.commands import sam_options as own
from evit_cli.commands.options import (
    BackendName,
    Every,
    Force,
    Json,
    MaxFrames,
    Model,
    Offline,
    Out,
    PrecisionName,
    Quiet,
    Threads,
    Weights,
    examples,
    split_list,
)
from evit_cli.commands.run_output import end_run, rows_to
from evit_cli.commands.sam_page import serve
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    pass

_EXAMPLES = examples(
    "evit sam dog.jpg --point 320,240 --point 100,80,0",
    "evit sam street.jpg --box 40,60,200,300 --box 260,80,400,310 --save overlay,cutout",
    "evit sam photos/ --everything --save rle",
    "evit sam drive.mp4 --box 410,220,560,330",
)


def sam(
    source: own.Source = None,
    point: own.Points = None,
    box: own.Boxes = None,
    everything: own.Everything = False,
    prompts: own.PromptsFile = None,
    ui: own.Ui = False,
    port: own.Port = 0,
    model: Model = None,
    weights: Weights = None,
    backend: BackendName = None,
    precision: PrecisionName = None,
    multimask: own.Multimask = False,
    save: own.Save = None,
    points_per_side: own.PointsPerSide = 32,
    crop_layers: own.CropLayers = 0,
    min_iou: own.MinIou = 0.88,
    min_stability: own.MinStability = 0.95,
    min_area: own.MinArea = 0,
    embedding_cache: own.Cache = None,
    out: Out = None,
    every: Every = 1,
    max_frames: MaxFrames = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Cut out objects by points and boxes, or everything; in a video, follow them.

    A video is tracked by re-prompting: what is asked in the first frame is asked again in each that
    follows, with the last mask's box, centre and logits. There is no memory beyond that.
    """
    sink = Sink(json_output=json_output, quiet=quiet)

    from evit_cli.inference.mask_generator import GeneratorOptions
    from evit_cli.inference.sam_job import SamRequest, check_request, open_frames, sam_source
    from evit_cli.inference.sam_prompts import gather
    from evit_cli.ui.progress import progress_for

    name = model or ("" if weights else own.default_model(sink))
    generator = GeneratorOptions(
        points_per_side=points_per_side,
        crop_layers=crop_layers,
        min_predicted_iou=min_iou,
        min_stability=min_stability,
        min_region_px=min_area,
    )
    asked = gather(point or (), box or (), prompts, source=source)
    request = SamRequest(
        asked,
        everything=generator if everything else None,
        every_answer=multimask,
        save=split_list(save),
        out=out,
        every=every,
        max_frames=max_frames,
        force=force,
    )
    with open_frames(source, asked) as frames:
        if not ui:
            check_request(request, frames)  # before a model is fetched for nothing
        predictor = own.open_predictor(
            sink,
            name,
            weights=weights,
            backend=backend,
            precision=precision,
            threads=threads,
            offline=offline,
            cache=embedding_cache,
        )
        if ui:
            serve(sink, predictor, frames, port)
            return
        report = sam_source(
            frames,
            predictor,
            request,
            progress=progress_for(sink),
            on_row=rows_to(sink) if json_output else None,
        )
    end_run(sink, report)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sam", epilog=_EXAMPLES)(sam)
