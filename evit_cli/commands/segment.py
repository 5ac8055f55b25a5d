"""`evit segment`: semantic segmentation of images, videos, cameras and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

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
    Size,
    Threads,
    Weights,
    examples,
    open_model,
    parse_size,
    split_list,
)
from evit_cli.commands.run_output import end_run, rows_to
from evit_cli.commands.segment_options import (
    Save,
    StreamTo,
    StreamToken,
    kinds_to_save,
    streaming,
    window,
)
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    pass

DEFAULT_MODEL = "seg-b0-street"
_EXAMPLES = examples(
    "evit segment drive.mp4",
    "evit segment photos/ --save overlay,mask,json --out result/",
    "evit segment 0 --model seg-b1-cityscapes --max-frames 300 --json",
    "evit segment rtsp://camera.local/stream --size 512x1024 --every 2 --out stream.mp4",
    "evit segment 0 --stream http://127.0.0.1:8080",
)


def segment(
    source: Annotated[
        str,
        typer.Argument(
            help="Image, folder, quoted glob, video, camera index, rtsp:// or http:// address, "
            "or a GStreamer pipeline."
        ),
    ],
    model: Model = None,
    weights: Weights = None,
    backend: BackendName = None,
    precision: PrecisionName = None,
    size: Size = None,
    save: Save = None,
    out: Out = None,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0, max=1, help="Opacity of the colours.")
    ] = 0.5,
    classes: Annotated[
        str | None, typer.Option("--classes", metavar="NAMES", help="Colour only these classes.")
    ] = None,
    legend: Annotated[
        bool, typer.Option("--legend/--no-legend", help="Write names and shares into overlays.")
    ] = True,
    every: Every = 1,
    max_frames: MaxFrames = None,
    show: Annotated[bool, typer.Option("--show", help="Also show a live window.")] = False,
    stream: StreamTo = None,
    stream_token: StreamToken = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Give every pixel a class: overlays, ids, colours and shares for anything with frames."""
    sink = Sink(json_output=json_output, quiet=quiet)
    size_hw = parse_size(size)

    from evit_cli.inference.segment_job import SegmentRequest, check_request, segment_source
    from evit_cli.inference.segmenter import Segmenter
    from evit_cli.media.open import open_source
    from evit_cli.media.rules import rules_here
    from evit_cli.ui.progress import progress_for

    rules = rules_here(notice=sink.warn)
    request = SegmentRequest(
        save=kinds_to_save(save, out, streamed=stream is not None),
        out=out,
        alpha=alpha,
        legend=legend,
        only=split_list(classes),
        every=every,
        max_frames=max_frames,
        force=force,
        watched=stream is not None or show,
        encode_on=rules.board,
    )
    with open_source(source, rules) as frames:
        check_request(request, frames)  # before a model is fetched for nothing
        with streaming(sink, stream, stream_token) as live:
            session = open_model(
                sink,
                model or ("" if weights else DEFAULT_MODEL),
                weights=weights,
                backend=backend,
                precision=precision,
                threads=threads,
                offline=offline,
                size_hw=size_hw,
            )
            segmenter = Segmenter(session, size_hw=size_hw)
            sink.say(f"{session.info.name} on {session.backend.value} {session.precision.value}")
            report = segment_source(
                frames,
                segmenter,
                request,
                progress=progress_for(sink),
                on_row=rows_to(sink) if json_output else None,
                show=window("evit segment") if show else None,
                stream=live,
            )
    end_run(sink, report)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("segment", epilog=_EXAMPLES)(segment)
