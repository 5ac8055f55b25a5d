"""`evit recipes`: the training recipes that come with evit, and a copy to start one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evit_cli.commands import options
from evit_cli.ui.sink import Sink

if TYPE_CHECKING:
    from evit_cli.config.recipe import Recipe

app = typer.Typer(
    help="Training recipes: list, show, and copy one as a start for your own.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_LS_EXAMPLES = options.examples("evit recipes ls", "evit recipes ls --json")
_SHOW_EXAMPLES = options.examples(
    "evit recipes show seg/cityscapes-b1",
    "evit recipes show mine.yaml --json   # checked, with every default written out",
)
_COPY_EXAMPLES = options.examples(
    "evit recipes copy seg/custom mine.yaml",
    "evit recipes copy cls/imagenet-b1-r224 b1.yaml --force",
)

Name = Annotated[
    str, typer.Argument(metavar="NAME|FILE", help="A name from `evit recipes ls`, or a file.")
]


@app.command("ls", epilog=_LS_EXAMPLES)
def list_recipes(json_output: options.Json = False, quiet: options.Quiet = False) -> None:
    """List the recipes: what each trains, and the metric to expect."""
    from evit_cli.config.recipe import find_recipe, load_recipe, recipe_names

    sink = Sink(json_output=json_output, quiet=quiet)
    rows = [_row(name, load_recipe(find_recipe(name))) for name in recipe_names()]
    if not json_output:
        for row in rows:
            row["expected"] = _expected(row)
    sink.table(("name", "task", "model", "expected"), rows, "Recipes")


def _row(name: str, recipe: Recipe) -> dict[str, Any]:
    expected = recipe.expected
    decibels = expected is not None and expected.metric.endswith("_db")
    return {
        "name": name,
        "task": recipe.task.value,
        "model": recipe.model.variant,
        "data": recipe.data.name,
        "metric": None if expected is None else expected.metric,
        "value_percent": None if expected is None or decibels else expected.value,
        "value_db": expected.value if expected is not None and decibels else None,
        "source": None if expected is None else expected.source,
    }


def _expected(row: dict[str, Any]) -> str:
    if row["value_db"] is not None:
        return f"{row['metric']} {row['value_db']:g} dB ({row['source']})"
    if row["value_percent"] is None:
        return ""
    return f"{row['metric']} {row['value_percent']:g} % ({row['source']})"


@app.command("show", epilog=_SHOW_EXAMPLES)
def show_recipe(
    name: Name, json_output: options.Json = False, quiet: options.Quiet = False
) -> None:
    """Print a recipe as it is written, comments included."""
    from evit_cli.config.recipe import find_recipe, load_recipe

    sink = Sink(json_output=json_output, quiet=quiet)
    path = find_recipe(name)
    recipe = load_recipe(path)
    sink.json(recipe.model_dump(mode="json"))
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        sink.line(line)


@app.command("copy", epilog=_COPY_EXAMPLES)
def copy_recipe(
    name: Name,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write the copy.")],
    force: options.Force = False,
    json_output: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Copy a recipe to a file of your own, to be changed and given to `evit train`."""
    from evit_cli.config.recipe import find_recipe
    from evit_cli.errors import EvitError
    from evit_cli.weights.atomic import atomic_file

    sink = Sink(json_output=json_output, quiet=quiet)
    source = find_recipe(name)
    if file.is_dir():
        raise EvitError(f"{file} is a folder", hint="name the file to write, such as mine.yaml")
    if file.exists() and not force:
        raise EvitError(f"{file} exists already", hint="pass --force to overwrite it")
    text = source.read_bytes()
    with atomic_file(file) as copy:
        copy.write(text)
    path = str(file.absolute())
    sink.json({"recipe": name, "path": path})
    sink.line(path)
    sink.say(f"next: evit train {file} --data DIR")
