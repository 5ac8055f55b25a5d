"""Photographs and pairs for super-resolution, and the small images made from them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.data.bicubic import bicubic_taps, resize_bicubic_u8
from evit_cli.data.sampling import Plan, Request
from evit_cli.data.superres import Pairs, PhotoFolder, PhotoPatches, divisible, shrunk
from evit_cli.errors import EvitError
from evit_cli.types import ImageSize
from tests.helpers.paths import shared_dir


def write_photo(path: Path, size_hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Noise, as RGB."""
    image = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])
    return image


@pytest.mark.shared
@pytest.mark.parametrize("name", ["set5", "set14"])
def test_small_images_are_those_of_the_benchmark_to_the_bit(name: str) -> None:
    pairs = Pairs(shared_dir("data", "sr", name), 2)
    for index in range(len(pairs)):
        small, large = pairs.read(index)
        np.testing.assert_array_equal(shrunk(large, 2), small)


@settings(max_examples=40, deadline=None)
@given(
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    factor=st.sampled_from([Fraction(2), Fraction(4), Fraction(1, 2), Fraction(1, 3)]),
    value=st.integers(0, 255),
)
def test_a_flat_image_stays_flat(sides: tuple[int, int], factor: Fraction, value: int) -> None:
    out = resize_bicubic_u8(np.full((*sides, 3), value, np.uint8), factor)
    assert out.shape[:2] == tuple(-int(-side * factor // 1) for side in sides)
    assert (out == value).all()
    assert bicubic_taps(sides[0], factor)[1].sum(1) == pytest.approx(1, abs=1e-5)


def test_grey_images_are_resized_too() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
    both = resize_bicubic_u8(np.dstack([grey] * 3), 2)
    np.testing.assert_array_equal(resize_bicubic_u8(grey, 2), both[..., 1])


@pytest.mark.parametrize("scale", [2, 4])
def test_a_patch_is_cut_from_the_whole_small_image(tmp_path: Path, scale: int) -> None:
    image = write_photo(tmp_path / "a.png", (131, 166))
    patches = PhotoPatches([PhotoFolder(tmp_path)], scale, patch_hw=(12, 16), turn=False)
    large = divisible(image, scale)
    small = shrunk(large, scale)
    for seed in range(40):
        pair = patches.sample(Request(0, (seed,), ImageSize(12, 16)))
        assert pair["image"].shape == (12, 16, 3)
        top, left = next(
            (y, x)
            for y in range(small.shape[0] - 11)
            for x in range(small.shape[1] - 15)
            if np.array_equal(small[y : y + 12, x : x + 16], pair["image"])
        )
        window = large[scale * top : scale * (top + 12), scale * left : scale * (left + 16)]
        np.testing.assert_array_equal(pair["target"], window)


def test_turned_patches_still_belong_together(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (64, 64))
    patches = PhotoPatches([PhotoFolder(tmp_path)], 2, patch_hw=(32, 32))
    seen = set()
    for seed in range(60):
        pair = patches.sample(Request(0, (seed,), ImageSize(32, 32)))
        # Not to the bit: what is rounded between rows and columns does not turn with the image.
        difference = shrunk(pair["target"], 2).astype(int) - pair["image"]
        assert np.abs(difference[4:-4, 4:-4]).max() <= 2
        seen.add(pair["image"].tobytes())
    assert len(seen) == 8  # four quarters, mirrored or not


def test_photographs_count_by_their_pixels_and_weights(tmp_path: Path) -> None:
    write_photo(tmp_path / "a" / "large.png", (80, 80))
    write_photo(tmp_path / "a" / "small.png", (40, 40))
    write_photo(tmp_path / "b" / "tiny.png", (20, 20))
    write_photo(tmp_path / "c" / "shrunk.png", (80, 80))
    folders = [
        PhotoFolder(tmp_path / "a", 2.0), PhotoFolder(tmp_path / "b"),
        PhotoFolder(tmp_path / "c", shrink=2),
    ]  # fmt: skip
    patches = PhotoPatches(folders, 2, patch_hw=(20, 20))
    names = [Path(patches.where(i)).stem for i in range(len(patches))]
    assert {name: names.count(name) for name in names} == {"large": 8, "small": 2, "shrunk": 1}


def test_an_image_too_small_for_a_larger_patch_gives_way(tmp_path: Path) -> None:
    write_photo(tmp_path / "a.png", (40, 40))
    write_photo(tmp_path / "b.png", (80, 80))
    patches = PhotoPatches([PhotoFolder(tmp_path)], 2, patch_hw=(20, 20))
    plan = Plan(len(patches), 4, [ImageSize(40, 40)])
    for request in plan.step(0):
        assert patches.sample(request)["image"].shape == (40, 40, 3)


def test_what_is_not_kept_in_memory_is_read_again(tmp_path: Path) -> None:
    for number in range(3):
        write_photo(tmp_path / f"{number}.png", (48, 48), number)
    kept = PhotoPatches([PhotoFolder(tmp_path)], 2, patch_hw=(12, 12))
    read = PhotoPatches([PhotoFolder(tmp_path)], 2, patch_hw=(12, 12), cache_bytes=0)
    for index in range(len(kept)):
        request = Request(index, (index,), ImageSize(12, 12))
        np.testing.assert_array_equal(kept.sample(request)["image"], read.sample(request)["image"])


def test_photographs_alone_are_pairs(tmp_path: Path) -> None:
    image = write_photo(tmp_path / "a.png", (31, 42))
    pairs = Pairs(tmp_path, 2)
    small, large = pairs.read(0)
    np.testing.assert_array_equal(large, image[:30])
    assert small.shape == (15, 21, 3)
    assert pairs.made and Path(pairs.where(0)).name == "a.png"


def test_wrong_folders_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="has no images"):
        Pairs(tmp_path, 2)
    write_photo(tmp_path / "x_HR.png", (20, 20))
    with pytest.raises(EvitError, match=r"x_HR\.png has no small image"):
        Pairs(tmp_path, 2)
    write_photo(tmp_path / "x_LR.png", (5, 5))
    with pytest.raises(EvitError, match=r"x_LR\.png is 5x5 pixels, not 10x10"):
        Pairs(tmp_path, 2).read(0)
    with pytest.raises(EvitError, match="holds a patch of 96 x 96 pixels"):
        PhotoPatches([PhotoFolder(tmp_path)], 2, patch_hw=(48, 48))
