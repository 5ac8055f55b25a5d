"""What evit's own weights files say about themselves: one JSON text in the safetensors header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from evit_cli import __version__
from evit_cli.models.variants import Variant
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Preprocess, Task

KEY = "evit"
FORMAT = 1
"""Raised when a reader of the previous format would misunderstand the new one."""


@dataclass(frozen=True)
class SavedInfo:
    """The decoded metadata: the model's info and how to build it."""

    info: ModelInfo
    variant: str
    num_classes: int


def encode(info: ModelInfo, variant: Variant) -> str:
    """The JSON text that `decode` reads back."""
    preprocess, classes = info.preprocess, info.classes
    document = {
        "format": FORMAT,
        "evit": __version__,
        "variant": variant.name,
        "num_classes": variant.num_classes,
        "name": info.name,
        "task": info.task.value,
        "licence": info.licence,
        "source": info.source,
        "preprocess": {
            "size_hw": list(preprocess.size_hw),
            "mean_rgb": list(preprocess.mean_rgb),
            "std_rgb": list(preprocess.std_rgb),
            "interpolation": preprocess.interpolation,
            "crop_ratio": preprocess.crop_ratio,
            "stride": preprocess.stride,
        },
        "classes": None
        if classes is None
        else {
            "name": classes.name,
            "classes": list(classes.classes),
            "colors_rgb": [list(color) for color in classes.colors_rgb],
        },
    }
    return json.dumps(document, ensure_ascii=False)


def decode(text: str) -> SavedInfo:
    """Read what `encode` wrote.

    Raises:
        ValueError: the text is not such a document; the message says what is wrong with it.
    """
    try:
        raw = json.loads(text)
        if raw["format"] != FORMAT:
            raise ValueError(f"its metadata has format {raw['format']}, not {FORMAT}")
        saved = SavedInfo(_info(raw), str(raw["variant"]), int(raw["num_classes"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"its metadata lacks or garbles {error}") from error
    except json.JSONDecodeError as error:
        raise ValueError("its metadata is not JSON") from error
    classes = saved.info.classes
    if classes is not None and not len(classes) == len(classes.colors_rgb) == saved.num_classes:
        raise ValueError(
            f"its metadata names {len(classes)} classes and {len(classes.colors_rgb)} colours"
            f" for {saved.num_classes} outputs"
        )
    return saved


def _info(raw: dict[str, Any]) -> ModelInfo:
    return ModelInfo(
        name=str(raw["name"]),
        task=Task(raw["task"]),
        preprocess=_preprocess(raw["preprocess"]),
        classes=None if raw["classes"] is None else _classes(raw["classes"]),
        licence=str(raw["licence"]),
        source=str(raw["source"]),
    )


def _preprocess(raw: dict[str, Any]) -> Preprocess:
    height, width = raw["size_hw"]
    return Preprocess(
        size_hw=ImageSize(int(height), int(width)),
        mean_rgb=_three_floats(raw["mean_rgb"]),
        std_rgb=_three_floats(raw["std_rgb"]),
        interpolation=str(raw["interpolation"]),
        crop_ratio=float(raw["crop_ratio"]),
        stride=int(raw["stride"]),
    )


def _three_floats(raw: list[float]) -> tuple[float, float, float]:
    r, g, b = raw
    return float(r), float(g), float(b)


def _classes(raw: dict[str, Any]) -> ClassSet:
    colors = tuple((int(r), int(g), int(b)) for r, g, b in raw["colors_rgb"])
    return ClassSet(str(raw["name"]), tuple(str(c) for c in raw["classes"]), colors)
