"""SA-1B's layout: JPEGs, each with a JSON file of run lengths beside it, in any folders.

NAME.json holds {"image": {...}, "annotations": [{"segmentation": {"size", "counts"}, ...}]}
(https://ai.meta.com/datasets/segment-anything).
"""

from __future__ import annotations

import json
from pathlib import Path

from evit_cli.data.masks import BoolMask, MaskPart, Masks, part_of
from evit_cli.data.rle import read_rle
from evit_cli.data.sample import ImageU8, wrong_layout
from evit_cli.errors import EvitError
from evit_cli.media.images import IMAGE_SUFFIXES, read_image


class Sa1b:
    """See `MaskExamples`.

    Args:
        folder: with the files, at any depth.
        part: which images are wanted.

    Raises:
        EvitError: no image has a JSON file beside it.
    """

    name = "sa1b"

    def __init__(self, folder: Path, part: MaskPart = "all") -> None:
        files = {path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES}
        told = {path.with_suffix("") for path in folder.rglob("*.json")}
        paired = sorted(path for path in files if path.with_suffix("") in told)
        if not paired:
            problem = "no image has a .json beside it"
            raise wrong_layout(folder, ["sa_000000/NAME.jpg", "sa_000000/NAME.json"], problem)
        self.files = [paired[i] for i in part_of(len(paired), part)]

    def __len__(self) -> int:
        return len(self.files)

    def where(self, index: int) -> str:
        """The image file."""
        return str(self.files[index])

    def read(self, index: int) -> tuple[ImageU8, Masks]:
        """RGB (H, W, 3) uint8 and its masks."""
        path = self.files[index]
        source = path.with_suffix(".json")
        image = read_image(path)[0]
        try:
            listed = json.loads(source.read_bytes())["annotations"]
            lengths = [one["segmentation"] for one in listed]
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            raise EvitError(f"{source} is not a file of SA-1B: {what}") from error

        def draw(place: int) -> BoolMask:
            try:
                mask = read_rle(lengths[place])
            except (ValueError, TypeError, AttributeError) as error:
                raise EvitError(f"{source} has a mask that cannot be drawn: {error}") from error
            if mask.shape != image.shape[:2]:
                raise EvitError(f"{source} has a mask of {mask.shape} pixels for {image.shape[:2]}")
            return mask

        return image, Masks(len(lengths), draw)
