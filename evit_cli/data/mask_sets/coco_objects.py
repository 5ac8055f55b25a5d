"""The objects of a set in COCO's format, one by one; crowds are left out."""

from __future__ import annotations

import json
from pathlib import Path

import cv2

from evit_cli.data.coco import CocoSet, coco, object_mask
from evit_cli.data.masks import BoolMask, MaskPart, Masks, part_of
from evit_cli.data.sample import IGNORE, ImageU8
from evit_cli.errors import EvitError
from evit_cli.media.images import read_image


class CocoObjects:
    """See `MaskExamples`. Images without an object are there, with no mask.

    Args:
        folder: laid out as `evit_cli.data.coco.coco` takes it; of COCO itself, training images.
        part: which images are wanted.

    Raises:
        EvitError: the folder is laid out in another way, or the JSON file is wrong.
    """

    name = "coco"

    def __init__(self, folder: Path, part: MaskPart = "all") -> None:
        self._set: CocoSet = coco(folder, "train")
        self._kept = part_of(len(self._set), part)

    def __len__(self) -> int:
        return len(self._kept)

    def where(self, index: int) -> str:
        """The image file."""
        return self._set.where(int(self._kept[index]))

    def read(self, index: int) -> tuple[ImageU8, Masks]:
        """RGB (H, W, 3) uint8 and the masks of its objects, crowds left out."""
        item = self._set.items[int(self._kept[index])]
        image = read_image(item.file)[0]
        if image.shape[:2] != item.size_hw:
            raise EvitError(f"{item.file} is {image.shape[:2]} pixels, not {item.size_hw}")
        objects = [one for target, one in json.loads(item.objects) if target != IGNORE]

        def draw(place: int) -> BoolMask:
            try:
                return object_mask(objects[place], item.size_hw)
            except (ValueError, TypeError, cv2.error) as error:
                raise EvitError(
                    f"{self._set.source} has a mask for {item.file.name} that cannot be drawn:"
                    f" {error}"
                ) from error

        return image, Masks(len(objects), draw)
