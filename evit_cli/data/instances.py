"""Objects one by one, with the numbers that evaluation needs: COCO's and LVIS' files.

`data/coco.py` draws the same files as class maps.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.coco import find_instances, object_mask
from evit_cli.data.mask_sets import MaskKind, open_masks
from evit_cli.data.masks import MaskExamples, MaskPart, part_of
from evit_cli.data.sample import ImageU8, wrong_layout
from evit_cli.errors import EvitError, MissingDependency, require
from evit_cli.media.images import read_image

Rules = Literal["coco", "lvis"]

_LVIS_TREE = [
    "lvis_v1_val.json", "or annotations/lvis_v1_val.json, with COCO's images beside it:",
    "train2017/NAME.jpg", "val2017/NAME.jpg",
]  # fmt: skip


@dataclass(frozen=True)
class Instance:
    """One object of an image.

    Attributes:
        mask: (H, W) bool.
        box_xyxy: (4,) float32, its upper left and lower right corner in pixels.
        area: in pixels, as the set's file says it.
    """

    mask: npt.NDArray[np.bool_]
    box_xyxy: npt.NDArray[np.float32]
    area: float


class Objects(Protocol):
    """Images with their objects, in a fixed order."""

    @property
    def name(self) -> str:
        """The kind of data set."""

    @property
    def caveat(self) -> str:
        """What a reader of its scores should know, "" for nothing."""

    def __len__(self) -> int:
        """How many images there are."""

    def read(self, index: int) -> tuple[ImageU8, Iterator[Instance]]:
        """RGB (H, W, 3) uint8 and its objects, drawn one by one.

        Raises:
            EvitError: a file cannot be read, or a mask is not of the format.
        """


@dataclass(frozen=True)
class InstanceImage:
    """One image of a file of instances.

    Attributes:
        id: in the file.
        file: where it lies.
        size_hw: in pixels.
        objects: JSON list of [segmentation, box as [x, y, width, height], area]. As text, because
            Python values of a whole set take several gigabytes.
    """

    id: int
    file: Path
    size_hw: tuple[int, int]
    objects: bytes


@dataclass(frozen=True)
class InstanceSet:
    """Images with objects from a JSON file.

    Attributes:
        name: "coco" or "lvis".
        source: the JSON file.
        images: in the order of their names.
        library: whether COCO's own rules draw the polygons, by the library faster-coco-eval. Of
            coco128's small objects, our drawing agrees with theirs to an IoU of 0.935.
    """

    name: Rules
    source: Path
    images: Sequence[InstanceImage]
    library: bool = False

    @property
    def caveat(self) -> str:
        """Who drew the polygons, if not COCO's rules."""
        return "" if self.library else "polygons drawn without COCO's library (extra `sam`)"

    def __len__(self) -> int:
        return len(self.images)

    def image(self, index: int) -> ImageU8:
        """RGB (H, W, 3).

        Raises:
            EvitError: it cannot be read, or has another size than the file says.
        """
        one = self.images[index]
        image = read_image(one.file)[0]
        if image.shape[:2] != one.size_hw:
            raise EvitError(
                f"{one.file} is {image.shape[0]}x{image.shape[1]} pixels, and {self.source} says "
                f"{one.size_hw[0]}x{one.size_hw[1]}"
            )
        return image

    def read(self, index: int) -> tuple[ImageU8, Iterator[Instance]]:
        """RGB (H, W, 3) uint8 and its objects, crowds too, in the order of the file.

        Raises:
            EvitError: the image cannot be read, or a mask is not of the format.
        """
        return self.image(index), self._objects(self.images[index])

    def _objects(self, one: InstanceImage) -> Iterator[Instance]:
        try:
            for segmentation, bbox, area in json.loads(one.objects):
                mask = self._mask(segmentation, one.size_hw)
                yield _instance(mask, bbox, area)
        except (ValueError, TypeError, cv2.error) as error:
            raise EvitError(
                f"{self.source} has a mask for {one.file.name} that cannot be drawn: {error}",
                hint="masks are lists of polygons [x, y, x, y, ...] or run lengths",
            ) from error

    def _mask(self, segmentation: Any, size_hw: tuple[int, int]) -> npt.NDArray[np.bool_]:
        drawn = object_mask(segmentation, size_hw)  # it also says what is wrong
        if not self.library or isinstance(segmentation, dict):
            return drawn
        mask = require("faster_coco_eval", extra="sam").mask
        parts = mask.frPyObjects(segmentation, *size_hw)
        return np.asarray(mask.decode(mask.merge(parts)), np.bool_)


def box_of(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(4,) the corners x0, y0, x1, y1 around a mask's pixels, the second past the last pixel.

    Raises:
        ValueError: the mask is empty.
    """
    xs, ys = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(xs):
        raise ValueError("an empty mask has no box")
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def instance_of(mask: npt.NDArray[np.bool_]) -> Instance:
    """An object of which only its mask is known.

    Raises:
        ValueError: the mask is empty.
    """
    return Instance(mask, box_of(mask), float(np.count_nonzero(mask)))


def _instance(
    mask: npt.NDArray[np.bool_], bbox: Sequence[float] | None, area: float | None
) -> Instance:
    """An object; what its file does not say is taken from its mask."""
    size = float(np.count_nonzero(mask) if area is None else area)
    if bbox is None:
        return Instance(mask, box_of(mask) if mask.any() else np.zeros(4, np.float32), size)
    x, y, width, height = bbox
    return Instance(mask, np.array([x, y, x + width, y + height], np.float32), size)


@dataclass(frozen=True)
class RegionObjects:
    """Masks of no class as objects: the box around each, its own number of pixels as its area.

    Attributes:
        examples: the images with masks; empty masks are left out.
        caveat: see `Objects`.
    """

    examples: MaskExamples
    caveat: str = ""

    @property
    def name(self) -> str:
        """Of the layout."""
        return self.examples.name

    def __len__(self) -> int:
        return len(self.examples)

    def read(self, index: int) -> tuple[ImageU8, Iterator[Instance]]:
        """See `Objects`."""
        image, masks = self.examples.read(index)
        return image, (instance_of(mask) for mask in masks if mask.any())


def open_regions(root: Path, *, images: Path | None = None, part: MaskPart) -> RegionObjects:
    """Masks of no class in one of three layouts, told by what lies in the folder.

    Args:
        root: holds `images/` and `masks/` (maps of region numbers), or .mat files of BSDS, or
            images with .json files of SA-1B beside them.
        images: the folder of BSDS' images, where it is another one.
        part: which images are wanted.

    Raises:
        EvitError: the folder is laid out in another way.
        MissingDependency: .mat files need SciPy, which is not installed.
    """
    kind: MaskKind = "sa1b"
    if next(root.glob("*.mat"), None) is not None:
        kind = "bsds"
    elif (root / "masks").is_dir() or not root.is_dir():
        kind = "regions"
    return RegionObjects(open_masks(kind, root, images=images, part=part))


def open_instances(rules: Rules, root: Path, *, part: MaskPart = "all") -> InstanceSet:
    """The objects of COCO's or LVIS' validation part.

    Args:
        rules: "coco" takes the layouts of `data.coco.coco`; "lvis" wants `lvis_v1_val.json`, in
            `root` or its `annotations/`, and COCO's folders of images.
        root: of the set.
        part: all its images, or those alone that our training leaves out of such a set.

    Raises:
        EvitError: the folder is laid out in another way, or the JSON file is wrong.
    """
    folder = root
    if rules == "lvis":
        source = _lvis_file(root)
    else:
        source, folder, _ = find_instances(root, "val", None)
    try:
        images = list(_images(json.loads(source.read_bytes()), folder))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise EvitError(
            f"{source} is not a file of {rules.upper()} instances: {what}",
            hint="it holds images and annotations, as cocodataset.org describes",
        ) from error
    if not images:
        raise EvitError(f"{source} lists no image")
    kept = [images[i] for i in part_of(len(images), part)]
    return InstanceSet(rules, source, kept, library=_has_library())


def _has_library() -> bool:
    try:
        require("faster_coco_eval", extra="sam")
    except MissingDependency:
        return False
    return True


def _lvis_file(root: Path) -> Path:
    bases = (root / "annotations", root)
    found = [path for base in bases for path in sorted(base.glob("lvis*_val.json"))]
    if not found:
        raise wrong_layout(root, _LVIS_TREE, "there is no lvis_v1_val.json")
    return found[0]


def _images(raw: dict[str, Any], folder: Path) -> Iterator[InstanceImage]:
    """The images of a file in the order of their names; an object is looked up once."""
    objects: defaultdict[int, list[Any]] = defaultdict(list)
    for one in raw["annotations"]:
        if one.get("segmentation"):
            numbers = [one.get("bbox"), one.get("area")]
            objects[one["image_id"]].append([one["segmentation"], *numbers])
    for one in sorted(raw["images"], key=_name_of):
        blob = json.dumps(objects.pop(one["id"], []), separators=(",", ":")).encode()
        size_hw = (int(one["height"]), int(one["width"]))
        yield InstanceImage(one["id"], folder / _name_of(one), size_hw, blob)


def _name_of(image: dict[str, Any]) -> str:
    """A file's name; LVIS gives the address alone, whose end is "val2017/000000000139.jpg"."""
    if "file_name" in image:
        return str(image["file_name"])
    return "/".join(PurePosixPath(image["coco_url"]).parts[-2:])
