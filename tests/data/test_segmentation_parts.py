"""Both parts of segmentation sets, held-out shares, and names and numbers of classes."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from evit_cli.data.sample import IGNORE
from evit_cli.data.segmentation import SegmentationSet, ade20k, camvid, cityscapes, folders
from evit_cli.errors import EvitError
from tests.helpers.paths import shared_dir
from tests.helpers.segmentation_sets import write_folders, write_image, write_labels

LABELS = np.array([[0, 1], [2, 255]], np.uint8)


def test_cityscapes_train(tmp_path: Path) -> None:
    write_image(tmp_path / "leftImg8bit/train/ulm/ulm_1_leftImg8bit.png", (1, 2), 0)
    write_labels(
        tmp_path / "gtFine/train/ulm/ulm_1_gtFine_labelIds.png", np.array([[7, 0]], np.uint8)
    )
    found = cityscapes(tmp_path, "train")
    image, labels = found.read(0)
    assert (image.shape, image.dtype) == ((1, 2, 3), np.uint8)
    assert (labels.tolist(), labels.dtype) == ([[0, IGNORE]], np.int16)
    assert found.classes[:2] == ("road", "sidewalk")
    assert found.where(0).endswith("ulm_1_leftImg8bit.png")
    with pytest.raises(EvitError, match="leftImg8bit/val has no image"):
        cityscapes(tmp_path)


def test_ade20k_train(tmp_path: Path) -> None:
    write_image(tmp_path / "images/training/a.jpg", (1, 2), 0)
    write_labels(tmp_path / "annotations/training/a.png", np.array([[0, 150]], np.uint8))
    found = ade20k(tmp_path, "train")
    assert found.read(0)[1].tolist() == [[IGNORE, 149]]
    assert len(found.classes) == 150
    with pytest.raises(EvitError, match="a folder is missing") as caught:
        ade20k(tmp_path)
    assert "images/validation" in caught.value.hint


def test_camvid_parts(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", [np.array([[0, 11]], np.uint8)] * 3)
    write_folders(tmp_path / "val", [np.array([[10, 11]], np.uint8)])
    assert (len(camvid(tmp_path, "train")), len(camvid(tmp_path))) == (3, 1)
    assert len(camvid(tmp_path / "train", "train")) == 3
    assert camvid(tmp_path).classes[0] == "sky"


def names(found: SegmentationSet) -> set[str]:
    return {item.image.stem for item in found.items}


def test_a_share_is_held_out_and_stays_when_files_come(tmp_path: Path) -> None:
    write_folders(tmp_path, [LABELS] * 40)
    common = {"num_classes": 3, "val_share": 0.3}
    train, val = (folders(tmp_path, part, **common) for part in ("train", "val"))
    assert len(train) + len(val) == 40
    assert not names(train) & names(val)
    assert 4 <= len(val) <= 20
    write_image(tmp_path / "images" / "00-new.png", (2, 2), 0)
    write_labels(tmp_path / "labels" / "00-new.png", LABELS)
    again = folders(tmp_path, "val", **common)
    assert names(val) == names(again) - {"00-new"}


def test_train_alone_gives_both_parts(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", [LABELS] * 5)
    train, val = (folders(tmp_path, part, val_share=0.1) for part in ("train", "val"))
    assert (len(train), len(val)) == (4, 1)  # no part stays empty
    assert not names(train) & names(val)
    with pytest.raises(EvitError, match="a folder is missing"):
        folders(tmp_path, "val")


def test_one_example_cannot_be_divided(tmp_path: Path) -> None:
    write_folders(tmp_path, [LABELS])
    with pytest.raises(EvitError, match="too few examples"):
        folders(tmp_path, "train", num_classes=3, val_share=0.1)
    assert len(folders(tmp_path, "train", num_classes=3)) == 1


def test_classes_are_counted_over_both_parts(tmp_path: Path) -> None:
    write_folders(tmp_path / "train", [LABELS])
    write_folders(tmp_path / "val", [LABELS + 2])
    for part in ("train", "val"):
        found = folders(tmp_path, part, void=255)
        assert found.num_classes == 5
        assert found.classes == tuple(f"class {number}" for number in range(5))


@pytest.mark.parametrize(
    ("labels", "void", "words"),
    [
        (np.array([[0, 700]], np.uint16), 255, "0.png holds the label 700, too large"),
        (np.array([[0, 255]], np.uint8), 255, "hold 1 class besides the void label 255"),
        (np.array([[255, 255]], np.uint8), 255, "hold 0 class"),
    ],
)
def test_labels_that_do_not_tell_the_classes(
    tmp_path: Path, labels: np.ndarray, void: int, words: str
) -> None:
    write_folders(tmp_path, [labels])
    with pytest.raises(EvitError, match=words):
        folders(tmp_path, "train", void=void)


def test_names_come_from_a_file(tmp_path: Path) -> None:
    write_folders(tmp_path, [LABELS])
    (tmp_path / "classes.txt").write_text("\ufeffroad\nsky \ncar\n\n", "utf-8")
    assert folders(tmp_path, num_classes=19).classes == ("road", "sky", "car")
    (tmp_path / "classes.txt").write_text("road\nsky\n")
    found = folders(tmp_path)
    with pytest.raises(EvitError, match=r"labels/0.png holds the label 2, outside 0..1"):
        found.read(0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("road\n\nsky\n", "line 2 of .* is empty"),
        ("road\nroad\n", "line 2 of .* repeats the name 'road'"),
        ("\n", "names no class"),
        (b"\xff\xfe\x00".decode("latin1"), "cannot be read as text"),
    ],
)
def test_a_wrong_names_file(tmp_path: Path, text: str, words: str) -> None:
    write_folders(tmp_path, [LABELS])
    (tmp_path / "classes.txt").write_bytes(text.encode("latin1"))
    with pytest.raises(EvitError, match=words):
        folders(tmp_path)


def test_sizes_must_agree(tmp_path: Path) -> None:
    write_folders(tmp_path, [LABELS])
    write_labels(tmp_path / "labels" / "0.png", np.zeros((2, 3), np.uint8))
    with pytest.raises(EvitError, match=r"labels/0.png is 2x3 pixels, its image 2x2"):
        folders(tmp_path, num_classes=3).read(0)


def test_a_label_file_cut_short_is_not_class_zero(tmp_path: Path) -> None:
    write_folders(tmp_path, [np.random.default_rng(0).integers(0, 3, (50, 50), dtype=np.uint8)])
    path = tmp_path / "labels" / "0.png"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EvitError, match="ends in the middle"):
        folders(tmp_path, num_classes=3).read(0)


def test_sets_go_to_worker_processes(tmp_path: Path) -> None:
    write_folders(tmp_path, [LABELS])
    found = pickle.loads(pickle.dumps(folders(tmp_path, num_classes=3)))
    assert found.read(0)[1].tolist() == [[0, 1], [2, IGNORE]]


@pytest.mark.shared
def test_shared_camvid() -> None:
    root = shared_dir("data", "camvid")
    train, val = camvid(root, "train"), camvid(root)
    assert len(train) > len(val) > 0
    labels = train.read(0)[1]
    assert labels.min() >= IGNORE
    assert (root / "classes.txt").read_text().split() == list(train.classes)
