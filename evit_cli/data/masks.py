"""Images with masks of no class: what promptable segmentation learns from.

An image has any number of masks, which may overlap. They are drawn one by one when they are asked
for: all hundred masks of one SA-1B image at once would take a third of a gigabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, overload

import numpy as np
import numpy.typing as npt

from evit_cli.data.sample import ImageU8
from evit_cli.errors import EvitError

BoolMask = npt.NDArray[np.bool_]
MaskPart = Literal["all", "train", "kept_out"]

_KEPT_OUT, _OF = 7, 32


class Masks(Sequence[BoolMask]):
    """The masks of one image, (H, W) bool each, drawn when they are read.

    Args:
        count: how many there are.
        draw: makes the mask of an index; may raise `EvitError`.
    """

    def __init__(self, count: int, draw: Callable[[int], BoolMask]) -> None:
        self._count, self._draw = count, draw

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> BoolMask: ...
    @overload
    def __getitem__(self, index: slice) -> list[BoolMask]: ...
    def __getitem__(self, index: int | slice) -> BoolMask | list[BoolMask]:
        if isinstance(index, slice):
            return [self._draw(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"there are {self._count} masks, and none at {index}")
        return self._draw(index % self._count)


class MaskExamples(Protocol):
    """Images with masks, in a fixed order."""

    @property
    def name(self) -> str:
        """The kind of data set."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, index: int) -> tuple[ImageU8, Masks]:
        """RGB (H, W, 3) uint8 and its masks, (H, W) bool each.

        Raises:
            EvitError: a file cannot be read, or does not hold what it should.
        """

    def where(self, index: int) -> str:
        """The image file, for messages."""


def kept_out(count: int) -> npt.NDArray[np.int64]:
    """The places, in the order of file names, that are never trained on: 7 of every 32, spread.

    Of coco128 that makes 28 images. They tune and measure `sam-b0`.
    """
    places = np.arange(count)
    return np.flatnonzero((places + 1) * _KEPT_OUT // _OF > places * _KEPT_OUT // _OF)


def part_of(count: int, part: MaskPart) -> npt.NDArray[np.int64]:
    """The places of a set's images that belong to a part, in ascending order."""
    if part == "all":
        return np.arange(count)
    out = kept_out(count)
    return out if part == "kept_out" else np.setdiff1d(np.arange(count), out)


def fits(mask: BoolMask, area: tuple[float, float]) -> bool:
    """Whether a mask has a pixel, and a share of its image within the limits."""
    pixels = int(np.count_nonzero(mask))
    return pixels > 0 and area[0] <= pixels / mask.size <= area[1]


@dataclass(frozen=True)
class MixedSet:
    """One set of a mixture.

    Attributes:
        examples: its images.
        weight: how often each is seen, beside those of the other sets.
        area: masks with a share of their image outside these limits are left out.
    """

    examples: MaskExamples
    weight: float = 1.0
    area: tuple[float, float] = (0.0, 1.0)


class MaskMixture:
    """Several sets as one: an image stands in it as often as its weight says.

    The smallest weight counts as one, so that no image is lost. Where a weight is no whole multiple
    of it, the first images of that set stand in the mixture once more than the others.

    Args:
        sets: what is mixed.

    Raises:
        EvitError: there is no image.
    """

    name = "masks"

    def __init__(self, sets: Sequence[MixedSet]) -> None:
        self.sets = list(sets)
        sizes = [len(one.examples) for one in self.sets]
        if not any(sizes):
            raise EvitError("the sets of masks hold no image")
        least = min(one.weight for one in self.sets)
        wanted = [
            round(size * one.weight / least) for size, one in zip(sizes, self.sets, strict=True)
        ]
        self._owners = np.repeat(np.arange(len(sizes)), wanted)
        repeats = [np.arange(n) % max(size, 1) for n, size in zip(wanted, sizes, strict=True)]
        self._places = np.concatenate(repeats)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> tuple[ImageU8, Masks]:
        """RGB (H, W, 3) uint8 and all its masks; see `MaskExamples`."""
        return self._of(index).examples.read(int(self._places[index]))

    def area(self, index: int) -> tuple[float, float]:
        """The limits of a mask's share of the image."""
        return self._of(index).area

    def where(self, index: int) -> str:
        """The image file."""
        return self._of(index).examples.where(int(self._places[index]))

    def _of(self, index: int) -> MixedSet:
        return self.sets[int(self._owners[index])]
