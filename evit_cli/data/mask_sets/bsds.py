"""The Berkeley segmentation data set: several people's region maps of each image.

NAME.mat holds groundTruth {1, people}, each a struct with Segmentation (H, W), whose numbers begin
at 1 (https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/bsds).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_cli.data.masks import BoolMask, MaskPart, Masks, part_of
from evit_cli.data.sample import ImageU8, wrong_layout
from evit_cli.errors import EvitError, require
from evit_cli.media.images import IMAGE_SUFFIXES, read_image


class BsdsRegions:
    """See `MaskExamples`; the regions of all people are masks of the image.

    Args:
        folder: of the .mat files.
        images: of the images with the same names.
        part: which images are wanted.

    Raises:
        EvitError: there are no such files, or no images to them.
        MissingDependency: SciPy is not installed.
    """

    name = "bsds"

    def __init__(self, folder: Path, images: Path, part: MaskPart = "all") -> None:
        require("scipy", extra="train", why="reading .mat files")
        found = images.iterdir() if images.is_dir() else ()
        pictures = {p.stem: p for p in sorted(found) if p.suffix.lower() in IMAGE_SUFFIXES}
        pairs = [(path, pictures[path.stem]) for path in sorted(folder.glob("*.mat"))
                 if path.stem in pictures]  # fmt: skip
        if not pairs:
            raise wrong_layout(folder, ["NAME.mat"], f"it has no .mat with an image in {images}")
        self._pairs = [pairs[i] for i in part_of(len(pairs), part)]

    def __len__(self) -> int:
        return len(self._pairs)

    def where(self, index: int) -> str:
        """The image file."""
        return str(self._pairs[index][1])

    def read(self, index: int) -> tuple[ImageU8, Masks]:
        """RGB (H, W, 3) uint8 and its regions, person by person."""
        source, path = self._pairs[index]
        image = read_image(path)[0]
        maps = region_maps(source)
        if any(one.shape != image.shape[:2] for one in maps):
            raise EvitError(f"{source} has maps of another size than {path}")
        found = [(one, int(number)) for one in maps for number in np.unique(one)]

        def draw(place: int) -> BoolMask:
            regions, number = found[place]
            return np.asarray(regions == number)

        return image, Masks(len(found), draw)


def region_maps(source: Path) -> list[npt.NDArray[np.int64]]:
    """(H, W) region numbers, one map per person.

    Raises:
        EvitError: the file is not of the data set.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped]
    from scipy.io.matlab import MatReadError  # type: ignore[import-untyped]

    try:
        people = loadmat(source)["groundTruth"]
        return [
            np.asarray(people[0, i]["Segmentation"][0, 0], np.int64) for i in range(people.shape[1])
        ]
    except (
        OSError,
        LookupError,
        ValueError,
        TypeError,
        NotImplementedError,
        MatReadError,
    ) as error:
        raise EvitError(f"{source} is not a file of BSDS region maps: {error}") from error
