"""Images beside maps of region numbers: every number but 0 is a mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from evit_cli.data.masks import MaskPart, Masks, part_of
from evit_cli.data.sample import ImageU8, check_size, read_labels, wrong_layout
from evit_cli.errors import EvitError
from evit_cli.media.images import IMAGE_SUFFIXES, read_image

_TREE = ["images/NAME.jpg", "masks/NAME.png"]


class RegionFolder:
    """See `MaskExamples`.

    Args:
        folder: with `images/` and `masks/`, grey or palette PNGs of 8 or 16 bits.
        part: which images are wanted.

    Raises:
        EvitError: the folder is laid out in another way, or an image has no map.
    """

    name = "regions"

    def __init__(self, folder: Path, part: MaskPart = "all") -> None:
        images = folder / "images"
        found = images.iterdir() if images.is_dir() else ()
        files = sorted(path for path in found if path.suffix.lower() in IMAGE_SUFFIXES)
        if not files:
            raise wrong_layout(folder, _TREE, "it has no images")
        self._maps = {path: folder / "masks" / f"{path.stem}.png" for path in files}
        for path, source in self._maps.items():
            if not source.is_file():
                raise EvitError(f"{path} has no map", hint=f"put it at {source}")
        self.files = [files[i] for i in part_of(len(files), part)]

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        """The image file."""
        return str(self.files[index])

    def read(self, index: int) -> tuple[ImageU8, Masks]:
        """RGB (H, W, 3) uint8 and its regions."""
        path = self.files[index]
        image, source = read_image(path)[0], self._maps[path]
        regions = read_labels(source).astype(np.int64)
        check_size(image, regions.astype(np.int16), str(source))
        numbers = [int(number) for number in np.unique(regions) if number]
        return image, Masks(len(numbers), lambda place: np.asarray(regions == numbers[place]))
