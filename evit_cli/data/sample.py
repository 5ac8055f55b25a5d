"""What every data set gives, and the errors of a folder that is laid out in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError

IGNORE = -1
"""The label of pixels that do not count."""

_SHOWN = 8


@dataclass(frozen=True)
class SegmentItem:
    """One image of a segmentation set and where its labels are."""

    image: Path
    label: Path


@dataclass(frozen=True)
class ClassItem:
    """One image of a classification set and its class."""

    image: Path
    target: int


def check_labels(
    labels: npt.NDArray[np.integer[Any]], num_classes: int, path: Path
) -> npt.NDArray[np.int16]:
    """Labels as int16 (H, W), `IGNORE` or in 0 .. num_classes - 1.

    Raises:
        EvitError: a label is out of range; the message names file and value.
    """
    if labels.ndim != 2:
        raise EvitError(
            f"{path} has {labels.ndim} dimensions, a label image has one value per pixel",
            hint="save class indices as a grey PNG",
        )
    out = (labels < IGNORE) | (labels >= num_classes)
    if out.any():
        raise EvitError(
            f"{path} holds the label {int(labels[out].flat[0])}, outside 0..{num_classes - 1}",
            hint="give the void label with --void, or map the labels",
        )
    return labels.astype(np.int16)


def wrong_layout(root: Path, expected: Sequence[str], problem: str) -> EvitError:
    """The error for a folder that is not laid out as a data set: what was expected and found."""
    tree = "\n".join(f"    {line}" for line in expected)
    found = "nothing, the folder does not exist"
    if root.is_dir():
        names = sorted(p.name + ("/" if p.is_dir() else "") for p in root.iterdir())
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        found = ", ".join(names[:_SHOWN]) + more or "nothing, the folder is empty"
    return EvitError(
        f"{root} is not laid out as expected: {problem}",
        hint=f"expected\n{tree}\n  found in {root}: {found}",
    )
