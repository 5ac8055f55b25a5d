"""Every name that a recipe may give opens its data set."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from evit_cli.config.recipe_parts import DataPart
from evit_cli.data.open import SETS, open_examples
from evit_cli.errors import EvitError, UsageError
from tests.helpers.segmentation_sets import write_folders, write_image
from tests.helpers.set_files import class_samples, write_cifar, write_coco, write_shard

LABELS = np.array([[0, 1], [2, 9]], np.uint8)


OTHERS = ("superres", "masks", "images")
"""Pairs, masks and bare images: no examples of classes."""


def test_names_are_those_of_recipes() -> None:
    names = get_args(DataPart.model_fields["name"].annotation)
    assert SETS == tuple(name for name in names if name not in OTHERS)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="no data set 'cifar'") as caught:
        open_examples("cifar", Path(), "train")
    assert "did you mean 'cifar10'" in caught.value.hint


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("name", SETS)
def test_an_empty_folder_shows_the_expected_tree(tmp_path: Path, name: str, part: str) -> None:
    with pytest.raises(EvitError, match="not laid out as expected") as caught:
        open_examples(name, tmp_path, part)
    assert "expected" in caught.value.hint
    assert "empty" in caught.value.hint
    with pytest.raises(EvitError) as caught:
        open_examples(name, tmp_path / "nowhere", part)
    assert "does not exist" in caught.value.hint


def write(root: Path, name: str) -> None:
    """A set of that name with a few examples."""
    if name in ("folders", "camvid"):
        for part in ("train", "val"):
            write_folders(root / part, [LABELS] * 2)
    elif name == "coco":
        objects = {f"{number}.png": () for number in range(4)}
        write_coco(root / "images", root / "instances.json", objects)
    elif name == "imagefolder":
        for number in range(6):
            write_image(root / "ab"[number % 2] / f"{number}.png", (4, 4), number)
    elif name == "cifar10":
        write_cifar(root, binary=True)
    else:
        write_shard(root / "0.tar", class_samples([0, 1, 0, 1]))


@pytest.mark.parametrize(
    ("name", "options", "classes"),
    [
        ("folders", {"void": 9}, 3),
        ("folders", {"void": 9, "num_classes": 5}, 5),
        ("camvid", {}, 11),
        ("coco", {}, 3),
        ("imagefolder", {}, 2),
        ("cifar10", {}, 10),
        ("shards", {"num_classes": 2}, 2),
    ],
)
def test_both_parts(tmp_path: Path, name: str, options: dict[str, int], classes: int) -> None:
    write(tmp_path, name)
    places: list[set[str]] = []
    for part in ("train", "val"):
        found = open_examples(name, tmp_path, part, **options)
        assert (found.name, len(found.classes)) == (name, classes)
        places.append({found.where(index) for index in range(len(found))})
        for index in range(len(found)):
            image, target = found.read(index)
            assert image.ndim == 3
            if not isinstance(target, int):
                assert target.dtype == np.int16
                assert target.shape == image.shape[:2]
    assert all(places)
    assert not places[0] & places[1]
