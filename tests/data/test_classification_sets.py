"""Class folders and CIFAR-10, in both parts."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from evit_cli.data.cifar import CIFAR10_CLASSES, CifarSet, cifar10
from evit_cli.data.imagefolder import ClassificationSet, image_folder, imagenet
from evit_cli.errors import EvitError
from tests.helpers.segmentation_sets import write_image
from tests.helpers.set_files import cifar_records, write_cifar


def write_classes(root: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        for number in range(count):
            write_image(root / name / f"{number}.png", (4, 5), number)
    return root


def test_train_numbers_the_classes_of_val(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"b": 2, "a": 1, "c": 1})
    write_classes(tmp_path / "val", {"c": 1, "b": 1})
    (tmp_path / "train" / ".thumbs").mkdir()
    train, val = image_folder(tmp_path, "train"), image_folder(tmp_path)
    assert train.classes == val.classes == ("a", "b", "c")
    assert [item.target for item in train.items] == [0, 1, 1, 2]
    assert [item.target for item in val.items[0:2]] == [1, 2]
    image, target = val.read(1)
    assert (image.shape, target, type(target)) == ((4, 5, 3), 2, int)
    assert val.where(1) == str(tmp_path / "val" / "c" / "0.png")


def test_a_class_that_train_lacks(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", {"a": 1})
    write_classes(tmp_path / "val", {"b": 1})
    with pytest.raises(EvitError, match=r"val/b is a class that .* train does not have"):
        image_folder(tmp_path)


@pytest.mark.parametrize("below", ["", "train"])
def test_a_share_is_held_out(tmp_path: Path, below: str) -> None:
    write_classes(tmp_path / below, {"a": 20, "b": 20})
    parts = [image_folder(tmp_path, part, val_share=0.25) for part in ("train", "val")]
    files = [{item.image for item in part.items} for part in parts]
    assert not files[0] & files[1]
    assert len(files[0] | files[1]) == 40
    assert parts[0].classes == parts[1].classes == ("a", "b")


def test_val_alone_is_not_for_training(tmp_path: Path) -> None:
    write_classes(tmp_path / "val", {"a": 1})
    with pytest.raises(EvitError, match="no class folders with images for train") as caught:
        image_folder(tmp_path, "train", val_share=0.1)
    assert "train/CLASS_A/NAME.jpg" in caught.value.hint
    assert "val/" in caught.value.hint


def test_class_folders_go_to_worker_processes(tmp_path: Path) -> None:
    found = pickle.loads(pickle.dumps(image_folder(write_classes(tmp_path, {"b": 2, "ä": 1}))))
    assert [found.read(index)[1] for index in range(3)] == [0, 0, 1]


def test_imagenet_has_names_in_both_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evit_cli.data.imagefolder.IMAGENET_CLASSES", 2)
    write_classes(tmp_path / "train", {"n01440764": 2, "n01443537": 1})
    write_classes(tmp_path / "val", {"n01440764": 1, "n01443537": 1})
    train, val = imagenet(tmp_path, "train"), imagenet(tmp_path)
    assert (len(train), len(val)) == (3, 2)
    assert train.classes[:2] == ("tench", "goldfish")


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("folder", ["", "cifar-10-batches-bin", "cifar-10-batches-py"])
def test_cifar_batches(tmp_path: Path, binary: bool, folder: str) -> None:
    write_cifar(tmp_path / folder, binary=binary)
    train, val = cifar10(tmp_path, "train"), cifar10(tmp_path)
    assert isinstance(train, CifarSet)
    assert (len(train), len(val)) == (20, 4)
    planes, labels = cifar_records(4, seed=1)
    image, target = train.read(5)
    assert (image.shape, image.dtype) == ((32, 32, 3), np.uint8)
    assert image.flags.c_contiguous
    assert (image[2, 7] == planes[1].reshape(3, 32, 32)[:, 2, 7]).all()
    assert (target, type(target)) == (labels[1], int)
    assert "data_batch_2" in train.where(5)
    assert train.where(5).endswith("image 1")
    assert train.classes == CIFAR10_CLASSES


def test_cifar_binary_is_preferred(tmp_path: Path) -> None:
    write_cifar(tmp_path, binary=True)
    (tmp_path / "test_batch").write_bytes(b"never read")
    assert len(cifar10(tmp_path)) == 4


def test_cifar_as_pictures(tmp_path: Path) -> None:
    write_classes(tmp_path / "train", dict.fromkeys(CIFAR10_CLASSES, 1))
    write_classes(tmp_path / "val", {"cat": 2})
    found = cifar10(tmp_path)
    assert isinstance(found, ClassificationSet)
    assert found.classes == CIFAR10_CLASSES
    assert [item.target for item in found.items] == [3, 3]
    write_classes(tmp_path / "train", {"unicorn": 1})
    with pytest.raises(EvitError, match="class folders are not airplane"):
        cifar10(tmp_path, "train")


class Evil:
    """A pickle that would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.system, ("touch evil",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({b"data": Evil(), b"labels": []}), r"it asks for \w+.system"),
        (b"", "is not a batch"),
        (pickle.dumps([1]), "is not a batch"),
        (pickle.dumps({b"data": b"x", b"labels": [1]}), "other shapes"),
        (pickle.dumps({b"labels": [1]}), "is not a batch"),
        (pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [10]}, 2), "label 10"),
    ],
)
def test_pickles_that_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(EvitError, match=words):
        cifar10(tmp_path)
    assert not Path("evil").exists()


def test_wrong_cifar_files(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="neither batch files nor class folders") as caught:
        cifar10(tmp_path)
    assert "data_batch_1.bin" in caught.value.hint
    write_cifar(tmp_path, binary=True)
    (tmp_path / "data_batch_3.bin").unlink()
    with pytest.raises(EvitError, match=r"data_batch_3\.bin is missing"):
        cifar10(tmp_path, "train")
    (tmp_path / "test_batch.bin").write_bytes(bytes(3000))
    with pytest.raises(EvitError, match="3000 bytes, which are not whole images"):
        cifar10(tmp_path)
