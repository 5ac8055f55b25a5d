"""`evit classify`: the most likely ImageNet (or own) classes of images."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from evit_cli.commands.options import (
    BackendName,
    Every,
    Json,
    MaxFrames,
    Model,
    Offline,
    PrecisionName,
    Quiet,
    Threads,
    Weights,
    examples,
    open_model,
)
from evit_cli.errors import EvitError
from evit_cli.ui.sink import Sink

DEFAULT_MODEL = "cls-b1-r224"
_EXAMPLES = examples(
    "evit classify cat.jpg",
    "evit classify photos/ --model cls-l2-r384 --topk 3 --json",
    "evit classify clip.mp4 --every 30",
)


def classify(
    source: Annotated[str, typer.Argument(help="Image, folder, quoted glob or video.")],
    model: Model = None,
    weights: Weights = None,
    backend: BackendName = None,
    precision: PrecisionName = None,
    topk: Annotated[int, typer.Option("--topk", min=1, help="How many classes to name.")] = 5,
    every: Every = 1,
    max_frames: MaxFrames = None,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Name what images show: the most likely classes with their probabilities."""
    sink = Sink(json_output=json_output, quiet=quiet)

    from evit_cli.inference.classifier import ImageClassifier
    from evit_cli.media.open import open_source

    with open_source(source) as frames:
        session = open_model(
            sink,
            model or ("" if weights else DEFAULT_MODEL),
            weights=weights,
            backend=backend,
            precision=precision,
            threads=threads,
            offline=offline,
        )
        classifier = ImageClassifier(session)
        done = 0
        for frame in frames.frames():
            if frame.index % every:
                continue
            result = classifier(frame.image_rgb_u8, topk=topk)
            row: dict[str, Any] = {
                "frame": frame.index,
                "name": frame.name,
                "model_ms": round(result.model_ms, 3),
                "top": [
                    {"index": p.index, "class": p.name, "probability": round(p.probability, 6)}
                    for p in result.top
                ],
            }
            sink.json(row)
            where = frame.name if frame.time_s is None else f"{float(frame.time_s):.2f} s"
            names = ", ".join(f"{p.name} {p.probability:.1%}" for p in result.top)
            sink.line(f"{where}\t{names}")
            done += 1
            if done == max_frames:
                break
        if frames.skipped.count:
            sink.warn(f"skipped {frames.skipped.count}: {frames.skipped.first[0]}")
        if done == 0:
            raise EvitError(f"{frames.name} gave no image")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("classify", epilog=_EXAMPLES)(classify)
