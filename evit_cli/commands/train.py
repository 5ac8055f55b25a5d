"""`evit train` and `evit distill`: from a recipe and data to weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_cli.commands.options import Force, Json, Offline, Quiet, Threads, examples
from evit_cli.errors import UsageError
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.config.recipe import Recipe
    from evit_cli.train.loop import TrainResult

_TRAIN_EXAMPLES = examples(
    "evit train seg/custom --data my-images/ --out runs/mine",
    "evit train seg/cityscapes-b1 --data cityscapes/ --set train.batch_size=8 --resume auto",
    "torchrun --nproc-per-node 8 -m evit_cli train cls/imagenet-b1-r224 --data imagenet/",
)
_DISTILL_EXAMPLES = examples(
    "evit distill seg/custom --data my-images/ --teacher runs/big/best.safetensors",
    "evit distill my-recipe.yaml --data my-images/ --teacher big.safetensors --extra drive.mp4",
)

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A name from `evit recipes ls`, or a YAML file.")
]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Where the data set lies.")
]
OutDir = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="DIR", help="Run folder; default runs/NAME.")
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the recipe; repeatable."),
]
Resume = Annotated[
    str | None,
    typer.Option(
        "--resume", metavar="auto|FILE", help="Go on from the run folder's checkpoint, or a file."
    ),
]


def train(
    recipe: RecipeName,
    data: Data = None,
    out: OutDir = None,
    overrides: Set = None,
    resume: Resume = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model by a recipe; alone, or as torchrun's processes on any number of machines."""
    changes = _changes(overrides, data)
    sink = Sink(json_output=json_output, quiet=quiet)
    found = _load(recipe, changes)
    if found.distill is not None:
        raise UsageError(f"{found.name} learns from a teacher", hint=f"run `evit distill {recipe}`")
    _run(sink, found, out, resume=resume, force=force, offline=offline, threads=threads)


def distill(
    recipe: RecipeName,
    data: Data = None,
    teacher: Annotated[
        str | None,
        typer.Option("--teacher", metavar="NAME|FILE", help="The model to learn from."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option(
            "--extra", metavar="PATH", help="Unlabelled images, folders, videos; repeatable."
        ),
    ] = None,
    out: OutDir = None,
    overrides: Set = None,
    resume: Resume = None,
    force: Force = False,
    offline: Offline = False,
    threads: Threads = None,
    json_output: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a model to answer as a teacher does, beside or without labels."""
    changes = _changes(overrides, data)
    if teacher is not None:
        changes.append(f"distill.teacher={json.dumps(teacher)}")
    if extra:
        changes.append(f"distill.extra={json.dumps(extra)}")
    sink = Sink(json_output=json_output, quiet=quiet)
    found = _load(recipe, changes)
    if found.distill is None or found.distill.teacher is None:
        raise UsageError(f"{found.name} names no teacher", hint="pass --teacher NAME|FILE")
    _run(sink, found, out, resume=resume, force=force, offline=offline, threads=threads)


def _changes(overrides: list[str] | None, data: Path | None) -> list[str]:
    """What the options change in the recipe; JSON is YAML."""
    folder = [] if data is None else [f"data.dir={json.dumps(str(data.expanduser()))}"]
    return [*(overrides or []), *folder]


def _load(name: str, changes: list[str]) -> Recipe:
    from evit_cli.config.recipe import find_recipe, load_recipe

    return load_recipe(find_recipe(name), changes)


def _run(
    sink: Sink,
    recipe: Recipe,
    out: Path | None,
    *,
    resume: str | None,
    force: bool,
    offline: bool,
    threads: int | None,
) -> None:
    from evit_cli.errors import require

    require("torch", extra="train", why="training")
    import torch

    from evit_cli.train.checkpoint import FILE_NAME
    from evit_cli.train.run import TrainRequest, train
    from evit_cli.ui.progress import progress_for

    if threads is not None:
        torch.set_num_threads(threads)
    folder = out or Path("runs") / recipe.name
    request = TrainRequest(recipe, folder, resume=resume, force=force, offline=offline)
    try:
        result = train(request, progress_for(sink))
    except KeyboardInterrupt:
        if (folder / FILE_NAME).exists():
            sink.say(f"stopped; --resume auto goes on from {(folder / FILE_NAME).resolve()}")
        raise
    if result.first:
        _render(sink, recipe, result)


def _render(sink: Sink, recipe: Recipe, result: TrainResult) -> None:
    sink.json(
        {
            "recipe": recipe.name,
            "steps": result.steps,
            result.metric: result.best,
            "weights": str(result.weights.resolve()),
            "seconds": round(result.seconds, 3),
        }
    )
    decibels = result.metric.endswith("_db")
    sink.line(f"{result.metric} {result.best if decibels else 100 * result.best:.2f}")
    sink.line(str(result.weights.resolve()))
    sink.say(f"{result.steps} steps; the whole story is in {result.weights.parent.resolve()}")


def register(app: typer.Typer) -> None:
    """Add both commands."""
    app.command("train", epilog=_TRAIN_EXAMPLES)(train)
    app.command("distill", epilog=_DISTILL_EXAMPLES)(distill)
