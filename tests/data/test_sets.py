"""Data sets on disk: layouts, label values, and what is said when they are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from evit_cli.data.imagefolder import image_folder, imagenet
from evit_cli.data.segmentation import SegmentationSet, ade20k, camvid, cityscapes, folders
from evit_cli.data.segmentation import open_segmentation_set as open_set
from evit_cli.errors import EvitError
from tests.helpers.paths import shared_dir
from tests.helpers.segmentation_sets import write_folders, write_image, write_labels

LABELS = np.array([[0, 1], [2, 255]], np.uint8)


def test_cityscapes_label_ids_become_train_ids(tmp_path: Path) -> None:
    write_image(tmp_path / "leftImg8bit/val/bonn/bonn_1_leftImg8bit.png", (2, 3), 0)
    raw = np.array([[7, 8, 0], [33, 29, 26]], np.uint8)
    write_labels(tmp_path / "gtFine/val/bonn/bonn_1_gtFine_labelIds.png", raw)
    found = cityscapes(tmp_path)
    assert found.num_classes == 19
    assert found.label(found.items[0]).tolist() == [[0, 1, -1], [18, -1, 13]]


def test_cityscapes_values_that_no_label_has_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "leftImg8bit/val/bonn/bonn_1_leftImg8bit.png", (1, 2), 0)
    label = tmp_path / "gtFine/val/bonn/bonn_1_gtFine_labelIds.png"
    write_labels(label, np.array([[7, 7000]], np.uint16))
    found = cityscapes(tmp_path)
    with pytest.raises(EvitError, match="holds the label 7000"):
        found.label(found.items[0])


@pytest.mark.shared
def test_cityscapes_table_equals_the_published_one() -> None:
    import json

    facts = json.loads(shared_dir("facts", "classes_palettes.json").read_text())
    published = facts["cityscapes"]["label_id_to_train_id"]
    raw = np.arange(len(published), dtype=np.uint8)[None]
    assert SegmentationSet("x", [], 19, cityscapes_map()).to_classes(raw).tolist() == [published]


def cityscapes_map() -> Callable[[np.ndarray], np.ndarray]:
    from evit_cli.data.segmentation import _CITYSCAPES_IDS

    return lambda raw: _CITYSCAPES_IDS[raw]


def test_ade20k_labels_begin_at_one(tmp_path: Path) -> None:
    write_image(tmp_path / "images/validation/a.jpg", (1, 3), 0)
    write_labels(tmp_path / "annotations/validation/a.png", np.array([[0, 1, 150]], np.uint8))
    found = ade20k(tmp_path)
    assert found.label(found.items[0]).tolist() == [[-1, 0, 149]]


def test_camvid_void_is_eleven(tmp_path: Path) -> None:
    found = camvid(write_folders(tmp_path, [np.array([[0, 10, 11]], np.uint8)]))
    assert found.label(found.items[0]).tolist() == [[0, 10, -1]]


def test_folders_pair_by_name_in_order(tmp_path: Path) -> None:
    write_folders(tmp_path, [LABELS, LABELS])
    found = open_set("folders", tmp_path, num_classes=3)
    assert [item.image.stem for item in found.items] == ["0", "1"]
    assert found.label(found.items[1]).tolist() == [[0, 1], [2, -1]]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "labels" / "0.png").unlink(), "has no label"),
        (lambda root: (root / "labels").rename(root / "masks"), "images/NAME.jpg"),
        (lambda root: write_labels(root / "labels" / "0.png", LABELS + 7), "holds the label 7"),
        (lambda root: (root / "labels" / "0.png").write_bytes(b"x"), "cannot be|can be decoded"),
        (
            lambda root: write_labels(root / "labels" / "0.png", np.zeros((2, 2, 3), np.uint8)),
            "one value per pixel",
        ),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, spoil: Callable[[Path], object], words: str
) -> None:
    import re

    write_folders(tmp_path, [LABELS])
    spoil(tmp_path)
    with pytest.raises(EvitError) as caught:
        found = folders(tmp_path, num_classes=3)
        found.label(found.items[0])
    assert re.search(words, f"{caught.value.message} {caught.value.hint}")


@pytest.mark.parametrize("open_it", [cityscapes, ade20k, camvid, image_folder, imagenet])
def test_an_empty_folder_shows_the_expected_tree(
    tmp_path: Path, open_it: Callable[[Path], object]
) -> None:
    with pytest.raises(EvitError) as caught:
        open_it(tmp_path)
    assert "expected" in caught.value.hint
    assert "empty" in caught.value.hint


def test_unknown_set() -> None:
    with pytest.raises(EvitError, match="cityscape") as caught:
        open_set("cityscape", Path(), num_classes=19)
    assert "did you mean 'cityscapes'" in caught.value.hint


def test_image_folder_numbers_classes_by_name(tmp_path: Path) -> None:
    for name in ("val/b/1.png", "val/a/2.png", "val/a/1.png"):
        write_image(tmp_path / name, (4, 4), 0)
    found = image_folder(tmp_path)
    assert found.folders == ["a", "b"]
    assert [(item.image.name, item.target) for item in found.items] == [
        ("1.png", 0), ("2.png", 0), ("1.png", 1),
    ]  # fmt: skip


def test_imagenet_wants_a_thousand_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "val" / "n01440764" / "1.png", (4, 4), 0)
    with pytest.raises(EvitError, match="there are 1 class folders, not 1000"):
        imagenet(tmp_path)
