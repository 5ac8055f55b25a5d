"""The options of `evit sam` that no other command has, and the model that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_cli.errors import UsageError
from evit_cli.types import Task
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.inference.sam_predictor import SamPredictor

Source = Annotated[
    str | None,
    typer.Argument(
        help="Image, folder, quoted glob, video, camera index or address; "
        "not needed where a --prompts file names images.",
        show_default=False,
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        "-p",
        metavar="x,y[,0|1]",
        help="A pixel on the object, or beside it with 0. May repeat: all are one object.",
    ),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        "-b",
        metavar="x0,y0,x1,y1",
        help="A box around an object. May repeat: each is one object.",
    ),
]
Everything = Annotated[
    bool, typer.Option("--everything", help="Find all objects of still images, without a prompt.")
]
PromptsFile = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE.jsonl",
        help="A JSON object per line: image, points, labels, boxes, id.",
    ),
]
Multimask = Annotated[
    bool, typer.Option("--multimask", help="Write all three answers to a prompt, not the best.")
]
Save = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="KINDS",
        help="Of overlay, mask, cutout, rle; default overlay,mask, of a video overlay.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--embedding-cache", metavar="DIR", help="Keep what the encoder made of each still image."
    ),
]
PointsPerSide = Annotated[
    int, typer.Option("--points-per-side", min=1, max=512, help="Everything: grid of NxN points.")
]
CropLayers = Annotated[
    int, typer.Option("--crop-layers", min=0, max=4, help="Everything: also in crops, for small.")
]
MinIou = Annotated[
    float, typer.Option("--min-iou", min=0, max=1, help="Everything: least expected IoU.")
]
MinStability = Annotated[
    float, typer.Option("--min-stability", min=0, max=1, help="Everything: least stability.")
]
MinArea = Annotated[
    int, typer.Option("--min-area", min=0, help="Everything: clean up regions of fewer pixels.")
]
Ui = Annotated[
    bool, typer.Option("--ui", help="Click and draw on a page in the browser, on this machine.")
]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="Of --ui; 0 for a free one.")]


def default_model(sink: Sink) -> str:
    """The promptable model that travels with evit; says what to expect of it.

    Raises:
        UsageError: none does.
    """
    from evit_cli.weights.embedded import EMBEDDED

    found = next((m.name for m in EMBEDDED.values() if m.task is Task.SAM), None)
    if found is None:
        raise UsageError(
            "no promptable model travels with this version of evit",
            hint="name one, for example --model sam-l0, or trained weights with --weights",
        )
    sink.say(f"{found} is small and experimental; --model sam-l0 fetches a published model")
    return found


def open_predictor(
    sink: Sink,
    model: str,
    *,
    weights: Path | None,
    backend: str | None,
    precision: str | None,
    threads: int | None,
    offline: bool,
    cache: Path | None,
) -> SamPredictor:
    """The predictor that the model options ask for; `model` is empty if only weights were given."""
    from evit_cli.inference.sam_embedding import EmbeddingCache
    from evit_cli.inference.sam_predictor import SamPredictor
    from evit_cli.runtime.open import parse_backend, parse_precision
    from evit_cli.runtime.sam import open_sam
    from evit_cli.ui.download import download_progress

    kept = None if cache is None else EmbeddingCache(cache)
    session = open_sam(
        model or None,
        weights=weights,
        backend=parse_backend(backend),
        precision=parse_precision(precision),
        threads=threads,
        offline=offline,
        progress=download_progress(sink),
    )
    sink.say(f"{session.info.name} on {session.backend.value} {session.precision.value}")
    return SamPredictor(session, kept)
