"""Photographs to learn super-resolution from, and pairs of images to measure it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_cli.data.bicubic import resize_bicubic_u8
from evit_cli.data.sample import ImageU8, wrong_layout
from evit_cli.data.sampling import Request
from evit_cli.errors import EvitError
from evit_cli.media.images import IMAGE_SUFFIXES, read_image

_HR, _LR = "_HR", "_LR"
_MARGIN = 8
"""Small pixels around a patch that are made with it: its edge is then that of the whole image."""


@dataclass(frozen=True)
class PhotoFolder:
    """Photographs of one folder.

    Attributes:
        folder: where they are, at any depth.
        weight: how often their pixels are seen, beside those of the other folders.
        shrink: they are made smaller by this factor first.
    """

    folder: Path
    weight: float = 1.0
    shrink: int = 1


def image_files(folder: Path) -> list[Path]:
    """All images below a folder, in the order of their names.

    Raises:
        EvitError: there are none.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise wrong_layout(folder, ["any names, at any depth: *.png *.jpg ..."], "it has no images")
    return files


def divisible(image: ImageU8, scale: int) -> ImageU8:
    """The image without the last rows and columns that `scale` leaves over."""
    height, width = (side - side % scale for side in image.shape[:2])
    return image[:height, :width]


def shrunk(image: ImageU8, factor: int) -> ImageU8:
    """The image made smaller by a whole factor, as the benchmarks' small images were."""
    return resize_bicubic_u8(image, Fraction(1, factor))


class PhotoPatches:
    """Random patches of photographs: the small image, and the original it was made from.

    An example is a photograph, and stands in the set as often as patches fit into it, times its
    folder's weight: one epoch sees about every pixel once.

    Args:
        folders: where the photographs are.
        scale: of the enlargement.
        patch_hw: a patch of the small image that examples are counted by.
        turn: mirror and turn patches at random.
        cache_bytes: photographs are kept in memory up to so many bytes.

    Raises:
        EvitError: a folder has no images, or none that holds a patch.
    """

    def __init__(
        self,
        folders: Sequence[PhotoFolder],
        scale: int,
        *,
        patch_hw: tuple[int, int],
        turn: bool = True,
        cache_bytes: int = 8 << 30,
    ) -> None:
        self.scale, self.turn = scale, turn
        self._photos = [
            (path, source.shrink) for source in folders for path in image_files(source.folder)
        ]
        self._kept: dict[int, tuple[ImageU8, ImageU8]] = {}
        self._sizes: list[tuple[int, int]] = []
        kept = 0
        for index in range(len(self._photos)):
            image = self._read(index)
            self._sizes.append(image.shape[:2])
            if kept + image.nbytes <= cache_bytes:
                small = shrunk(image, scale)
                self._kept[index] = small, image
                kept += image.nbytes + small.nbytes
        self._order = self._repeated(folders, patch_hw)

    def _repeated(
        self, folders: Sequence[PhotoFolder], patch_hw: tuple[int, int]
    ) -> npt.NDArray[np.int64]:
        """Indices of photographs, each as often as it counts."""
        weights = [s.weight for s in folders for _ in image_files(s.folder)]
        patch = self.scale**2 * patch_hw[0] * patch_hw[1]
        counts = [
            max(1, round(weight * height * width / patch)) if self._holds(i, patch_hw) else 0
            for i, ((height, width), weight) in enumerate(zip(self._sizes, weights, strict=True))
        ]
        if not any(counts):
            sides = " x ".join(str(self.scale * side) for side in patch_hw)
            raise EvitError(
                f"no photograph in {folders[0].folder} holds a patch of {sides} pixels",
                hint="lower superres.patch_hw",
            )
        return np.repeat(np.arange(len(counts)), counts)

    def __len__(self) -> int:
        return len(self._order)

    def where(self, index: int) -> str:
        """The file of one example."""
        return str(self._photos[self._order[index]][0])

    def sample(self, request: Request) -> dict[str, ImageU8]:
        """A patch "image" (h, w, 3) uint8 RGB, its original "target" (scale h, scale w, 3).

        A photograph too small for the size asked for gives way to another one.
        """
        rng = request.rng()
        photo = int(self._order[request.index])
        while not self._holds(photo, request.size_hw):
            photo = int(self._order[rng.integers(len(self._order))])
        small, large = self._cut(photo, request, rng)
        if self.turn:
            quarters, mirrored = int(rng.integers(4)), bool(rng.integers(2))
            if request.size_hw.height != request.size_hw.width:
                quarters -= quarters % 2  # half turns alone keep the shape
            small, large = (_turned(patch, quarters, mirrored) for patch in (small, large))
        return {"image": np.ascontiguousarray(small), "target": np.ascontiguousarray(large)}

    def _read(self, index: int) -> ImageU8:
        path, factor = self._photos[index]
        image = read_image(path)[0]
        image = shrunk(image, factor) if factor > 1 else image
        return np.ascontiguousarray(divisible(image, self.scale))

    def _holds(self, photo: int, patch_hw: tuple[int, int]) -> bool:
        sides = zip(self._sizes[photo], patch_hw, strict=True)
        return all(side >= self.scale * wanted for side, wanted in sides)

    def _cut(
        self, photo: int, request: Request, rng: np.random.Generator
    ) -> tuple[ImageU8, ImageU8]:
        """A patch at random, and its small image: cut from the whole one, or made as if it were."""
        s = self.scale
        height, width = request.size_hw
        top = int(rng.integers(self._sizes[photo][0] // s - height + 1))
        left = int(rng.integers(self._sizes[photo][1] // s - width + 1))
        if photo in self._kept:
            small, image = self._kept[photo]
            cut = small[top : top + height, left : left + width]
            return cut, image[s * top : s * (top + height), s * left : s * (left + width)]
        image = self._read(photo)
        above, before = min(top, _MARGIN), min(left, _MARGIN)
        window = image[
            s * (top - above) : s * (top + height + _MARGIN),
            s * (left - before) : s * (left + width + _MARGIN),
        ]
        small = shrunk(window, s)[above : above + height, before : before + width]
        return small, image[s * top : s * (top + height), s * left : s * (left + width)]


def _turned(patch: ImageU8, quarters: int, mirrored: bool) -> ImageU8:
    turned = np.rot90(patch, quarters)
    return turned[:, ::-1] if mirrored else turned


class Pairs:
    """Small images and their originals.

    The folder holds pairs `NAME_HR.png` and `NAME_LR.png` (Set5 and Set14 are published as
    `img_001_SRF_2_HR.png`), or photographs, whose small images are made as the benchmarks' are.

    Args:
        folder: where they are.
        scale: of the enlargement.

    Raises:
        EvitError: there are no images, or an original has no small image.
    """

    name = "superres"

    def __init__(self, folder: Path, scale: int) -> None:
        self.folder, self.scale = folder, scale
        files = image_files(folder)
        originals = [path for path in files if path.stem.endswith(_HR)]
        self.made = not originals
        self.files = files if self.made else originals
        if self.made:
            return
        for path in originals:
            if not self._small(path).exists():
                raise EvitError(
                    f"{path} has no small image",
                    hint=f"put {self._small(path).name} beside it, or photographs alone",
                )

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        """The file of the original."""
        return str(self.files[index])

    def read(self, index: int) -> tuple[ImageU8, ImageU8]:
        """The small image (h, w, 3) and its original (scale h, scale w, 3), uint8 RGB.

        Raises:
            EvitError: a file cannot be read, or the sizes do not belong together.
        """
        path = self.files[index]
        large = divisible(read_image(path)[0], self.scale)
        small = shrunk(large, self.scale) if self.made else read_image(self._small(path))[0]
        expected = tuple(side // self.scale for side in large.shape[:2])
        if small.shape[:2] != expected:
            found, wanted = ("x".join(map(str, hw)) for hw in (small.shape[:2], expected))
            raise EvitError(
                f"{self._small(path)} is {found} pixels, not {wanted}",
                hint=f"the model enlarges {self.scale} times",
            )
        return small, large

    @staticmethod
    def _small(original: Path) -> Path:
        return original.with_name(original.stem.removesuffix(_HR) + _LR + original.suffix)
