from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evit_cli
from evit_cli.errors import EXIT_FAILED, EvitError
from evit_cli.export.images import check_real, load_images
from evit_cli.media.images import read_image, write_image
from tests.helpers.paths import shared_dir

Image = npt.NDArray[np.uint8]
PHOTOS = Path(evit_cli.__file__).parent / "assets" / "photos"
SEEDS = st.integers(0, 2**32 - 1)
SIDES = st.integers(128, 300)


def leaves(seed: int, size_hw: tuple[int, int] = (96, 128)) -> Image:
    """Things of all sizes before each other, as in a photograph, with a little sensor noise."""
    rng = np.random.default_rng(seed)
    height, width = size_hw
    image = np.empty((height, width, 3), np.uint8)
    image[:] = rng.integers(0, 256, 3)
    for _ in range(120):
        # Radii with density r^-3 look alike at every distance.
        radius = min(3 / np.sqrt(rng.random()), height / 2)
        axes = (int(radius) + 1, int(radius * rng.uniform(0.4, 1)) + 1)
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        cv2.ellipse(image, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
    return np.clip(image + rng.normal(0, 2, image.shape), 0, 255).astype(np.uint8)


def noise(seed: int, height: int, width: int) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def normal_noise(seed: int, height: int, width: int) -> Image:
    values = np.random.default_rng(seed).normal(128, 40, (height, width, 3))
    return np.clip(values, 0, 255).astype(np.uint8)


def enlarged_noise(seed: int, height: int, width: int) -> Image:
    small = cv2.GaussianBlur(noise(seed, height // 2, width // 2), (0, 0), 1)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def stretched_blurred_noise(seed: int, height: int, width: int) -> Image:
    soft = cv2.GaussianBlur(noise(seed, height, width), (0, 0), 1.5).astype(np.float32)
    return np.asarray(255 * (soft - soft.min()) / (soft.max() - soft.min()), np.uint8)


def grey(values: npt.NDArray[np.floating]) -> Image:
    return np.repeat(values.astype(np.uint8)[:, :, None], 3, axis=2)


def as_jpeg(image: Image) -> Image:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [1, 90])[1], cv2.IMREAD_COLOR))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve different images, frame0.png to frame11.png."""
    root = tmp_path_factory.mktemp("frames")
    for number in range(12):
        write_image(root / f"frame{number}.png", leaves(number))
    return root


def refused(where: Path | list[Path] | None, **how: int) -> EvitError:
    with pytest.raises(EvitError) as caught:
        load_images(where, **{"limit": 100, **how})
    assert caught.value.exit_code == EXIT_FAILED
    assert "\n" not in caught.value.message and not caught.value.message.endswith(".")
    return caught.value


# What a photograph is


@settings(deadline=None, max_examples=25)
@given(SEEDS, st.integers(64, 300), st.integers(64, 300))
def test_scenes_with_things_in_them_pass(seed: int, height: int, width: int) -> None:
    assert check_real(leaves(seed, (height, width))) is None


@pytest.mark.parametrize("kind", [noise, normal_noise, enlarged_noise, stretched_blurred_noise])
@settings(deadline=None, max_examples=15)
@given(seed=SEEDS, height=SIDES, width=SIDES, jpeg=st.booleans())
def test_noise_is_refused(
    kind: Callable[[int, int, int], Image], seed: int, height: int, width: int, jpeg: bool
) -> None:
    image = kind(seed, height, width)
    assert "noise" in (check_real(as_jpeg(image) if jpeg else image) or "")


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 255), st.integers(32, 300), st.integers(32, 300))
def test_constants_are_refused(value: int, height: int, width: int) -> None:
    assert check_real(np.full((height, width, 3), value, np.uint8)) is not None


@pytest.mark.parametrize("square", [1, 2, 8, 16, 32, 64])
@pytest.mark.parametrize("saved", [lambda image: image, as_jpeg])
def test_checkerboards_are_refused(square: int, saved: Callable[[Image], Image]) -> None:
    rows, columns = np.mgrid[:360, :480] // square
    assert check_real(saved(grey((rows + columns) % 2 * 255.0))) is not None


@pytest.mark.parametrize("size_hw", [(96, 96), (360, 480), (512, 1024)])
@pytest.mark.parametrize("down, across", [(0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("saved", [lambda image: image, as_jpeg])
def test_gradients_are_refused(
    size_hw: tuple[int, int], down: int, across: int, saved: Callable[[Image], Image]
) -> None:
    rows, columns = np.mgrid[: size_hw[0], : size_hw[1]]
    ramp = down * rows + across * columns
    assert check_real(saved(grey(255.0 * ramp / ramp.max()))) is not None


def test_drawings_in_flat_colours_are_refused() -> None:
    image = np.zeros((256, 256, 3), np.uint8)
    for number in range(40):
        x, y = np.random.default_rng(number).integers(0, 256, 2).tolist()
        cv2.circle(image, (x, y), 30, (6 * number, 6 * number, 90), -1)
    assert "drawn" in (check_real(image) or "")


def test_tiny_images_are_refused() -> None:
    assert "31x200" in (check_real(leaves(1, (31, 200))) or "")


@pytest.mark.parametrize("path", sorted(PHOTOS.glob("*.jpg")), ids=lambda p: p.name)
def test_photographs_pass_also_when_they_are_poor(path: Path) -> None:
    image = read_image(path)[0]
    grainy = image + np.random.default_rng(0).normal(0, 25, image.shape)
    assert check_real(image) is None
    assert check_real(np.clip(grainy, 0, 255).astype(np.uint8)) is None
    assert check_real(image // 8) is None
    assert check_real(np.asarray(cv2.GaussianBlur(image, (0, 0), 3))) is None


@pytest.mark.shared
@pytest.mark.parametrize("name", ["photos", "sr/t91", "coco128", "camvid/val/images"])
def test_data_sets_pass(name: str) -> None:
    images = load_images(shared_dir("data", *name.split("/")), limit=60, at_least=60)
    assert (images.count, images.refused, images.unreadable) == (60, (), ())


# The embedded photographs


def test_embedded_photographs() -> None:
    images = load_images(None, limit=100, at_least=8)
    assert images.count == images.distinct == len(list(PHOTOS.glob("*.jpg"))) == 8
    for image in images:
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3
        assert max(image.shape) <= 640
    assert sum(path.stat().st_size for path in PHOTOS.iterdir()) <= 350_000


def test_every_embedded_photograph_has_its_licence() -> None:
    text = (PHOTOS / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\S+)` \|(.+)$", text, re.MULTILINE)
    assert sorted(name for name, _ in rows) == sorted(p.name for p in PHOTOS.glob("*.jpg"))
    assert all("public domain" in row or "CC0" in row for _, row in rows)


# Sets


def test_images_come_in_natural_order_as_they_are(folder: Path) -> None:
    images = load_images(folder, limit=100)
    assert images.names == tuple(f"frame{number}.png" for number in range(12))
    for number, image in enumerate(images):
        np.testing.assert_array_equal(image, leaves(number))
    assert len(list(images)) == len(images) == 12  # a second time


@given(limit=st.integers(1, 30))
@settings(deadline=None, max_examples=12)
def test_a_limit_takes_images_evenly(folder: Path, limit: int) -> None:
    names = load_images(folder, limit=limit).names
    numbers = [int(name.removeprefix("frame").removesuffix(".png")) for name in names]
    assert len(numbers) == min(limit, 12) and numbers[0] == 0
    gaps = [after - before for before, after in pairwise([*numbers, 12])]
    assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


def test_folders_are_read_with_all_in_them_but_hidden(folder: Path, tmp_path: Path) -> None:
    for name in ["a.png", "sub/b.PNG", "sub/deeper/c.png", ".hidden/d.png", "sub/._e.png"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / f"frame{len(name) % 12}.png", tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    assert set(load_images(tmp_path, limit=9).names) == {"a.png", "sub/b.PNG", "sub/deeper/c.png"}


def test_the_hash_is_of_contents_not_places_or_formats(folder: Path, tmp_path: Path) -> None:
    for number in range(12):
        write_image(tmp_path / f"view{number}.bmp", leaves(number))
    here, there = load_images(folder, limit=12), load_images(tmp_path, limit=12)
    assert here.sha256 == load_images(folder, limit=99).sha256 == there.sha256
    assert re.fullmatch("[0-9a-f]{64}", here.sha256)


@given(st.permutations(range(4)))
@settings(deadline=None, max_examples=12)
def test_the_hash_is_of_the_order(folder: Path, order: list[int]) -> None:
    files = [folder / f"frame{number}.png" for number in range(4)]
    turned = load_images([files[number] for number in order], limit=4)
    same = turned.sha256 == load_images(files, limit=4).sha256
    assert same is (order == [0, 1, 2, 3])


def test_the_hash_changes_with_one_pixel_and_with_fewer_images(
    folder: Path, tmp_path: Path
) -> None:
    hashes = {load_images(folder, limit=limit).sha256 for limit in (12, 11, 1)}
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    image = leaves(5)
    image[10, 20, 1] ^= 1
    write_image(copy / "frame5.png", image)
    hashes.add(load_images(copy, limit=12).sha256)
    assert len(hashes) == 4


def test_files_that_do_not_decode_are_skipped_and_counted(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "frame3.png").write_bytes((copy / "frame3.png").read_bytes()[:500])
    (copy / "frame7.png").write_bytes(b"")
    images = load_images(copy, limit=100)
    assert images.count == 10 and not {"frame3.png", "frame7.png"} & set(images.names)
    assert ["frame3.png" in images.unreadable[0], "frame7.png" in images.unreadable[1]] == [
        True
    ] * 2
    assert len(images.unreadable) == 2 and images.refused == ()


def test_a_few_black_frames_are_left_out_but_many_refuse_the_set(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    for number in range(4):
        write_image(copy / f"frame{number}.png", np.zeros((96, 128, 3), np.uint8))
        if number < 3:
            images = load_images(copy, limit=100)
            assert (images.count, len(images.refused)) == (11 - number, number + 1)
    error = refused(copy)
    assert "4 of 12" in error.message and "frame0.png" in error.message
    assert "real images" in error.hint


def test_random_data_is_refused(tmp_path: Path) -> None:
    for number in range(8):
        write_image(tmp_path / f"{number}.png", noise(number, 224, 224))
    error = refused(tmp_path)
    assert "8 of 8" in error.message and "noise" in error.message
    assert error.hint == (
        "calibration and verification need real images of the kind the model will see"
    )


def test_a_set_of_one_scene_is_refused(tmp_path: Path) -> None:
    for quality in range(60, 100, 5):
        data = cv2.imencode(".jpg", leaves(3, (200, 300)), [1, quality])[1]
        (tmp_path / f"q{quality}.jpg").write_bytes(data.tobytes())
    assert "all 8 images" in refused(tmp_path).message
    assert load_images(tmp_path / "q60.jpg", limit=8).names == ("q60.jpg",)  # one picture is given


def test_calibration_says_how_many_images_it_needs(folder: Path, tmp_path: Path) -> None:
    assert load_images(folder, limit=100, at_least=12).count == 12
    error = refused(folder, at_least=13)
    assert "at least 13" in error.message and "has 12" in error.message
    for number in range(8):  # copies are no new images
        shutil.copy(folder / f"frame{number % 2}.png", tmp_path / f"{number}.png")
    assert "has 2" in refused(tmp_path, at_least=8).message


def test_nothing_to_read(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nowhere").message
    assert "no image is in" in refused(tmp_path).message
    assert "0 paths" in refused([]).message
    (tmp_path / "a.png").write_bytes(b"no image")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    error = refused(tmp_path)
    assert "a.png" in error.message and "1 more" in error.message


def test_a_limit_is_positive(folder: Path) -> None:
    with pytest.raises(ValueError, match="limit is 0"):
        load_images(folder, limit=0)


def test_a_file_that_went_away_is_an_error(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    images = load_images(copy, limit=3)
    images.files[1].unlink()
    with pytest.raises(EvitError, match=r"frame4\.png cannot be read"):
        list(images)
