"""Images with masks of no class: every layout, the images that are kept out, and mixtures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.mask_sets import open_masks
from evit_cli.data.masks import (
    MaskExamples,
    MaskMixture,
    MaskPart,
    Masks,
    MixedSet,
    fits,
    kept_out,
    part_of,
)
from evit_cli.errors import EvitError
from tests.helpers.mask_sets import shapes, write_bsds, write_objects, write_regions, write_sa1b
from tests.helpers.paths import shared_dir

WRITERS = {"regions": write_regions, "sa1b": write_sa1b, "coco": write_objects}


@pytest.mark.parametrize("kind", WRITERS)
def test_masks_are_those_that_were_written(kind: str, tmp_path: Path) -> None:
    examples = open_masks(kind, WRITERS[kind](tmp_path))  # type: ignore[arg-type]
    assert examples.name == kind
    for index in range(len(examples)):
        expected, regions = shapes(index)
        image, masks = examples.read(index)
        np.testing.assert_array_equal(image, expected)
        assert len(masks) == 2  # the crowd of "coco" is no object
        for place, value in enumerate((1, 2)):
            assert masks[place].dtype == np.bool_
            np.testing.assert_array_equal(masks[place], regions == value)
        assert Path(examples.where(index)).is_file()


def test_all_people_of_bsds_draw_masks(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    examples = open_masks("bsds", write_bsds(tmp_path, tmp_path))
    _, regions = shapes(1)
    _, masks = examples.read(1)
    assert len(masks) == 6
    for place in range(6):
        np.testing.assert_array_equal(masks[place], regions == place % 3)


@pytest.mark.shared
def test_the_real_bsds_is_read() -> None:
    pytest.importorskip("scipy")
    images = shared_dir("data", "sr", "bsds400")
    examples = open_masks("bsds", shared_dir("data", "bsds_regions"), images=images)
    assert len(examples) == 400
    image, masks = examples.read(0)
    people = round(sum(mask.sum() for mask in masks) / image[..., 0].size)
    assert people == 5  # a person's regions cover the image once


@pytest.mark.shared
def test_28_images_of_coco128_are_kept_out() -> None:
    root = shared_dir("data", "coco128")
    sets = {part: open_masks("coco", root, part=part) for part in ("all", "train", "kept_out")}
    assert {part: len(one) for part, one in sets.items()} == {
        "all": 128, "train": 100, "kept_out": 28,
    }  # fmt: skip
    names = {part: {one.where(i) for i in range(len(one))} for part, one in sets.items()}
    assert names["train"].isdisjoint(names["kept_out"])
    assert names["train"] | names["kept_out"] == names["all"]
    document = json.loads((root / "instances.json").read_text())
    crowds = sum(bool(one["iscrowd"]) for one in document["annotations"])
    objects = sum(len(sets["all"].read(i)[1]) for i in range(128))
    assert objects == len(document["annotations"]) - crowds


@given(count=st.integers(0, 500))
def test_the_kept_out_are_spread(count: int) -> None:
    out = kept_out(count)
    assert len(out) == count * 7 // 32
    assert not len(out) or np.diff(out, prepend=-1).max() <= 5
    parts = {part: set(part_of(count, part)) for part in ("all", "train", "kept_out")}  # type: ignore[arg-type]
    assert parts["train"] | parts["kept_out"] == parts["all"] == set(range(count))
    assert not parts["train"] & parts["kept_out"]


def test_more_files_do_not_move_between_the_parts() -> None:
    assert set(kept_out(128)) < set(kept_out(1000))


@pytest.mark.parametrize("part", ["train", "kept_out"])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_layout_keeps_images_out(kind: str, part: MaskPart, tmp_path: Path) -> None:
    root = WRITERS[kind](tmp_path, 12)
    chosen = open_masks(kind, root, part=part)  # type: ignore[arg-type]
    whole = open_masks(kind, root)  # type: ignore[arg-type]
    expected = [whole.where(int(i)) for i in part_of(12, part)]
    assert [chosen.where(i) for i in range(len(chosen))] == expected


class Numbered:
    """A set whose images are told apart by their file alone."""

    name = "numbered"

    def __init__(self, letter: str, count: int) -> None:
        self.letter, self.count = letter, count

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> tuple[np.ndarray, Masks]:
        return np.zeros((1, 1, 3), np.uint8), Masks(0, lambda _: np.zeros((1, 1), np.bool_))

    def where(self, index: int) -> str:
        return f"{self.letter}{index}"


def seen(*sets: tuple[MaskExamples, float]) -> list[str]:
    mixture = MaskMixture([MixedSet(one, weight) for one, weight in sets])
    return [mixture.where(i) for i in range(len(mixture))]


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3),
    weights=st.lists(st.floats(0.1, 5), min_size=3, max_size=3),
)
def test_a_mixture_shows_each_set_by_its_weight(sizes: list[int], weights: list[float]) -> None:
    pairs = [(Numbered(chr(97 + i), n), weights[i]) for i, n in enumerate(sizes)]
    found = seen(*pairs)
    least = min(weight for _, weight in pairs)
    for one, weight in pairs:
        mine = [name for name in found if name[0] == one.letter]
        assert abs(len(mine) - one.count * weight / least) <= 0.5
        counts = [mine.count(f"{one.letter}{i}") for i in range(one.count)]
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1


def test_masks_are_drawn_when_they_are_asked_for() -> None:
    drawn: list[int] = []

    def draw(place: int) -> np.ndarray:
        drawn.append(place)
        return np.full((1, 1), place % 2 == 1)

    masks = Masks(3, draw)
    assert (len(masks), drawn) == (3, [])
    assert masks[-2].all()
    assert drawn == [1]
    assert len(masks[1:]) == 2
    with pytest.raises(IndexError):
        masks[3]
    assert [m.any() for m in masks] == [False, True, False]


@pytest.mark.parametrize(
    ("share", "limits", "expected"),
    [
        (0.0, (0.0, 1.0), False),
        (0.5, (0.0, 1.0), True),
        (0.5, (0.6, 1.0), False),
        (0.5, (0.0, 0.4), False),
        (1.0, (0.5, 1.0), True),
    ],
)
def test_limits_of_the_area(share: float, limits: tuple[float, float], expected: bool) -> None:
    mask = np.zeros((10, 10), np.bool_)
    mask[: int(10 * share)] = True
    assert fits(mask, limits) is expected


@pytest.mark.parametrize("kind", [*WRITERS, "bsds"])
def test_an_empty_folder_says_what_was_expected(kind: str, tmp_path: Path) -> None:
    with pytest.raises(EvitError) as caught:
        open_masks(kind, tmp_path)  # type: ignore[arg-type]
    assert "expected" in caught.value.hint


def test_files_that_are_wrong_are_named(tmp_path: Path) -> None:
    sa1b = write_sa1b(tmp_path / "sa1b", 2)
    bad = sa1b / "sa_000000" / "sa_0.json"
    bad.write_text("{}")
    with pytest.raises(EvitError, match=r"sa_0\.json is not a file of SA-1B"):
        open_masks("sa1b", sa1b).read(0)
    bad.write_text(json.dumps({"annotations": [{"segmentation": {"size": [2, 2], "counts": [4]}}]}))
    _, masks = open_masks("sa1b", sa1b).read(0)
    with pytest.raises(EvitError, match=r"sa_0\.json has a mask of \(2, 2\)"):
        masks[0]
    regions = write_regions(tmp_path / "regions", 2)
    (regions / "masks" / "01.png").unlink()
    with pytest.raises(EvitError, match=r"01\.png has no map"):
        open_masks("regions", regions)
    shutil.copy(regions / "images" / "00.png", regions / "masks" / "01.png")
    with pytest.raises(EvitError, match="colour image"):
        open_masks("regions", regions).read(1)
    pytest.importorskip("scipy")
    bsds = write_bsds(tmp_path / "bsds", tmp_path / "bsds", 1)
    (bsds / "00.mat").write_bytes(b"nothing")
    with pytest.raises(EvitError, match=r"00\.mat is not a file of BSDS"):
        open_masks("bsds", bsds).read(0)
