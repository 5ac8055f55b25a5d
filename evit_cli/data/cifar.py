"""CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html): 32x32 images of 10 classes."""

from __future__ import annotations

import codecs
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.data.imagefolder import ClassificationSet, image_folder
from evit_cli.data.sample import ImageU8, Part, wrong_layout
from evit_cli.errors import EvitError

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_SIDE = 32
_PIXELS = 3 * _SIDE * _SIDE
_BATCHES: dict[Part, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "val": ("test_batch",),
}
_BINARY, _PYTHON = "cifar-10-batches-bin", "cifar-10-batches-py"
_TREE = [
    *(f"data_batch_{number}.bin" for number in (1, 2)), "...", "test_batch.bin",
    "or the same without .bin (the python version),",
    "or train/airplane/NAME.png, ..., val/airplane/NAME.png, ... (10 folders)",
]  # fmt: skip
_Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]


@dataclass(frozen=True)
class CifarSet:
    """CIFAR-10 in memory.

    Attributes:
        images_rgb_u8: (N, 32, 32, 3) uint8.
        targets: (N,) class indices.
        origins: files and how many images each holds, in order.
        name: of the set.
        classes: names of the classes.
    """

    images_rgb_u8: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.int64]
    origins: Sequence[tuple[Path, int]]
    name: str = "cifar10"
    classes: tuple[str, ...] = CIFAR10_CLASSES

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> tuple[ImageU8, int]:
        """RGB (32, 32, 3) uint8 and the index of its class."""
        return self.images_rgb_u8[index], int(self.targets[index])

    def where(self, index: int) -> str:
        """The batch file, and the place in it."""
        for path, count in self.origins:
            if index < count:
                return f"{path}, image {index}"
            index -= count
        raise IndexError(index)


def cifar10(root: Path, part: Part = "val") -> CifarSet | ClassificationSet:
    """CIFAR-10 as it is published, binary or for Python, or as class folders of PNGs.

    Args:
        root: holds the batch files, or the folder that the published archive unpacks to, or
            `train/CLASS/*.png` and `val/CLASS/*.png`. Binary files are preferred to pickles.
        part: "train" are the 50 000 training images, "val" the 10 000 test images.

    Raises:
        EvitError: the folder is laid out in another way, or a file is not of the format.
    """
    for base in (root, root / _BINARY, root / _PYTHON):
        for suffix, read in ((".bin", _read_binary), ("", _read_pickle)):
            files = [base / f"{name}{suffix}" for name in _BATCHES[part]]
            there = [path.is_file() for path in files]
            if any(there) and not all(there):
                missing = files[there.index(False)]
                raise wrong_layout(base, _TREE, f"{missing.name} is missing")
            if all(there):
                return _joined(files, read)
    if not (root / part).is_dir():
        raise wrong_layout(root, _TREE, "there are neither batch files nor class folders")
    found = image_folder(root, part, name="cifar10")
    if tuple(found.folders) != CIFAR10_CLASSES:
        raise wrong_layout(root, _TREE, f"its class folders are not {', '.join(CIFAR10_CLASSES)}")
    return found


def _joined(files: Sequence[Path], read: Callable[[bytes, Path], _Batch]) -> CifarSet:
    images, targets, origins = [], [], []
    for path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise EvitError(f"{path} cannot be read: {error.strerror}") from error
        planes, labels = read(data, path)
        wrong = labels[(labels < 0) | (labels >= len(CIFAR10_CLASSES))]
        if wrong.size:
            raise EvitError(f"{path} holds the label {wrong[0]}, outside 0..9")
        # Files hold the red, then the green, then the blue plane of each image.
        images.append(planes.reshape(-1, 3, _SIDE, _SIDE).transpose(0, 2, 3, 1))
        targets.append(labels)
        origins.append((path, len(labels)))
    return CifarSet(np.ascontiguousarray(np.concatenate(images)), np.concatenate(targets), origins)


def _read_binary(data: bytes, path: Path) -> _Batch:
    """Records of one byte for the class and 3072 for the pixels."""
    if not data or len(data) % (_PIXELS + 1):
        raise EvitError(
            f"{path} has {len(data)} bytes, which are not whole images of CIFAR-10",
            hint="the file is cut short, or of CIFAR-100; copy it again",
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, _PIXELS + 1)
    return records[:, 1:], records[:, 0].astype(np.int64)


def _latin1(text: str, encoding: str) -> bytes:
    """What pickles of bytes call; nothing else of `codecs.encode` is wanted."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"bytes encoded as {encoding}")
    return codecs.encode(text, encoding)


class _ArraysOnly(pickle.Unpickler):
    """Builds dicts, lists, numbers, bytes and arrays; a pickle can ask for nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The function or class of that name, if it is one that arrays are built from."""
        asked = (module.replace("numpy._core", "numpy.core"), name)
        if asked == ("numpy.core.multiarray", "_reconstruct"):
            return _empty_array
        if asked == ("numpy", "ndarray"):
            return np.ndarray
        if asked == ("numpy", "dtype"):
            return np.dtype
        if asked == ("_codecs", "encode"):
            return _latin1
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")


def _empty_array(kind: type, shape: tuple[int, ...], dtype: object) -> npt.NDArray[Any]:
    """What numpy's own `_reconstruct` gives: an array that the pickle then fills."""
    if kind is not np.ndarray or dtype not in (b"b", "b"):
        raise pickle.UnpicklingError("it holds an array of an unknown kind")
    return np.zeros(shape, np.int8)


def _read_pickle(data: bytes, path: Path) -> _Batch:
    """A dict with `data`, (N, 3072) uint8, and `labels`, N numbers."""
    try:
        raw = _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
        batch = {k.decode() if isinstance(k, bytes) else k: v for k, v in raw.items()}
        pixels, labels = batch["data"], np.asarray(batch["labels"], np.int64)
    except Exception as error:
        # A broken pickle can raise whatever the functions above raise for wrong arguments.
        raise EvitError(
            f"{path} is not a batch of CIFAR-10: {error}",
            hint="copy the file again, or use the binary version, which needs no pickle",
        ) from error
    right = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    if not right or labels.ndim != 1 or pixels.shape != (len(labels), _PIXELS):
        raise EvitError(f"{path} is not a batch of CIFAR-10: its arrays have other shapes")
    return pixels, labels
