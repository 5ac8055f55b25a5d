"""Which examples are for training and which for validation."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evit_cli.data.sample import Part
from evit_cli.errors import EvitError

_DIGEST_BYTES = 8


def part_folder(
    root: Path, part: Part, *, holds: Callable[[Path], bool], val_share: float | None
) -> tuple[Path, float | None] | None:
    """Where the examples of a part are.

    Args:
        root: of the data set.
        part: which part is wanted.
        holds: whether a folder is laid out as a part.
        val_share: this share is held out where there is no folder for validation; None takes a
            `root` that is laid out as a part for the part that is wanted.

    Returns:
        The folder, and the share of it that is for validation, None if all of it is for `part`;
        None when neither `root/train` and `root/val` nor `root` are laid out as a part.
    """
    if holds(root / part):
        alone = part == "train" and not holds(root / "val")
        return root / part, val_share if alone else None
    if holds(root):
        return root, val_share
    if part == "val" and val_share is not None and holds(root / "train"):
        return root / "train", val_share
    return None


def held_out(
    keys: Sequence[str], part: Part, *, val_share: float | None, root: Path
) -> npt.NDArray[np.int64]:
    """Indices of the keys that belong to a part, in ascending order.

    A key is for validation when its hash is among the first `val_share` of all hashes, so that new
    files do not move the old ones between the parts. Where that would leave a part empty, it gets
    the key with the nearest hash.

    Args:
        keys: names of the examples, the same on every machine.
        part: which part is wanted.
        val_share: in (0, 1); None gives all keys.
        root: of the data set, for the message.

    Raises:
        EvitError: there are too few keys for two parts.
    """
    if val_share is None:
        return np.arange(len(keys))
    if len(keys) < 2:
        raise EvitError(
            f"{root} has too few examples to hold some out for validation ({len(keys)})",
            hint="add examples, or make folders train/ and val/",
        )
    places = np.array([_place(key) for key in keys])
    is_val = places < val_share
    if not is_val.any():
        is_val[places.argmin()] = True
    elif is_val.all():
        is_val[places.argmax()] = False
    return np.flatnonzero(is_val == (part == "val"))


def _place(key: str) -> float:
    """A number in [0, 1) that looks random and depends on the key alone."""
    digest = hashlib.blake2b(os.fsencode(key), digest_size=_DIGEST_BYTES).digest()
    return float(int.from_bytes(digest, "big") / 2 ** (8 * _DIGEST_BYTES))
