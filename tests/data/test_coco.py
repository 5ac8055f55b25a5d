"""COCO instances drawn as class maps, and their run lengths."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from evit_cli.data.coco import coco, object_mask
from evit_cli.data.rle import decode_counts, mask_of_counts, read_rle
from evit_cli.data.sample import IGNORE
from evit_cli.errors import EvitError
from tests.helpers.paths import shared_dir
from tests.helpers.rle import counts_of_mask, encode_counts
from tests.helpers.set_files import write_coco

BIG = [[0, 0, 10, 0, 10, 6, 0, 6]]
SMALL = [[2, 1, 4, 1, 4, 3, 2, 3], [6, 1, 8, 1, 8, 3, 6, 3]]
BOX = np.zeros((8, 10), np.bool_)
BOX[5:8, 1:4] = True


def rle(mask: np.ndarray, *, compressed: bool) -> dict[str, Any]:
    counts = counts_of_mask(mask)
    return {"size": list(mask.shape), "counts": encode_counts(counts) if compressed else counts}


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_round_trip(mask: np.ndarray) -> None:
    for compressed in (False, True):
        assert (read_rle(rle(mask, compressed=compressed)) == mask).all()


@given(st.lists(st.integers(0, 10**7)))
def test_compressed_counts_round_trip(counts: list[int]) -> None:
    assert decode_counts(encode_counts(counts)) == counts


def test_a_string_written_by_the_coco_library() -> None:
    """pycocotools.mask.encode of the 8x10 box above."""
    assert (mask_of_counts(decode_counts("=35000[1"), (8, 10)) == BOX).all()


@pytest.mark.parametrize("text", ["=35000[", "=35 0", "=35\xff"])
def test_broken_strings(text: str) -> None:
    with pytest.raises(ValueError, match=r"middle of a number|not a character"):
        decode_counts(text)


def test_polygons_fill_the_pixels_whose_centres_they_hold() -> None:
    mask = object_mask(SMALL, (8, 10))
    expected = np.zeros((8, 10), np.bool_)
    expected[1:3, 2:4] = expected[1:3, 6:8] = True
    assert (mask == expected).all()


def test_overlapping_parts_are_joined() -> None:
    mask = object_mask([SMALL[0], SMALL[0]], (8, 10))
    assert mask.sum() == 4


def test_points_outside_the_image_are_cut_off() -> None:
    mask = object_mask([[-5, -5, 50, -5, 50, 50, -5, 50]], (8, 10))
    assert mask.all()
    assert not object_mask([[50, 50, 60, 50, 60, 60]], (8, 10))[:-1, :-1].any()


@pytest.mark.parametrize("compressed", [False, True])
def test_small_objects_lie_over_large_ones_and_crowds_over_all(
    tmp_path: Path, compressed: bool
) -> None:
    crowd = rle(BOX, compressed=compressed)
    objects = {"a.png": [(3, SMALL, 0), (7, BIG, 0), (3, crowd, 1)], "b.png": []}
    write_coco(tmp_path / "images", tmp_path / "instances.json", objects)
    found = coco(tmp_path)
    assert found.classes == ("background", "cat", "dog")
    image, labels = found.read(0)
    expected = np.zeros((8, 10), np.int16)
    expected[:6] = 2
    expected[1:3, 2:4] = expected[1:3, 6:8] = 1
    expected[BOX] = IGNORE
    assert image.shape == (8, 10, 3)
    assert labels.dtype == np.int16
    assert labels.tolist() == expected.tolist()
    assert not found.read(1)[1].any()
    assert found.where(1).endswith("b.png")
    assert len(pickle.loads(pickle.dumps(found))) == 2


def test_without_background_the_rest_is_ignored(tmp_path: Path) -> None:
    write_coco(tmp_path / "images", tmp_path / "instances.json", {"a.png": [(7, BIG, 0)]})
    found = coco(tmp_path, background=None)
    assert found.classes == ("cat", "dog")
    assert sorted(np.unique(found.label(0))) == [IGNORE, 1]


def test_the_layout_of_coco_itself(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        objects = {f"{number}.png": [(3, BIG, 0)] for number in range(count)}
        source = tmp_path / "annotations" / f"instances_{part}2017.json"
        write_coco(tmp_path / f"{part}2017", source, objects)
    assert [len(coco(tmp_path, part, val_share=0.1)) for part in ("train", "val")] == [3, 2]
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    assert [len(coco(tmp_path, part, val_share=0.1)) for part in ("train", "val")] == [2, 1]
    with pytest.raises(EvitError, match="no images with instances for val"):
        coco(tmp_path)


def test_folders_of_parts(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 2)):
        objects = {f"{number}.png": [(3, BIG, 0)] for number in range(count)}
        write_coco(tmp_path / part / "images", tmp_path / part / "instances.json", objects)
    assert [len(coco(tmp_path, part, val_share=0.1)) for part in ("train", "val")] == [3, 2]


def test_a_single_file_is_divided(tmp_path: Path) -> None:
    objects = {f"{number}.png": [(3, BIG, 0)] for number in range(30)}
    write_coco(tmp_path / "images", tmp_path / "instances.json", objects)
    parts = [coco(tmp_path, part, val_share=0.3) for part in ("train", "val")]
    files = [{item.file.name for item in part.items} for part in parts]
    assert files[0] | files[1] == set(objects)
    assert not files[0] & files[1]


def edit(path: Path, change: Any) -> None:
    raw = json.loads(path.read_text())
    change(raw)
    path.write_text(json.dumps(raw))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda raw: raw.pop("categories"), "has no 'categories'"),
        (lambda raw: raw["annotations"][0].update(category_id=5), "unknown category 5"),
        (lambda raw: raw["annotations"][0].pop("segmentation"), "boxes and no masks"),
        (lambda raw: raw["images"][0].update(file_name="z.png"), "z.png, which is not there"),
        (lambda raw: raw.update(images=[], annotations=[]), "lists no image"),
        (lambda raw: raw["images"][0].update(width=12), "is 8x12 pixels, its image 8x10"),
        (lambda raw: raw["annotations"][0].update(segmentation=[[1, 2, 3]]), "a.png .* 3 numbers"),
        (
            lambda raw: raw["annotations"][0].update(segmentation={"size": [8, 10], "counts": [1]}),
            "do not add up to 8x10",
        ),
        (
            lambda raw: raw["annotations"][0].update(segmentation={"size": [1, 1], "counts": [1]}),
            "cannot be drawn",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: Any, words: str) -> None:
    source = tmp_path / "instances.json"
    write_coco(tmp_path / "images", source, {"a.png": [(3, BIG, 0)]})
    edit(source, change)
    with pytest.raises(EvitError, match=words):
        coco(tmp_path).read(0)


def test_not_json(tmp_path: Path) -> None:
    write_coco(tmp_path / "images", tmp_path / "instances.json", {"a.png": []})
    (tmp_path / "instances.json").write_text("{")
    with pytest.raises(EvitError, match="is not a file of COCO instances"):
        coco(tmp_path)


@pytest.mark.shared
def test_shared_coco128() -> None:
    found = coco(shared_dir("data", "coco128"))
    assert (len(found), len(found.classes)) == (128, 81)
    for index in range(0, len(found), 8):
        image, labels = found.read(index)
        assert image.shape[:2] == labels.shape
        assert labels.min() >= IGNORE
        assert labels.max() <= 80
