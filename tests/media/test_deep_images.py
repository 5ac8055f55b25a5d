"""Images with all they have: what is read is what is written, in every format."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.errors import EvitError
from evit_cli.media.deep_images import (
    DeepImage,
    DeepImageSource,
    check_sides,
    decode_deep,
    eight_bits,
    read_deep,
    write_deep,
)
from evit_cli.media.exif import (
    Directories,
    Entry,
    in_order,
    made_upright,
    orientation_of,
    pack_block,
    read_directories,
)
from evit_cli.media.images import ImageSource, read_image
from evit_cli.media.metadata import Metadata, read_metadata
from tests.helpers.media_files import corners, encoded
from tests.media.test_images import STORED

Image = pytest.importorskip("PIL.Image")

FORMATS = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF"}
MAKER, ORIENTATION, EXIF, GPS, WIDTH, EXPOSURE = 271, 274, 34665, 34853, 40962, 33434


def profile(space: bytes = b"RGB ", size: int = 600) -> bytes:
    """What passes for a colour profile."""
    noise = np.random.default_rng(0).bytes(size)
    return struct.pack(">I", size) + noise[4:16] + space + noise[20:]


def photo(suffix: str, orientation: int, mode: str = "RGB", size: int = 600) -> bytes:
    """A file as a camera writes it, made by Pillow."""
    stored = np.ascontiguousarray(STORED[orientation](corners()))
    picture = Image.fromarray(stored).convert(mode)
    exif = Image.Exif()
    exif[MAKER], exif[ORIENTATION] = "Camera", orientation
    exif.get_ifd(EXIF)[WIDTH] = stored.shape[1]
    exif.get_ifd(EXIF)[EXPOSURE] = 0.25
    exif.get_ifd(GPS)[1] = "N"
    icc = profile(b"GRAY" if mode == "L" else b"RGB ", size)
    if suffix == ".tif":  # Pillow writes the directories below only if it is given them so
        exif[EXIF], exif[GPS] = exif.get_ifd(EXIF), exif.get_ifd(GPS)
    file = io.BytesIO()
    how = {"quality": 95} if suffix == ".jpg" else {}
    picture.save(file, FORMATS[suffix], exif=exif, icc_profile=icc, **how)
    return file.getvalue()


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("source", FORMATS)
def test_profile_and_exif_go_from_any_format_to_any(
    source: str, target: str, tmp_path: Path
) -> None:
    image = decode_deep(photo(source, 6), Path("photo"))
    assert write_deep(tmp_path / f"out{target}", image) == []
    assert [path.name for path in tmp_path.iterdir()] == [f"out{target}"]
    with Image.open(tmp_path / f"out{target}") as written:
        written.load()
        assert written.info["icc_profile"] == profile()
        exif = written.getexif()
        assert (exif[MAKER], exif.get(ORIENTATION, 1)) == ("Camera", 1)
        assert exif.get_ifd(EXIF)[WIDTH] == corners().shape[1]
        assert exif.get_ifd(EXIF)[EXPOSURE] == 0.25
        assert exif.get_ifd(GPS)[1] == "N"
        pixels = np.asarray(written.convert("RGB"))
    assert np.abs(pixels.astype(int) - corners()).mean() < 6
    again = read_deep(tmp_path / f"out{target}")
    assert np.abs(again.rgb_u8().astype(int) - corners()).mean() < 6
    assert again.metadata.icc == profile()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", FORMATS)
def test_pictures_are_upright(suffix: str, orientation: int, tmp_path: Path) -> None:
    image = decode_deep(photo(suffix, orientation), Path("photo"))
    assert np.abs(image.rgb_u8().astype(int) - corners()).mean() < 6
    path = tmp_path / f"out{suffix}"
    write_deep(path, image)
    assert np.abs(read_image(path)[0].astype(int) - corners()).mean() < 6


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_profile_of_many_parts(suffix: str, tmp_path: Path) -> None:
    image = decode_deep(photo(suffix, 1, size=200_001), Path("photo"))
    assert image.metadata.icc == profile(size=200_001)
    path = tmp_path / f"out{suffix}"
    write_deep(path, image)
    assert read_deep(path).metadata.icc == profile(size=200_001)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_grey_stays_grey_with_its_profile(suffix: str, tmp_path: Path) -> None:
    image = decode_deep(photo(suffix, 1, "L"), Path("photo"))
    assert (image.channels, image.metadata.icc[16:20]) == (1, b"GRAY")
    write_deep(tmp_path / f"out{suffix}", image)
    with Image.open(tmp_path / f"out{suffix}") as written:
        assert written.mode == "L"
        assert written.info["icc_profile"] == profile(b"GRAY")


def test_a_profile_for_other_colours_is_left_out() -> None:
    cmyk = Metadata(icc=profile(b"CMYK"), exif=b"II*\0")
    assert cmyk.for_channels(3) == Metadata(exif=b"II*\0")
    assert Metadata(icc=profile()).for_channels(1) == Metadata()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits(suffix: str, channels: int, tmp_path: Path) -> None:
    shape = (20, 30) if channels == 1 else (20, 30, channels)
    stored = np.random.default_rng(0).integers(0, 65536, shape).astype(np.uint16)
    assert write_deep(tmp_path / f"a{suffix}", DeepImage(stored)) == []
    np.testing.assert_array_equal(read_deep(tmp_path / f"a{suffix}").stored, stored)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_transparency_is_not_laid_over_white(suffix: str, tmp_path: Path) -> None:
    rgba = np.dstack([corners(), np.tile(np.arange(96, dtype=np.uint8), (64, 1)) + 1])
    image = decode_deep(encoded(rgba, suffix), Path("x"))
    write_deep(tmp_path / f"a{suffix}", DeepImage(image.stored, Metadata(icc=profile())))
    again = read_deep(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(again.stored, cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
    assert again.metadata.icc == profile()


def test_what_a_format_cannot_hold_is_told(tmp_path: Path) -> None:
    stored = np.full((8, 8, 4), 65535, np.uint16)
    stored[:4, :, 3] = 0
    stored[:, :, 0] = 0
    lost = write_deep(tmp_path / "a.jpg", DeepImage(stored))
    assert lost == ["16 bits", "transparency"]
    pixels = read_image(tmp_path / "a.jpg")[0].astype(int)
    assert np.abs(pixels[0, 0] - 255).max() < 30
    assert np.abs(pixels[7, 7] - (255, 255, 0)).max() < 30
    image = DeepImage(stored[:, :, :3], Metadata(profile(), photo_exif()))
    assert write_deep(tmp_path / "a.bmp", image) == ["16 bits", "the colour profile", "EXIF"]


def photo_exif() -> bytes:
    return pack_block(Directories("<", [Entry(MAKER, 2, 7, b"Camera\0")]))


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "not an image"), (b"P7 nonsense", "not an image"), (b"\xff\xd8\xff\xe0\0\x10", "ends")],
)
def test_broken_files(data: bytes, words: str) -> None:
    with pytest.raises(EvitError, match=words):
        decode_deep(data or b"\0", Path("x.png"))


def test_missing_empty_and_unwritable(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    for name, words in (("none.png", "cannot be read"), ("empty.png", "is empty")):
        with pytest.raises(EvitError, match=words):
            read_deep(tmp_path / name)
    image = DeepImage(np.zeros((4, 4), np.uint8))
    with pytest.raises(EvitError, match="cannot be written as"):
        write_deep(tmp_path / "a.xyz", image)
    with pytest.raises(EvitError, match="no such file"):
        write_deep(tmp_path / "none" / "a.png", image)
    with pytest.raises(EvitError, match="only 16383"):
        check_sides(tmp_path / "a.webp", (10, 16384))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.png"]


def test_a_source_of_them_notes_what_is_broken(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(corners(), ".png"))
    (tmp_path / "b.png").write_bytes(b"nonsense")
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    source = DeepImageSource(ImageSource(paths, name="all", root=tmp_path))
    frames = list(source.frames())
    assert [frame.name for frame in frames] == ["a.png"]
    assert frames[0].deep is not None
    np.testing.assert_array_equal(frames[0].image_rgb_u8, corners())
    assert source.skipped.count == 1


def test_eight_of_sixteen_bits_are_rounded() -> None:
    values = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(eight_bits(values), np.round(values / 257))


# EXIF blocks


entries = st.lists(
    st.tuples(st.integers(1, 65535), st.sampled_from([1, 2, 3, 4, 5, 7, 9, 10]), st.integers(1, 9)),
    max_size=6,
    unique_by=lambda entry: entry[0],
)
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8}


def _filled(found: list[tuple[int, int, int]], seed: int) -> list[Entry]:
    rng = np.random.default_rng(seed)
    made = [Entry(tag, kind, n, rng.bytes(SIZES[kind] * n)) for tag, kind, n in found]
    return sorted(entry for entry in made if entry.tag not in (EXIF, GPS, 40965))


@given(entries, entries, entries, st.sampled_from("<>"))
def test_directories_are_read_as_they_were_packed(
    main: Any, exif: Any, gps: Any, order: str
) -> None:
    parts = Directories(order, _filled(main, 0), _filled(exif, 1), _filled(gps, 2))
    block = pack_block(parts)
    expected = parts if parts else Directories()
    assert read_directories(block) == expected
    other = in_order(parts, "<>"[order == "<"])
    assert in_order(other, order) == parts
    assert len(made_upright(block, (1, 1))) == len(block)


@pytest.mark.parametrize("order", ["<", ">"])
def test_made_upright_changes_only_what_it_must(order: str) -> None:
    number = struct.pack(order + "H", 8)
    parts = Directories(
        order,
        [Entry(MAKER, 2, 7, b"Camera\0"), Entry(ORIENTATION, 3, 1, number)],
        [Entry(WIDTH, 3, 1, number), Entry(WIDTH + 1, 4, 1, struct.pack(order + "I", 8))],
    )
    block = pack_block(parts)
    assert orientation_of(block) == 8
    upright = made_upright(block, (70_000, 300))
    found = read_directories(upright)
    assert orientation_of(upright) == 1
    assert found.main[0] == parts.main[0]
    sizes = [struct.unpack(order + "HI"[entry.kind == 4], entry.value)[0] for entry in found.exif]
    assert sizes == [300, 70_000]


WHOLE = {suffix: photo(suffix, 6) for suffix in FORMATS}


@settings(deadline=None)
@given(st.sampled_from(list(FORMATS)), st.data())
def test_damaged_files_never_confuse_the_parser(suffix: str, data: st.DataObject) -> None:
    whole = bytearray(WHOLE[suffix])
    for _ in range(data.draw(st.integers(0, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    found = read_metadata(bytes(whole[:cut]))
    upright = made_upright(found.exif, (5, 5))
    assert 1 <= orientation_of(upright) <= 8
    pack_block(in_order(read_directories(found.exif), ">"))


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*", b""]))
def test_any_bytes_as_a_block(data: bytes, mark: bytes) -> None:
    block = mark + data
    assert 1 <= orientation_of(block) <= 8
    made_upright(block, (5, 5))
    pack_block(read_directories(block))


def test_views_are_no_copies() -> None:
    stored: npt.NDArray[Any] = np.zeros((4, 6, 3), np.uint8)
    assert np.shares_memory(DeepImage(stored).rgb_u8(), stored)
    assert DeepImage(stored[:, :, 0]).rgb_u8().shape == (4, 6, 3)
