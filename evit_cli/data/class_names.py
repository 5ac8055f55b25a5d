"""Names of classes: the published ones, those of `classes.txt`, and numbers if none is known."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from evit_cli.errors import EvitError

NAMES_FILE = "classes.txt"


def published_names(dataset: str) -> tuple[str, ...]:
    """Names of "imagenet", "cityscapes" or "ade20k", in the order of their class indices."""
    text = (files("evit_cli") / "assets" / "classes" / f"{dataset}.json").read_text("utf-8")
    return tuple(json.loads(text)["classes"])


def numbered_names(count: int) -> tuple[str, ...]:
    """Stand-in names: "class 0", "class 1", ..."""
    return tuple(f"class {index}" for index in range(count))


def listed_names(root: Path) -> tuple[str, ...] | None:
    """The names in `root/classes.txt`, one per line, or None if there is no such file.

    Raises:
        EvitError: the file is empty, or a name is missing or there twice.
    """
    path = root / NAMES_FILE
    if not path.is_file():
        return None
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise EvitError(f"{path} cannot be read as text: {error}") from error
    for number, name in enumerate(names):
        # An empty line would shift the names of all later classes.
        if not name or name in names[:number]:
            wrong = f"repeats the name '{name}'" if name else "is empty"
            raise EvitError(
                f"line {number + 1} of {path} {wrong}",
                hint="one name per line; the first line is class 0",
            )
    if not names:
        raise EvitError(f"{path} names no class", hint="one name per line")
    return tuple(names)
