"""From the values in label files to class indices, and how many classes a folder of them has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.data.sample import IGNORE, read_labels
from evit_cli.errors import EvitError

LabelMap = Callable[[npt.NDArray[Any]], npt.NDArray[np.integer[Any]]]
"""(H, W) values of a file to class indices; called in worker processes, so it has to pickle."""

_MOST_FOUND = 256
_THREADS = 4


@dataclass(frozen=True)
class VoidToIgnore:
    """A `LabelMap`: classes as they are, `void` to `IGNORE`; None if no value is void."""

    void: int | None

    def __call__(self, raw: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
        """Int32 labels of any (H, W)."""
        labels = raw.astype(np.int32)
        if self.void is not None:
            labels[raw == self.void] = IGNORE
        return labels


def minus_one(raw: npt.NDArray[Any]) -> npt.NDArray[np.integer[Any]]:
    """A `LabelMap` for files whose first class is 1 and whose void is 0."""
    return raw.astype(np.int32) - 1


def count_classes(paths: Sequence[Path], void: int | None) -> int:
    """One more than the largest label in the files, read once per process.

    Args:
        paths: of all label files, for training and for validation.
        void: the value of pixels that do not count.

    Raises:
        EvitError: a file cannot be read, holds a label above 255, or there are not two classes.
    """
    return _count_classes(tuple(paths), void)


@lru_cache(maxsize=4)
def _count_classes(paths: tuple[Path, ...], void: int | None) -> int:
    def largest(path: Path) -> int:
        labels = VoidToIgnore(void)(read_labels(path))
        found = int(labels.max()) if labels.size else IGNORE
        if found >= _MOST_FOUND:
            raise EvitError(
                f"{path} holds the label {found}, too large to guess how many classes there are",
                hint="name the classes in classes.txt, or give the void label",
            )
        return found

    # Decoding leaves the interpreter's lock to others, so threads are enough.
    with ThreadPoolExecutor(_THREADS) as pool:
        count = max(pool.map(largest, paths), default=IGNORE) + 1
    if count < 2:
        where = paths[0].parent if paths else "the folder"
        raise EvitError(
            f"the labels in {where} hold {count} class besides the void label {void}",
            hint="labels are 0, 1, ...; for masks of 0 and 255, replace 255 by 1",
        )
    return count
