"""Tar shards: random access, the kept index, damage, and worker processes."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.data import shards as module
from evit_cli.data.sample import IGNORE
from evit_cli.data.shard_index import INDEX_SUFFIX, build_index
from evit_cli.data.shards import ShardSet, shards
from evit_cli.errors import EvitError
from tests.helpers.set_files import class_samples, png, random_png, write_shard


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_shard(tmp_path / "train" / "000.tar", class_samples([0, 1, 2]))
    write_shard(tmp_path / "train" / "001.tar", class_samples([2, 1], start=3))
    write_shard(tmp_path / "val" / "000.tar", class_samples([1], start=5))
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    return tmp_path


def test_reads_in_any_order(root: Path) -> None:
    train, val = shards(root, "train"), shards(root)
    assert (len(train), len(val)) == (5, 1)
    assert train.classes == ("a", "b", "c")
    for index in (4, 0, 3, 1, 2):
        image, target = train.read(index)
        expected = cv2.imdecode(np.frombuffer(random_png(index), np.uint8), cv2.IMREAD_COLOR)
        assert (image == expected[:, :, ::-1]).all()
        assert (target, type(target)) == ([0, 1, 2, 2, 1][index], int)
    assert train.where(3) == f"{root}/train/001.tar:0003"


@pytest.mark.parametrize("suffix", ["seg.png", "label.png", "SEG.PNG"])
def test_label_images(tmp_path: Path, suffix: str) -> None:
    labels = np.array([[0, 1, 255]], np.uint8)
    files = {"x.y/0.jpg": random_png(0, (1, 3)), f"x.y/0.{suffix}": png(labels)}
    write_shard(tmp_path / "val" / "0.tar", {**files, "x.y/0.json": b"{}", "README.md": b"text"})
    image, target = shards(tmp_path, num_classes=2).read(0)
    assert image.shape == (1, 3, 3)
    assert np.asarray(target).tolist() == [[0, 1, IGNORE]]
    found = shards(tmp_path, num_classes=1)
    with pytest.raises(EvitError, match=r"0.tar:x.y/0 holds the label 1, outside 0..0"):
        found.read(0)


def test_the_name_ends_at_its_first_dot(tmp_path: Path) -> None:
    files = {"./a.b/1.png": random_png(0), "./a.b/1.cls": b" 1\n", "./a.b/1.v2.png": b"ignored"}
    write_shard(tmp_path / "val" / "0.tar", files)
    found = shards(tmp_path, num_classes=2)
    assert found.read(0)[1] == 1
    assert found.where(0).endswith(":./a.b/1")


def test_the_index_is_kept_until_the_shard_changes(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards(root)
    path = root / "val" / "000.tar"
    kept = path.with_name(path.name + INDEX_SUFFIX)
    assert kept.is_file()
    assert [p.name for p in sorted(path.parent.iterdir())] == [path.name, kept.name]
    with monkeypatch.context() as patch:
        patch.setattr("evit_cli.data.shard_index.build_index", None)  # calling it would fail
        assert shards(root).read(0)[1] == 1
    kept.write_bytes(b"broken")
    assert shards(root).read(0)[1] == 1
    write_shard(path, class_samples([2], start=5))
    os.utime(path, ns=(1, 1))
    assert shards(root).read(0)[1] == 2


def test_a_folder_that_cannot_be_written_to(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(os, "replace", refuse)
    assert len(shards(root, "train")) == 5
    assert [p.name for p in (root / "val").iterdir()] == ["000.tar"]


@pytest.mark.parametrize("cut", ["data", "header", "between", "padding"])
def test_a_shard_cut_short_is_named(root: Path, cut: str) -> None:
    path = root / "val" / "000.tar"
    begin, size = build_index(path).images[0]
    end = {"data": begin + size // 2, "header": begin - 100, "between": begin - 512}
    with open(path, "r+b") as file:
        file.truncate(end.get(cut, begin + size + 1))
    with pytest.raises(EvitError, match=rf"{path} .*cut short"):
        shards(root)


def test_a_shard_cut_short_after_it_was_opened(root: Path) -> None:
    found = shards(root)
    os.truncate(root / "val" / "000.tar", 600)
    with pytest.raises(EvitError, match=r"val/000.tar is cut short"):
        found.read(0)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"0.png": b""}, "has image for the sample 0, and not"),
        ({"0.cls": b"0"}, "has class for the sample 0, and not"),
        ({"0.png": b"", "0.cls": b"0", "0.seg.png": b""}, "and not an image and one target"),
        ({"0.png": b"", "0.jpg": b"", "0.cls": b"0"}, "a second image for the sample 0: 0.png"),
        ({"0.png": b"", "0.cls": b"cat"}, r"class of 0 in .*0.tar is b'cat', not a whole number"),
        ({"0.png": b"", "0.cls": b"3"}, r"0.tar:0 has the class 3, outside 0..2"),
        ({"0.png": b"", "0.cls": b"-1"}, r"has the class -1, outside"),
        ({"0.png": b"x", "0.cls": b"1"}, "0.tar:0 is not an image"),
        ({"0.png": b"", "0.cls": b"0", "1.png": b"", "1.seg.png": b"x"}, "one kind|label image"),
        ({"README": b""}, "0.tar holds no samples"),
    ],
)
def test_wrong_samples_are_named(tmp_path: Path, files: dict[str, bytes], words: str) -> None:
    write_shard(tmp_path / "val" / "0.tar", files)
    with pytest.raises(EvitError, match=words):
        shards(tmp_path, num_classes=3).read(0)


def test_not_a_tar(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "0.tar").write_bytes(b"\x1f\x8b" + bytes(2000))
    with pytest.raises(EvitError, match=r"0.tar is not a tar archive"):
        shards(tmp_path, num_classes=3)


def test_wrong_layouts(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="no shards for train") as caught:
        shards(tmp_path, "train")
    assert "train/000000.tar" in caught.value.hint
    write_shard(tmp_path / "train" / "0.tar", class_samples([0]))
    with pytest.raises(EvitError, match=r"classes.txt is missing"):
        shards(tmp_path, "train")


def test_a_share_is_held_out(tmp_path: Path) -> None:
    write_shard(tmp_path / "0.tar", class_samples([0] * 20))
    write_shard(tmp_path / "1.tar", class_samples([1] * 20, start=20))
    parts = [shards(tmp_path, part, num_classes=2, val_share=0.3) for part in ("train", "val")]
    places = [{part.where(index) for index in range(len(part))} for part in parts]
    assert not places[0] & places[1]
    assert len(places[0] | places[1]) == 40
    for part in parts:
        for index in range(len(part)):
            assert part.read(index)[1] == int("/1.tar" in part.where(index))


def _targets(found: ShardSet) -> list[int]:
    """In another process: read everything, backwards."""
    return [int(found.read(index)[1]) for index in reversed(range(len(found)))]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes(root: Path, method: str) -> None:
    found = shards(root, "train")
    found.read(0)
    found.read(4)  # both shards are open
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = [pool.apply_async(_targets, (found,)) for _ in range(4)]
        for _ in range(20):
            assert found.read(3)[1] == 2
        assert [result.get(60) for result in results] == [[1, 2, 2, 1, 0]] * 4


def test_few_files_stay_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_OPEN", 1)
    found = shards(root, "train")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert [found.read(index)[1] for index in (0, 4)] == [0, 1]
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert len(pickle.loads(pickle.dumps(found)).read(0)) == 2
