"""Class names and display colours of the published models' datasets. No torch is imported here."""

from __future__ import annotations

import colorsys
import json
from functools import cache
from importlib.resources import files

from evit_cli.errors import EvitError, suggest
from evit_cli.types import ClassSet

DATASETS = ("imagenet", "cityscapes", "ade20k", "camvid")


@cache
def class_set(dataset: str) -> ClassSet:
    """The classes of one of `DATASETS`, in the order of the model's outputs.

    Raises:
        EvitError: there is no such class set.
    """
    if dataset not in DATASETS:
        raise EvitError(f"there is no class set '{dataset}'", hint=suggest(dataset, DATASETS))
    text = (files("evit_cli") / "assets" / "classes" / f"{dataset}.json").read_text("utf-8")
    raw = json.loads(text)
    colors = tuple((r, g, b) for r, g, b in raw["colors_rgb"])
    return ClassSet(dataset, tuple(raw["classes"]), colors or spread_colors(len(raw["classes"])))


def spread_colors(count: int) -> tuple[tuple[int, int, int], ...]:
    """`count` colours that neighbours can be told apart by: hues stepped by the golden angle."""
    colors = []
    for i in range(count):
        hue = (0.61803398875 * i) % 1.0
        value = (0.95, 0.75, 0.55)[i % 3]
        r, g, b = colorsys.hsv_to_rgb(hue, 0.55 + 0.4 * ((i // 3) % 2), value)
        colors.append((round(r * 255), round(g * 255), round(b * 255)))
    return tuple(colors)


def numbered_classes(count: int) -> ClassSet:
    """Stand-in names ("class 0", ...) for weights that do not name their classes."""
    return ClassSet("custom", tuple(f"class {i}" for i in range(count)), spread_colors(count))
