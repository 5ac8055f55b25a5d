"""What every data set gives, and the errors of a folder that is laid out in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.palette import has_palette, palette_indices
from evit_cli.errors import EvitError

ImageU8 = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int16]
Part = Literal["train", "val"]

IGNORE = -1
"""The label of pixels that do not count."""

_SHOWN = 8
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB\x60\x82"


class Examples(Protocol):
    """What training reads: images with their targets, in a fixed order."""

    @property
    def name(self) -> str:
        """The kind of data set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, index by index."""

    def __len__(self) -> int:
        """How many examples there are."""

    def read(self, index: int) -> tuple[ImageU8, Labels | int]:
        """One example: RGB (H, W, 3) uint8, and its labels or its class.

        Labels are (H, W) int16 in 0 .. len(classes) - 1, or `IGNORE`.

        Raises:
            EvitError: a file cannot be read, or does not hold what it should.
        """

    def where(self, index: int) -> str:
        """The file of one example, for messages."""


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


def decode_labels(data: bytes, path: Path) -> npt.NDArray[np.integer[Any]]:
    """The values of an encoded label image, (H, W) uint8 or uint16 as they are in the file.

    Raises:
        EvitError: it does not decode, ends too early, or has several values per pixel.
    """
    if data.startswith(_PNG_START) and _PNG_END not in data:
        # OpenCV would fill the rest with zeros, which is a class.
        raise EvitError(f"{path} ends in the middle of the image", hint="copy the file again")
    try:
        raw = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        raw = None
    if raw is None:
        raise EvitError(f"{path} is not a label image that can be decoded")
    if raw.ndim == 3 and has_palette(data):
        return palette_indices(data, raw, path)
    if raw.ndim != 2:
        raise EvitError(
            f"{path} is a colour image, a label image has one value per pixel",
            hint="save class indices as a grey PNG or one with a palette",
        )
    if raw.dtype.kind not in "iu":
        raise EvitError(
            f"{path} has {raw.dtype} pixels, labels are whole numbers",
            hint="save class indices as a grey PNG",
        )
    return np.asarray(raw)


def read_labels(path: Path) -> npt.NDArray[np.integer[Any]]:
    """`decode_labels` of a file.

    Raises:
        EvitError: likewise, or the file cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise EvitError(f"{path} cannot be read: {error.strerror}") from error
    return decode_labels(data, path)


def check_size(image: ImageU8, labels: Labels, where: str) -> None:
    """Labels have as many pixels as their image.

    Raises:
        EvitError: they do not; the message names the file of the labels, `where`.
    """
    if labels.shape != image.shape[:2]:
        raise EvitError(
            f"{where} is {labels.shape[0]}x{labels.shape[1]} pixels, its image "
            f"{image.shape[0]}x{image.shape[1]}",
            hint="every image and its labels have the same height and width",
        )


def check_labels(labels: npt.NDArray[np.integer[Any]], num_classes: int, path: Path) -> Labels:
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
            hint="give the void label (--void, in a recipe data.void), or map the labels",
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
