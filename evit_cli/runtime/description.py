"""What an artifact says about itself: a JSON file beside it, with the suffix replaced."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evit_cli.errors import EvitError
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Precision, Preprocess, Task

FORMAT = 1


@dataclass(frozen=True)
class Description:
    """An exported model's description.

    Attributes:
        info: the model's.
        size_hw: the only input size it runs at.
        precision: of its arithmetic.
    """

    info: ModelInfo
    size_hw: ImageSize
    precision: Precision


def description_path(artifact: Path) -> Path:
    """Where the description of an artifact lies."""
    return artifact.with_suffix(".json")


def encode_description(description: Description) -> str:
    """The text that `read_description` reads back."""
    info = description.info
    document = {
        "format": FORMAT,
        "name": info.name,
        "task": info.task.value,
        "size_hw": list(description.size_hw),
        "precision": description.precision.value,
        "licence": info.licence,
        "source_sha256": info.sha256,
        "preprocess": {
            "size_hw": list(info.preprocess.size_hw),
            "interpolation": info.preprocess.interpolation,
            "crop_ratio": info.preprocess.crop_ratio,
            "stride": info.preprocess.stride,
        },
        "classes": None
        if info.classes is None
        else {
            "name": info.classes.name,
            "classes": list(info.classes.classes),
            "colors_rgb": [list(color) for color in info.classes.colors_rgb],
        },
    }
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def read_description(artifact: Path) -> Description:
    """The description beside `artifact`.

    Raises:
        EvitError: it is missing, or not one of this evit.
    """
    path = description_path(artifact)
    try:
        raw = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise EvitError(
            f"{artifact} does not say what it is: {path.name} is missing beside it",
            hint="copy the .json along with the artifact",
        ) from error
    except (OSError, ValueError) as error:
        raise EvitError(f"{path} cannot be read: {error}") from error
    try:
        if raw["format"] != FORMAT:
            raise EvitError(
                f"{path} has format {raw['format']}, not {FORMAT}",
                hint="use the evit that wrote it, or export again",
            )
        height, width = raw["size_hw"]
        size = ImageSize(int(height), int(width))
        return Description(_info(raw, artifact), size, Precision(raw["precision"]))
    except (KeyError, TypeError, ValueError) as error:
        raise EvitError(f"{path} lacks or garbles {error}", hint="export again") from error


def _info(raw: dict[str, Any], artifact: Path) -> ModelInfo:
    classes, preprocess = raw["classes"], raw["preprocess"]
    height, width = preprocess["size_hw"]
    return ModelInfo(
        name=str(raw["name"]),
        task=Task(raw["task"]),
        preprocess=Preprocess(
            ImageSize(int(height), int(width)),
            interpolation=str(preprocess["interpolation"]),
            crop_ratio=float(preprocess["crop_ratio"]),
            stride=int(preprocess["stride"]),
        ),
        classes=None if classes is None else _classes(classes),
        licence=str(raw["licence"]),
        source=str(artifact),
        sha256=str(raw["source_sha256"]),
    )


def _classes(raw: dict[str, Any]) -> ClassSet:
    colors = tuple((int(r), int(g), int(b)) for r, g, b in raw["colors_rgb"])
    return ClassSet(str(raw["name"]), tuple(str(name) for name in raw["classes"]), colors)
