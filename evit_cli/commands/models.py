"""`evit models`: what there is, what is here, and fetching it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from evit_cli.commands.options import Force, Json, Offline, Quiet, examples
from evit_cli.errors import UsageError
from evit_cli.types import Task
from evit_cli.ui.download import download_progress
from evit_cli.ui.sink import Sink
from evit_cli.weights.catalog import CATALOG, PUBLISHED, CatalogEntry, get_entry
from evit_cli.weights.embedded import EMBEDDED, EmbeddedModel

app = typer.Typer(help="Models: list, inspect, fetch.", no_args_is_help=True)


def _size(entry: CatalogEntry) -> str:
    about = "" if entry.size_bytes else "~"
    return f"{about}{entry.approximate_bytes / 1e6:.1f} MB"


def _document(entry: CatalogEntry) -> dict[str, Any]:
    """The entry for JSON, with the path of its file where that is on this machine."""
    from evit_cli.weights.source import find_local

    path = find_local(entry)
    local = {"cached": path is not None, "path": None if path is None else str(path.absolute())}
    return asdict(entry) | local


def _embedded_document(model: EmbeddedModel) -> dict[str, Any]:
    files = {"weights": model.weights, "artifact": model.artifact, "card": model.card}
    plain = asdict(model) | {"task": model.task.value, "cached": True}
    return plain | {name: str(path) for name, path in files.items()}


@app.command(
    "ls",
    epilog=examples(
        "evit models ls", "evit models ls --task segment", "evit models ls --timm --json"
    ),
)
def list_models(
    task: Annotated[Task | None, typer.Option("--task", help="Only models for this task.")] = None,
    timm: Annotated[bool, typer.Option("--timm", help="Also the classifiers timm hosts.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
) -> None:
    """List the models: their cost, their accuracy, and whether they are on this machine.

    Those that travel with evit come first.

    Listing makes no request, with or without --offline.
    """
    from evit_cli.weights.source import find_local

    sink = Sink(json_output=json, quiet=quiet)
    entries = [e for e in (CATALOG if timm else PUBLISHED).values() if task in (None, e.task)]
    own = [model for model in EMBEDDED.values() if task in (None, model.task)]
    sink.json([*(_embedded_document(m) for m in own), *(_document(entry) for entry in entries)])
    if json:
        return
    columns = ("name", "task", "params", "MACs", "metric", "size", "cached")
    rows = []
    for model in own:
        cells = (model.name, model.task.value, f"{model.params / 1e6:.1f}M", model.macs)
        size = f"{model.weights.stat().st_size / 1e6:.1f} MB"
        rows.append(dict(zip(columns, (*cells, model.metric, size, "with evit"), strict=True)))
    for entry in entries:
        cells = (entry.name, entry.task.value, f"{entry.params / 1e6:.1f}M", entry.macs)
        here = "yes" if find_local(entry) else "no"
        rows.append(dict(zip(columns, (*cells, entry.metric, _size(entry), here), strict=True)))
    sink.table(columns, rows, "Models")


@app.command(
    "show",
    epilog=examples("evit models show seg-b0-cityscapes", "evit models show cls-b1-r256 --json"),
)
def show_model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `evit models ls`.")],
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
) -> None:
    """Show all that is known about one model. No request is made."""
    sink = Sink(json_output=json, quiet=quiet)
    if name in EMBEDDED:
        own = _embedded_document(EMBEDDED[name])
        sink.json(own)
        for key, value in own.items():
            sink.line(f"{key}\t{value}")
        return
    entry = get_entry(name)
    document = _document(entry)
    sink.json(document)
    preprocess = document.pop("preprocess")
    for key, value in (document | preprocess).items():
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else value
        text = str(entry.preprocess.size_hw) if key == "size_hw" else text
        text = entry.task.value if key == "task" else text
        text = ("no", "yes")[value] if isinstance(value, bool) else text
        sink.line(f"{key}\t{'' if text is None else text}".rstrip())


@app.command(
    "pull",
    epilog=examples(
        "evit models pull seg-b0-cityscapes",
        "evit models pull seg-b1-cityscapes cls-b1-r224 --to models",
        "evit models pull hf://timm/efficientvit_b1.r256_in1k",
    ),
)
def pull_models(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names, or hf:// addresses.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every published model (several GB).")
    ] = False,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Copy to DIR/owner/repo/file, for EVIT_MODELS_DIR."),
    ] = None,
    force: Force = False,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
) -> None:
    """Fetch weights into the hub cache, or into a folder to carry to a machine without a network.

    Prints the absolute path of each file. A file that is there and whole is kept.
    """
    from evit_cli.weights.pull import pull

    if bool(names) == everything:
        raise UsageError("name the models to fetch, or pass --all")
    sink = Sink(json_output=json, quiet=quiet)
    documents = []
    for name in names or PUBLISHED:
        pulled = pull(name, to=to, force=force, offline=offline, progress=download_progress(sink))
        sink.line(str(pulled.path))
        unchecked = "" if pulled.checked else ", no published hash to compare with"
        sink.say(
            f"{name}: {'kept' if pulled.kept else 'fetched'}, sha256 {pulled.sha256}{unchecked}"
        )
        documents.append(asdict(pulled))
    sink.json(documents)
