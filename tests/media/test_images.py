from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.errors import EvitError
from evit_cli.media.images import decode_image, natural_key, read_image, write_image
from evit_cli.media.open import find_source
from evit_cli.media.upright import EXIF_TURNS, turned
from tests.helpers.media_files import corners, encoded

# How a picture must be stored so that the orientation turns it upright, by Exif 2.32, table 4.6.5.
STORED = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def with_alpha(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Transparent towards the right."""
    cover = np.linspace(255, 0, image.shape[1]).astype(np.uint8)
    return np.dstack([image, np.broadcast_to(cover, image.shape[:2])])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = np.ascontiguousarray(STORED[orientation](corners()))
    path = tmp_path / f"photo{suffix}"
    path.write_bytes(encoded(stored, suffix, orientation))
    image, alpha = read_image(path)
    assert alpha is None
    assert image.shape == corners().shape
    assert np.abs(image.astype(int) - corners()).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_orientation_with_alpha(suffix: str, orientation: int) -> None:
    upright = with_alpha(corners())
    stored = np.ascontiguousarray(STORED[orientation](upright))
    image, alpha = decode_image(encoded(stored, suffix, orientation), Path("x"))
    assert alpha is not None
    np.testing.assert_array_equal(alpha, upright[..., 3])
    cover = upright[..., 3:] / 255
    np.testing.assert_allclose(image, upright[..., :3] * cover + 255 * (1 - cover), atol=1)


@given(orientation=st.integers(1, 8), height=st.integers(1, 5), width=st.integers(1, 5))
def test_turns_undo_how_cameras_lie(orientation: int, height: int, width: int) -> None:
    image = np.arange(height * width).reshape(height, width)
    np.testing.assert_array_equal(
        turned(STORED[orientation](image), EXIF_TURNS[orientation]), image
    )


@pytest.mark.parametrize("junk", [b"", b"II", b"MM\0*\0\0\0\x08\xff\xff", b"\0" * 40])
def test_broken_exif_is_ignored(junk: bytes) -> None:
    data = encoded(with_alpha(corners()), ".webp", 6)
    place = data.index(b"EXIF") + 8
    broken = data[:place] + junk + data[place + len(junk) :]
    image, _ = decode_image(broken, Path("x"))
    assert sorted(image.shape) == sorted(corners().shape)


def test_grey_becomes_rgb() -> None:
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10) * 4
    for suffix in (".png", ".pgm", ".bmp", ".tif"):
        image, alpha = decode_image(encoded(grey, suffix), Path("x"))
        assert alpha is None
        np.testing.assert_array_equal(image, np.dstack([grey] * 3))


@pytest.mark.parametrize("shape", [(6, 10), (6, 10, 3), (6, 10, 4)])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_become_eight(suffix: str, shape: tuple[int, ...]) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    deep[0, 0], deep[0, 1] = 0, 65535
    if len(shape) == 3 and shape[2] == 4:
        deep[..., 3] = 65535
    image, _ = decode_image(encoded(deep, suffix), Path("x"))
    assert image.dtype == np.uint8
    wanted = deep[..., None] if len(shape) == 2 else deep[..., :3]
    assert np.abs(image.astype(float) - wanted / 257.0).max() <= 1
    assert image.min() == 0 and image.max() == 255


def test_sixteen_bit_alpha() -> None:
    deep = np.full((4, 4, 4), 65535, np.uint16)
    deep[:2, :, 3] = 0
    image, alpha = decode_image(encoded(deep, ".png"), Path("x"))
    assert alpha is not None
    assert (alpha[:2] == 0).all() and (alpha[2:] == 255).all()
    assert (image == 255).all()


def test_float_images_are_zero_to_one() -> None:
    values = np.array([[0, 0.5, 1.0, 2.0, -1.0, np.nan]], np.float32)
    image, _ = decode_image(encoded(values, ".tif"), Path("x"))
    assert image[0, :, 0].tolist() == [0, 128, 255, 255, 0, 0]


def test_padding_of_bitmaps_is_not_transparency() -> None:
    hollow = np.dstack([corners(), np.zeros(corners().shape[:2], np.uint8)])
    image, alpha = decode_image(encoded(hollow, ".bmp"), Path("x"))
    assert alpha is None
    np.testing.assert_array_equal(image, corners())


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".bmp"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
def test_truncated(
    tmp_path: Path, suffix: str, part: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encoded(noise(120, 160, 3), suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(EvitError, match=r"cut\.\w+ (ends in the middle|is not an image|cannot be)"):
        read_image(path)
    assert capfd.readouterr().err == ""  # neither OpenCV nor libpng talk past evit


def test_a_jpeg_cut_behind_its_thumbnail_is_not_whole() -> None:
    data = encoded(noise(60, 80, 3), ".jpg")
    thumbnail = encoded(noise(8, 8, 3), ".jpg")
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    photo = data[:2] + segment + data[2:]
    assert decode_image(photo, Path("x"))[0].shape == (60, 80, 3)
    with pytest.raises(EvitError, match="ends in the middle"):
        decode_image(photo[: len(photo) // 2], Path("x"))


def test_a_jpeg_with_a_film_behind_it_is_whole() -> None:
    photo = encoded(corners(), ".jpg") + bytes(200_000)  # a "motion photo"
    assert decode_image(photo, Path("x"))[0].shape == corners().shape


@pytest.mark.parametrize("content", [b"", b"\0", b"hello", b"\xff\xd8", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_garbage(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(EvitError, match="bad"):
        read_image(path)


@given(st.binary(max_size=300))
def test_no_bytes_crash_the_decoder(data: bytes) -> None:
    for start in (
        b"",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\0\0\0\0WEBPVP8X",
        b"BM",
        b"II*\0",
    ):
        try:
            image, _ = decode_image(start + data, Path("x"))
        except EvitError:
            continue
        assert image.ndim == 3 and image.dtype == np.uint8


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="cannot be read: No such file"):
        read_image(tmp_path / "none.png")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".webp", ".PNG"])
def test_written_images_are_exact(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write_image(path, corners())
    np.testing.assert_array_equal(read_image(path)[0], corners())
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_alpha_is_written_where_the_format_has_it(tmp_path: Path, suffix: str) -> None:
    cover = with_alpha(corners())[..., 3]
    write_image(tmp_path / f"out{suffix}", corners(), alpha=cover)
    alpha = read_image(tmp_path / f"out{suffix}")[1]
    assert alpha is not None
    np.testing.assert_array_equal(alpha, cover)
    write_image(tmp_path / "out.jpg", corners(), alpha=cover)
    assert read_image(tmp_path / "out.jpg")[1] is None


def test_wide_class_maps_keep_their_numbers(tmp_path: Path) -> None:
    labels: npt.NDArray[Any] = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    write_image(tmp_path / "mask.png", labels)
    read = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(read, labels)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match=r"cannot be written as '\.xyz'"):
        write_image(tmp_path / "out.xyz", corners())
    with pytest.raises(EvitError, match="cannot be written: no such file"):
        write_image(tmp_path / "no folder" / "out.png", corners())
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(EvitError, match="cannot be written: is a directory"):
        write_image(tmp_path / "folder.png", corners())
    assert [p.name for p in tmp_path.iterdir()] == ["folder.png"]


def test_broken_images_among_good_ones_are_noted(tmp_path: Path) -> None:
    for name in ("1.png", "3.png"):
        write_image(tmp_path / name, corners())
    (tmp_path / "2.png").write_bytes(b"not an image")
    source = find_source(str(tmp_path))
    frames = list(source.frames())
    assert [(f.index, f.name, f.time_s) for f in frames] == [(0, "1.png", None), (2, "3.png", None)]
    assert source.skipped.count == 1
    assert "2.png" in source.skipped.first[0]


def test_notes_about_broken_images_take_constant_memory(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    source = find_source(str(tmp_path))
    assert list(source.frames()) == []
    assert (source.skipped.count, len(source.skipped.first)) == (50, source.skipped.KEPT)


def test_natural_order() -> None:
    names = ["frame10.png", "frame2.png", "Frame1.png", "frame02.png", "a/frame3.png", "frame.png"]
    ordered = sorted((Path(name) for name in names), key=natural_key)
    assert [str(path) for path in ordered] == [
        "a/frame3.png", "Frame1.png", "frame02.png", "frame2.png", "frame10.png", "frame.png",
    ]  # fmt: skip


@given(st.lists(st.text("aA.0123456789²٣ é", min_size=1, max_size=8), unique=True, max_size=6))
def test_natural_order_is_total_and_ignores_the_start(names: list[str]) -> None:
    paths = [Path(name) for name in names]
    ordered = sorted(paths, key=natural_key)
    assert sorted(reversed(paths), key=natural_key) == ordered
    keys = [natural_key(path) for path in ordered]
    assert all(left < right for left, right in pairwise(keys))


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.text("ab", max_size=3))
def test_numbers_sort_by_value(left: int, right: int, stem: str) -> None:
    keys = [natural_key(Path(f"{stem}{number}.png")) for number in (left, right)]
    assert (keys[0] < keys[1]) == (left < right)
