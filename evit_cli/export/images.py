"""Real images for calibration and verification: found, read one at a time, and hashed.

int8 ranges measured on random data fit no photograph, and an artifact that agrees with its source
on noise may not do so on a street. So noise, constants and patterns are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.media.images import IMAGE_SUFFIXES, ImageSource, natural_key, read_image

ImageU8 = npt.NDArray[np.uint8]
_Grey = npt.NDArray[np.float32]

FEWEST_CALIBRATION_IMAGES = 8
_MOST_CALIBRATION_IMAGES = 32

_HINT = "calibration and verification need real images of the kind the model will see"
_LEAST_SIDE = 32
_LEAST_LEVELS = 16
_LEAST_SPREAD = 2.0
_MOST_FLAT = 0.8
_LEAST_CORRELATION, _MOST_CORRELATION = 0.35, 0.9995
_LEAST_TAIL = 3.4
_THUMBNAIL = 64
_MOST_REFUSED = 0.25
"""A black frame or two may be in any recording; a quarter of them is another kind of set."""
_SAME_SIDE, _SAME_DIFFERENCE = 16, 1.0
"""Side of thumbnails, and their mean difference in grey levels up to which images are the same.

Saving a photograph as JPEG of quality 50 gives at most 0.9, frames that follow each other in CamVid
at least 1.2.
"""


@dataclass(frozen=True)
class ImageSet:
    """Real images in a fixed order; iterating reads them one at a time, as (H, W, 3) uint8 RGB.

    Attributes:
        files: of the images.
        names: of the images, relative to their folder; no two are the same.
        sha256: hash of the decoded images and their order, in hexadecimal.
        distinct: how many different images there are.
        unreadable: a sentence for each file that was left out since it does not decode.
        refused: a sentence for each that was left out since it is no photograph.
    """

    files: tuple[Path, ...]
    names: tuple[str, ...]
    sha256: str
    distinct: int
    unreadable: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many images there are, at least 1."""
        return len(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[ImageU8]:
        """Each image, read anew.

        Raises:
            EvitError: a file has gone, or was damaged, since the set was made.
        """
        for path in self.files:
            yield read_image(path)[0]


def load_images(where: Path | Sequence[Path] | None, *, limit: int, at_least: int = 1) -> ImageSet:
    """Find and check real images.

    Every chosen file is decoded once here, to check and hash it, and kept nowhere. Files that do
    not decode, and single images that `check_real` refuses, are left out and listed in the result.

    Args:
        where: a folder, read with all folders in it in natural order; a file; several of either, in
            the given order; or None for the embedded photographs. Hidden files do not count.
        limit: the most images to take, 1 or more; of more files, as many are taken evenly spread.
        at_least: how many different images are needed, such as 8 to calibrate int8.

    Raises:
        EvitError: a path is missing, no image is found or decodes, more than a quarter of them are
            no photographs, all show the same, or they are fewer than `at_least`.
    """
    if limit < 1:
        raise ValueError(f"limit is {limit}, it must be 1 or more")
    called, source = _find(where)
    count = len(source.paths)
    taken = min(limit, count)
    found = _Checked()
    for index in range(taken):
        place = index * count // taken
        found.add(source.paths[place], source.names[place])
    _enough(found, called, taken, at_least)
    return ImageSet(
        tuple(found.files),
        tuple(found.names),
        found.hash.hexdigest(),
        len(found.digests),
        tuple(found.unreadable),
        tuple(found.refused),
    )


def load_calibration(folder: Path | None) -> ImageSet | None:
    """Images for int8 ranges: up to 32 of a folder's, evenly spread; None for no folder.

    Raises:
        EvitError: as `load_images`, with fewer than `FEWEST_CALIBRATION_IMAGES` different ones.
    """
    if folder is None:
        return None
    return load_images(folder, limit=_MOST_CALIBRATION_IMAGES, at_least=FEWEST_CALIBRATION_IMAGES)


def check_real(image: ImageU8) -> str | None:
    """Why an image (H, W, 3) uint8 RGB is no photograph, or None if it may be one.

    Looked at are its grey levels; how many pixels equal their neighbours on both sides (drawings,
    label maps); how much neighbours have in common in a 64x64 thumbnail, where photographs keep
    their shapes while noise averages out, also noise that was enlarged or blurred; and the kurtosis
    of the differences between neighbours, which edges make large: 3 for blurred noise of any size,
    less for waves. Neighbours in a gradient have everything in common.

    Measured, on 1150 photographs (63 of everyday things, 468 street frames of CamVid, COCO128, T91,
    BSDS400), of which none is refused, against noise of 360x480 pixels (five draws of each kind):

    - levels: 118 and more; checkerboards 2, saved as JPEG up to 8; CamVid's label maps 12
    - flat pixels: at most 39 %; noise enlarged 8x without blending 77 %, checkerboards 64 wide 97 %
    - thumbnail correlation: 0.42 to 0.996; uniform and normal noise at most 0.03, enlarged 2x 0.08,
      4x 0.19, blurred by 1 pixel and enlarged 2x 0.24; gradients above 0.9998
    - kurtosis: 3.75 and more; blurred noise that passes the thumbnail, and waves, at most 3.35

    Of a tenth of the photographs (119) none was refused with noise of 25 grey levels added or at an
    eighth of the brightness, 5 were when blurred by 8 pixels. What can pass: noise in blobs of 16
    pixels and more, noise enlarged 4x or more in images of less than 256 pixels, and renderings.
    """
    height, width = image.shape[:2]
    if min(height, width) < _LEAST_SIDE:
        return f"it is {height}x{width} pixels, too small to tell a photograph from noise"
    grey = image.mean(axis=2, dtype=np.float32)
    levels = len(np.unique(grey.astype(np.uint8)))
    if levels < _LEAST_LEVELS or float(grey.std()) < _LEAST_SPREAD:
        return f"it is nearly uniform or a simple pattern, with {levels} grey levels"
    flat = np.mean((np.diff(grey, axis=1)[:-1] == 0) & (np.diff(grey, axis=0)[:, :-1] == 0))
    if flat > _MOST_FLAT:
        return f"it is drawn or a label map, with {flat:.0%} of its pixels like their neighbours"
    thumbnail = _thumbnail(grey, min(_THUMBNAIL, min(height, width) // 2))
    correlation = _neighbour_correlation(thumbnail)
    if correlation < _LEAST_CORRELATION:
        return (
            f"it looks like noise, its thumbnail's neighbouring pixels correlate {correlation:.2f}"
        )
    if correlation > _MOST_CORRELATION:
        return "it is a smooth gradient"
    tail = max(_edge_kurtosis(grey), _edge_kurtosis(thumbnail))
    if tail < _LEAST_TAIL:
        return f"it looks like blurred noise or a gradient, without edges (kurtosis {tail:.1f})"
    return None


class _Checked:
    """What was found good so far, and what not."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self.names: list[str] = []
        self.unreadable: list[str] = []
        self.refused: list[str] = []
        self.digests: set[bytes] = set()
        self.hash = hashlib.sha256()
        self.same_scene = True
        self._first: _Grey | None = None

    def add(self, path: Path, name: str) -> None:
        """Read, check and hash one file."""
        try:
            image = read_image(path)[0]
        except EvitError as error:
            self.unreadable.append(error.message)
            return
        problem = check_real(image)
        if problem is not None:
            self.refused.append(f"{name}: {problem}")
            return
        # The size is hashed too: the same pixels in other rows are another image.
        content = hashlib.sha256(repr(image.shape).encode())
        content.update(np.ascontiguousarray(image).data)
        self.hash.update(content.digest())
        self.digests.add(content.digest())
        self.files.append(path)
        self.names.append(name)
        thumbnail = _thumbnail(image.mean(axis=2, dtype=np.float32), _SAME_SIDE)
        if self._first is None:
            self._first = thumbnail
        elif float(np.abs(thumbnail - self._first).mean()) > _SAME_DIFFERENCE:
            self.same_scene = False


def _find(where: Path | Sequence[Path] | None) -> tuple[str, ImageSource]:
    """How to call the images in messages, and the files with their names."""
    if where is None:
        root = Path(str(files("evit_cli") / "assets" / "photos"))
        return "the embedded photographs", ImageSource(_below(root), name="embedded", root=root)
    given = [where] if isinstance(where, Path) else list(where)
    called = str(given[0]) if len(given) == 1 else f"{len(given)} paths"
    paths: list[Path] = []
    for path in given:
        if not path.exists():
            raise EvitError(f"{path} does not exist", hint=_HINT)
        paths.extend(_below(path) if path.is_dir() else [path])
    if not paths:
        raise EvitError(
            f"no image is in {called}", hint=f"{_HINT}; evit reads {' '.join(IMAGE_SUFFIXES)}"
        )
    root = given[0] if given[0].is_dir() else given[0].parent
    return called, ImageSource(paths, name=called, root=root)


def _below(folder: Path) -> list[Path]:
    """Image files in a folder and the folders in it, hidden ones aside, in natural order."""
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found.extend(
            Path(place, name)
            for name in names
            if not name.startswith(".") and name.lower().endswith(IMAGE_SUFFIXES)
        )
    return sorted(found, key=natural_key)


def _enough(found: _Checked, called: str, tried: int, at_least: int) -> None:
    """Whether what was found will do, of `tried` files.

    Raises:
        EvitError: it does not; the message has the reason of the first image that was left out.
    """
    decoded = tried - len(found.unreadable)
    if not decoded:
        more = f", and {tried - 1} more like it" if tried > 1 else ""
        raise EvitError(f"{found.unreadable[0]}{more}", hint=_HINT)
    if len(found.refused) > _MOST_REFUSED * decoded:
        raise EvitError(
            f"{len(found.refused)} of {decoded} images of {called} are not photographs, "
            f"such as {found.refused[0]}",
            hint=_HINT,
        )
    if len(found.files) > 1 and found.same_scene:
        raise EvitError(f"all {len(found.files)} images of {called} are the same", hint=_HINT)
    if len(found.digests) < at_least:
        left_out = len(found.unreadable) + len(found.refused)
        besides = f", beside {left_out} that cannot be used" if left_out else ""
        raise EvitError(
            f"at least {at_least} different images are needed, and {called} has "
            f"{len(found.digests)}{besides}",
            hint=_HINT,
        )


def _thumbnail(grey: _Grey, side: int) -> _Grey:
    return np.asarray(
        cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32
    )


def _neighbour_correlation(grey: _Grey) -> float:
    """Correlation of pixels with the next one, the smaller of across and down; 0 if constant."""

    def correlation(a: _Grey, b: _Grey) -> float:
        a, b = a - a.mean(), b - b.mean()
        norm = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
        return float((a * b).sum()) / norm if norm > 0 else 0.0

    return min(correlation(grey[:, 1:], grey[:, :-1]), correlation(grey[1:], grey[:-1]))


def _edge_kurtosis(grey: _Grey) -> float:
    """Kurtosis of neighbours' differences, the smaller of across and down; 3 for a normal one."""

    def kurtosis(steps: _Grey) -> float:
        squares = np.square(steps - steps.mean())
        variance = float(squares.mean())
        return float(np.square(squares).mean()) / variance**2 if variance > 1e-6 else 0.0

    return min(kurtosis(np.diff(grey, axis=1)), kurtosis(np.diff(grey, axis=0)))
