"""Translating a model's classes to those of another data set. No torch is imported here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from evit_cli.errors import EvitError
from evit_cli.types import ClassSet


@dataclass(frozen=True)
class ClassTranslation:
    """`table[i]` is the data set's class for the model's class i."""

    classes: tuple[str, ...]
    table: tuple[int, ...]


def choose_translation(
    path: Path | None, model_classes: ClassSet, dataset: str
) -> ClassTranslation:
    """The translation in the file `path`, else the one shipped for `dataset`, else none."""
    if path is not None:
        return read_translation(path, model_classes)
    return shipped_translation(model_classes, dataset) or identity(model_classes)


def identity(classes: ClassSet) -> ClassTranslation:
    """Each class stays what it is."""
    return ClassTranslation(classes.classes, tuple(range(len(classes))))


def read_translation(path: Path, model_classes: ClassSet) -> ClassTranslation:
    """A translation from a JSON file: {"classes": [names...], "map": [one index per model class]}.

    Raises:
        EvitError: the file is missing, is no such document, or does not fit the model.
    """
    try:
        raw = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise EvitError(f"there is no class map {path}") from error
    except (OSError, ValueError) as error:
        raise EvitError(f"{path} is not a class map: {error}") from error
    return _checked(raw, path.name, model_classes)


def _checked(raw: Any, where: str, model_classes: ClassSet) -> ClassTranslation:
    names, table = (raw.get(key) if isinstance(raw, dict) else None for key in ("classes", "map"))
    if not isinstance(names, list) or not isinstance(table, list) or not names:
        raise EvitError(
            f"{where} is not a class map",
            hint='write {"classes": ["road", ...], "map": [0, 0, ...]}, one index per model class',
        )
    if len(table) != len(model_classes):
        raise EvitError(
            f"{where} maps {len(table)} classes, and the model has {len(model_classes)}"
        )
    wrong = [index for index in table if not isinstance(index, int) or not 0 <= index < len(names)]
    if wrong:
        raise EvitError(f"{where} maps to {wrong[0]}, outside 0..{len(names) - 1}")
    return ClassTranslation(tuple(str(name) for name in names), tuple(table))


def shipped_translation(model_classes: ClassSet, dataset: str) -> ClassTranslation | None:
    """The translation from the model's class set to `dataset` that evit ships, if any."""
    name = f"{model_classes.name}_to_{dataset}.json"
    resource = files("evit_cli") / "assets" / "class_maps" / name
    if not resource.is_file():
        return None
    return _checked(json.loads(resource.read_text("utf-8")), name, model_classes)
