"""What `evit eval` can be asked, and which models take prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evit_cli.errors import UsageError
from evit_cli.types import ImageSize, Task

if TYPE_CHECKING:
    from evit_cli.data.masks import MaskPart

PROMPTED_SETS = ("coco", "lvis", "regions")


class Part(str, Enum):
    """Which images of a set."""

    VAL = "val"
    KEPT_OUT = "kept-out"


Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompts",
        metavar="box|1|3|5|all",
        help="Of promptable models: by box, or after so many clicks; may be repeated.",
    ),
]
Detections = Annotated[
    Path | None,
    typer.Option(
        "--detections",
        metavar="FILE",
        help="A detector's boxes in COCO's result format: average precision of the masks in them.",
    ),
]
SetPart = Annotated[
    Part | None,
    typer.Option(
        "--part",
        help="Of promptable models: all images, or those alone that training by evit kept out.",
    ),
]
Images = Annotated[
    Path | None,
    typer.Option("--images", metavar="DIR", help="Where the images of --dataset regions lie."),
]


@dataclass(frozen=True)
class PromptedEval:
    """What was asked of a promptable model; see `evit eval --help`."""

    dataset: str
    data: Path
    prompts: tuple[str, ...]
    detections: Path | None
    part: Part
    images: Path | None
    max_images: int | None

    @property
    def mask_part(self) -> MaskPart:
        """As data sets call it."""
        return "kept_out" if self.part is Part.KEPT_OUT else "all"


@dataclass(frozen=True)
class LabelledEval:
    """What was asked of a segmentation model; see `evit eval --help`."""

    dataset: str
    data: Path
    size_hw: ImageSize | None
    class_map: Path | None
    void: int | None
    max_images: int | None
    val_share: float | None
    out: Path | None


def refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse the first option that was given.

    Raises:
        UsageError: one was.
    """
    given = next((name for name, value in options.items() if value is not None), None)
    if given is not None:
        raise UsageError(f"{given} is for {why}")


def is_prompted(dataset: str, model: str | None, weights: Path | None, *, offline: bool) -> bool:
    """Whether a promptable model is to be measured: the set says it, or for COCO the model.

    Raises:
        EvitError: the model cannot be read.
    """
    if dataset != "coco":
        return dataset in PROMPTED_SETS
    from evit_cli.models.variants import VARIANTS
    from evit_cli.runtime.description import read_description
    from evit_cli.runtime.open import backend_of
    from evit_cli.weights.catalog import CATALOG
    from evit_cli.weights.embedded import EMBEDDED

    if backend_of(model) is not None:
        return read_description(Path(model or "")).info.task is Task.SAM
    for known in (CATALOG, EMBEDDED, VARIANTS):
        if model is not None and model in known:
            return known[model].task is Task.SAM
    from evit_cli.weights.load import load_model

    # A file of weights says it only once it is read.
    return load_model(model, weights=weights, offline=offline).info.task is Task.SAM
