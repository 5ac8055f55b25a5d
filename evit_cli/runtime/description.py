"""What an artifact says about itself: inside the file, and in a JSON file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from evit_cli import __version__
from evit_cli.errors import EvitError
from evit_cli.runtime import container
from evit_cli.runtime.sam_part import SamPart, read_part
from evit_cli.types import ClassSet, ImageSize, ModelInfo, Precision, Preprocess, Task

FORMAT = 2
_FORMAT_OF_PARTS = 3
"""Of the halves of a SAM model, which an evit that reads format 2 alone could not run."""
_READABLE = (1, FORMAT, _FORMAT_OF_PARTS)


@dataclass(frozen=True)
class Description:
    """An exported model's description.

    Attributes:
        info: the model's.
        size_hw: the input size it runs at; the smallest where sizes are free.
        precision: of its arithmetic.
        largest_hw: the largest input size, None where `size_hw` is the only one. Sizes between are
            multiples of the model's stride.
        batch: images per run.
        layout: of the input, "NHWC" or "NCHW".
        dtype: of the input, "uint8" or "float32"; RGB from 0 to 255 in either. Normalisation is
            part of the graph.
        islands: layers kept in float32 (or, in an int8 model, in float) by name.
        calibration: of an int8 model: the images' "sha256", how many "images", and "method".
        profile: the device profile it was made for, "" for none.
        verification: how it compared with its source; empty if it was not compared.
        sam: which half of a SAM model it is, None of any other.
        evit_version: that wrote it.
    """

    info: ModelInfo
    size_hw: ImageSize
    precision: Precision
    largest_hw: ImageSize | None = None
    batch: int = 1
    layout: str = "NHWC"
    dtype: str = "uint8"
    islands: tuple[str, ...] = ()
    calibration: Mapping[str, Any] = field(default_factory=dict)
    profile: str = ""
    verification: Mapping[str, Any] = field(default_factory=dict)
    sam: SamPart | None = None
    evit_version: str = __version__

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Shape of the input tensor, None where free."""
        space = (None, None) if self.largest_hw else tuple(self.size_hw)
        rest = (*space, 3) if self.layout == "NHWC" else (3, *space)
        return (self.batch, *rest)


def description_path(artifact: Path) -> Path:
    """Where the description beside an artifact lies: model.tflite.json beside model.tflite."""
    return artifact.with_name(f"{artifact.name}.json")


def describe_artifact(artifact: Path, description: Description) -> None:
    """Write the description into the artifact and beside it."""
    text = encode_description(description)
    container.write_text(artifact, text)
    description_path(artifact).write_text(text, "utf-8")


def encode_description(description: Description) -> str:
    """The text that `read_description` reads back."""
    info, largest = description.info, description.largest_hw
    document: dict[str, Any] = {
        "format": FORMAT if description.sam is None else _FORMAT_OF_PARTS,
        "evit_version": description.evit_version,
        "name": info.name,
        "task": info.task.value,
        "profile": description.profile,
        "precision": description.precision.value,
        "islands": list(description.islands),
        "calibration": dict(description.calibration),
        "input": {
            "size_hw": list(description.size_hw),
            "largest_hw": None if largest is None else list(largest),
            "batch": description.batch,
            "layout": description.layout,
            "dtype": description.dtype,
            "range": [0, 255],
            "channels": "RGB",
        },
        "verification": dict(description.verification),
        "licence": info.licence,
        "source_sha256": info.sha256,
        "preprocess": {
            "size_hw": list(info.preprocess.size_hw),
            "mean_rgb": list(info.preprocess.mean_rgb),
            "std_rgb": list(info.preprocess.std_rgb),
            "in_graph": True,
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
    if description.sam is not None:
        document["sam"] = description.sam.document()
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def read_description(artifact: Path) -> Description:
    """The description inside `artifact`, or else beside it.

    Raises:
        EvitError: the artifact or its description is missing, or not one of this evit.
    """
    if not artifact.is_file():
        raise EvitError(f"there is no file {artifact}")
    where = description_path(artifact)
    inside = False
    try:
        text = container.read_text(artifact)
        inside = text is not None
        raw = json.loads(text if text is not None else where.read_text("utf-8"))
    except FileNotFoundError as error:
        raise EvitError(
            f"{artifact} does not say what it is, and {where.name} is missing beside it",
            hint="only artifacts of `evit export` run; copy the .json along with the artifact",
        ) from error
    except (OSError, ValueError) as error:
        raise EvitError(
            f"{artifact if inside else where} does not say what it is: {error}", hint="export again"
        ) from error
    name = artifact if inside else where
    try:
        if raw["format"] not in _READABLE:
            raise EvitError(
                f"{name} has format {raw['format']}, not {FORMAT} or {_FORMAT_OF_PARTS}",
                hint="use the evit that wrote it, or export again",
            )
        return _description(raw, artifact)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise EvitError(f"{name} lacks or garbles {error}", hint="export again") from error


def _description(raw: dict[str, Any], artifact: Path) -> Description:
    source = raw if raw["format"] == 1 else raw["input"]
    largest = source.get("largest_hw")
    return Description(
        _info(raw, artifact),
        _size(source["size_hw"]),
        Precision(raw["precision"]),
        largest_hw=None if largest is None else _size(largest),
        batch=int(source.get("batch", 1)),
        layout=str(source.get("layout", "NHWC")),
        dtype=str(source.get("dtype", "uint8")),
        islands=tuple(str(name) for name in raw.get("islands", ())),
        calibration=dict(raw.get("calibration", {})),
        profile=str(raw.get("profile", "")),
        verification=dict(raw.get("verification", {})),
        sam=read_part(raw["sam"]) if raw["format"] == _FORMAT_OF_PARTS else None,
        evit_version=str(raw.get("evit_version", "0.1.0")),
    )


def _size(raw: list[Any]) -> ImageSize:
    height, width = raw
    return ImageSize(int(height), int(width))


def _rgb(raw: list[Any]) -> tuple[float, float, float]:
    red, green, blue = raw
    return float(red), float(green), float(blue)


def _info(raw: dict[str, Any], artifact: Path) -> ModelInfo:
    classes, preprocess = raw["classes"], raw["preprocess"]
    usual = Preprocess(_size(preprocess["size_hw"]))
    return ModelInfo(
        name=str(raw["name"]),
        task=Task(raw["task"]),
        preprocess=replace(
            usual,
            # Format 1 does not say them; they are in the graph in any case.
            mean_rgb=_rgb(preprocess.get("mean_rgb", usual.mean_rgb)),
            std_rgb=_rgb(preprocess.get("std_rgb", usual.std_rgb)),
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
