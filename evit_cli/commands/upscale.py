"""`evit upscale`: super-resolution of images and videos."""

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
    Threads,
    Weights,
    examples,
    open_model,
)
from evit_cli.commands.run_output import end_run, rows_to
from evit_cli.errors import UsageError
from evit_cli.types import Task
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    pass

_EXAMPLES = examples(
    "evit upscale photo.jpg",
    "evit upscale scans/ --out large/ --scale 4",
    "evit upscale drive.mp4 --compare --max-frames 100",
    "evit upscale photo.png --model sr-xs-x2.tflite --out photo-large.png",
)


def upscale(
    source: Annotated[
        str,
        typer.Argument(help="Image, folder, quoted glob, video, camera index or address."),
    ],
    model: Model = None,
    weights: Weights = None,
    backend: BackendName = None,
    precision: PrecisionName = None,
    scale: Annotated[
        int | None,
        typer.Option(
            "--scale", min=2, max=16, help="The model's own, or a power of it by several passes."
        ),
    ] = None,
    tile: Annotated[
        str,
        typer.Option("--tile", metavar="auto|N|off", help="Side of the tiles, by free memory."),
    ] = "auto",
    overlap: Annotated[
        int, typer.Option("--overlap", min=0, max=512, help="Pixels that neighbours share.")
    ] = 32,
    compare: Annotated[
        bool, typer.Option("--compare", help="Write bicubic and model side by side instead.")
    ] = False,
    out: Out = None,
    every: Every = 1,
    max_frames: MaxFrames = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make pictures and videos larger, with what belongs to them: sound, alpha, 16 bits, EXIF."""
    sink = Sink(json_output=json_output, quiet=quiet)

    from evit_cli.inference.tiles import parse_tile
    from evit_cli.inference.upscale_job import UpscaleRequest, check_request, upscale_source
    from evit_cli.inference.upscaler import Upscaler
    from evit_cli.media.open import open_source
    from evit_cli.ui.progress import progress_for

    side = parse_tile(tile)
    name = model or ("" if weights else default_model())
    request = UpscaleRequest(
        out=out, compare=compare, every=every, max_frames=max_frames, force=force
    )
    with open_source(source) as frames:
        check_request(request, frames)  # before a model is fetched for nothing
        session = open_model(
            sink,
            name,
            weights=weights,
            backend=backend,
            precision=precision,
            threads=threads,
            offline=offline,
        )
        upscaler = Upscaler(session, scale=scale, tile=side, overlap=overlap)
        sink.say(
            f"{session.info.name} on {session.backend.value} {session.precision.value}, "
            f"{upscaler.scale} times larger"
        )
        report = upscale_source(
            frames,
            upscaler,
            request,
            progress=progress_for(sink),
            on_row=rows_to(sink) if json_output else None,
        )
    end_run(sink, report)


def default_model() -> str:
    """The super-resolution model that travels with evit.

    Raises:
        UsageError: none does.
    """
    from evit_cli.weights.embedded import EMBEDDED

    found = next((m.name for m in EMBEDDED.values() if m.task is Task.SUPERRES), None)
    if found is None:
        raise UsageError(
            "no super-resolution model travels with this version of evit",
            hint="name one with --model, or trained weights with --weights",
        )
    return found


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("upscale", epilog=_EXAMPLES)(upscale)
