from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evit_cli.errors import EvitError, UsageError
from evit_cli.media.frame import Frame
from evit_cli.media.images import ImageSource, write_image
from evit_cli.media.open import find_source
from evit_cli.media.outputs import (
    JsonLinesOutput,
    MaskFolderOutput,
    MovieOutput,
    OutputNames,
    StillsOutput,
    refuse_existing,
)
from tests.helpers.media_files import corners, numbered_video, read_video

KINDS = ("overlay", "mask", "color")
SUFFIXES = (".jpg", ".JPG", ".png", ".tif", ".ppm")
names_of_images = st.builds(
    lambda stem, kind, suffix: stem + kind + suffix,
    st.text("ab_.é 1", min_size=1, max_size=4).filter(lambda stem: stem.strip(".") != ""),
    st.sampled_from(["", "_overlay", "_mask", ".jpg"]),
    st.sampled_from(SUFFIXES),
)
steps = st.lists(st.sampled_from(["a", "b", "..", "."]), max_size=4)
paths_of_images = st.builds(
    lambda folders, name: Path("photos", *folders, name), steps, names_of_images
)


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def video(tmp_path: Path) -> tuple[Path, list[Frame]]:
    path = numbered_video(tmp_path / "in" / "drive.mp4", 3)
    return path, list(find_source(str(path)).frames())


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)


@given(st.lists(paths_of_images, min_size=1, max_size=8), steps)
def test_no_two_inputs_share_an_output_and_all_stay_in_the_folder(
    paths: list[Path], root: list[str]
) -> None:
    source = ImageSource(paths, name="photos", root=Path("photos", *root))
    distinct = {os.path.abspath(path) for path in paths}
    assert source.frame_count == len(source.names) == len(distinct)
    names = OutputNames(source, KINDS, Path("out"))
    outputs = [path for kind in KINDS for path in names.stills(kind, None)]
    assert len({os.path.abspath(path) for path in outputs}) == len(distinct) * len(KINDS)
    for path in outputs:
        assert PurePosixPath(os.path.normpath(path)).is_relative_to("out")
        assert ".." not in path.parts


def test_a_glob_with_dots_stays_in_the_folder(tmp_path: Path) -> None:
    for folder in ("in/a", "in/b", "other"):
        (tmp_path / folder).mkdir()
        write_image(tmp_path / folder / "x.png", corners())
    source = find_source("in/*/../../*/x.png")
    names = OutputNames(source, ["overlay"], Path("out"))
    output = StillsOutput(names, "overlay")
    for frame in source.frames():
        output.write(frame, frame.image_rgb_u8)
    assert [str(path) for path in output.written] == ["out/x_overlay.png"]
    assert leftovers(tmp_path / "out") == ["x_overlay.png"]


def test_names_keep_the_suffix_only_where_they_must(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, corners())
    names = OutputNames(find_source("in"), ["overlay"], None)
    assert [str(p) for p in names.stills("overlay", None)] == [
        "evit-out/a_overlay.png",
        "evit-out/b_overlay.png",
    ]
    write_image(tmp_path / "in" / "a.jpg", corners())
    names = OutputNames(find_source("in"), ["overlay"], None)
    assert [str(p) for p in names.stills("overlay", None)] == [
        "evit-out/a.jpg_overlay.jpg",
        "evit-out/a.png_overlay.png",
        "evit-out/b.png_overlay.png",
    ]


def test_one_input_may_name_its_output(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png", corners())
    source = find_source("in/a.png")
    output = StillsOutput(OutputNames(source, ["overlay"], Path("new/b.jpg")), "overlay")
    frame = next(source.frames())
    output.write(frame, frame.image_rgb_u8)
    assert leftovers(tmp_path / "new") == ["b.jpg"]


@pytest.mark.parametrize(
    ("kinds", "count"), [(["overlay", "mask"], 1), (["overlay"], 2)], ids=["kinds", "images"]
)
def test_a_file_name_for_several_files(tmp_path: Path, kinds: list[str], count: int) -> None:
    for number in range(count):
        write_image(tmp_path / "in" / f"{number}.png", corners())
    with pytest.raises(UsageError, match=r"several files, but --out out\.png names one"):
        OutputNames(find_source("in"), kinds, Path("out.png"))


@pytest.mark.parametrize("out", ["taken", "taken/below", "taken/x.png"])
def test_a_file_where_a_folder_must_be(tmp_path: Path, out: str) -> None:
    (tmp_path / "taken").write_text("precious")
    write_image(tmp_path / "in" / "a.png", corners())
    with pytest.raises(EvitError, match="taken is a file, not a folder"):
        OutputNames(find_source("in"), ["overlay"], Path(out))


def test_existing_outputs_are_refused(tmp_path: Path) -> None:
    taken = [tmp_path / "a", tmp_path / "b"]
    refuse_existing(taken, force=False)
    for path in taken:
        path.write_text("precious")
    with pytest.raises(EvitError, match=r"/a exists already \(and 1 more\)") as caught:
        refuse_existing(taken, force=False)
    assert "--force" in caught.value.hint
    refuse_existing(taken, force=True)


@pytest.mark.parametrize("link", ["same", "hard", "symbolic"])
def test_an_input_is_never_overwritten(tmp_path: Path, link: str) -> None:
    path, _ = video(tmp_path)
    out = path if link == "same" else tmp_path / "out.mp4"
    if link == "hard":
        out.hardlink_to(path)
    elif link == "symbolic":
        out.symlink_to(path)
    source = find_source(str(path))
    with pytest.raises(EvitError, match="is read and would be overwritten"):
        MovieOutput(OutputNames(source, ["overlay"], out), "overlay", source=source, force=True)


def test_an_older_overlay_that_is_read_too_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("a.png", "a_overlay.png"):
        write_image(tmp_path / "in" / name, corners())
    names = OutputNames(find_source("in"), ["overlay"], Path("in"))
    with pytest.raises(EvitError, match=r"a_overlay\.png is read and would be overwritten"):
        StillsOutput(names, "overlay", force=True)


def test_masks_are_not_written_lossy(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png", corners())
    for out in ("m.jpg", "m.webp", "m.mp4"):
        names = OutputNames(find_source("in/a.png"), ["mask"], Path(out))
        with pytest.raises(UsageError, match="a mask cannot be written as"):
            StillsOutput(names, "mask", suffix=".png", exact=True)
    names = OutputNames(find_source("in/a.png"), ["overlay"], Path("o.mp4"))
    with pytest.raises(UsageError, match="an image cannot be written as"):
        StillsOutput(names, "overlay")


def test_movies_are_movies(tmp_path: Path) -> None:
    source = find_source(str(video(tmp_path)[0]))
    with pytest.raises(UsageError, match=r"a video cannot be written as o\.png"):
        MovieOutput(OutputNames(source, ["overlay"], Path("o.png")), "overlay", source=source)
    with pytest.raises(UsageError, match="are a folder"):
        MaskFolderOutput(OutputNames(source, ["mask"], Path("o.png")))


def test_a_missing_encoder_is_found_out_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source(str(video(tmp_path)[0]))
    monkeypatch.setattr("evit_cli.media.video_writer.ENCODERS", ())
    monkeypatch.setattr("evit_cli.media.encode._SOFTWARE", ())  # GStreamer may have one
    with pytest.raises(EvitError, match=r"no H\.264 encoder"):
        MovieOutput(OutputNames(source, ["overlay"], None), "overlay", source=source)


def test_movie(tmp_path: Path) -> None:
    path, frames = video(tmp_path)
    source = find_source(str(path))
    names = OutputNames(source, ["overlay"], Path("new/deep"))
    output = MovieOutput(names, "overlay", source=source)
    assert not (tmp_path / "new").exists()  # folders are made when there is something for them
    for frame in frames:
        output.write(frame, frame.image_rgb_u8)
    output.close()
    assert [str(p) for p in output.written] == ["new/deep/drive_overlay.mp4"]
    assert len(read_video(output.written[0])) == 3


def test_masks_of_a_video(tmp_path: Path) -> None:
    path, frames = video(tmp_path)
    stale = tmp_path / "out" / ".drive_mask.evit-partial"
    stale.mkdir(parents=True)
    (stale / "999999.png").write_text("left by a run that lost its power")
    names = OutputNames(find_source(str(path)), ["mask"], Path("out"))
    output = MaskFolderOutput(names)
    for frame in frames:
        output.write(frame, np.full((4, 5), frame.index, np.uint8))
    assert not output.written and not (tmp_path / "out" / "drive_mask").exists()
    output.close()
    assert leftovers(tmp_path / "out") == [
        "drive_mask", "drive_mask/000000.png", "drive_mask/000001.png", "drive_mask/000002.png",
    ]  # fmt: skip
    mask = cv2.imread("out/drive_mask/000002.png", cv2.IMREAD_UNCHANGED)
    assert (mask == 2).all() and mask.shape == (4, 5)
    again = MaskFolderOutput(names, force=True)
    again.write(frames[0], np.zeros((4, 5), np.uint8))
    again.close()
    assert leftovers(tmp_path / "out") == ["drive_mask", "drive_mask/000000.png"]


def test_json_lines(tmp_path: Path) -> None:
    names = OutputNames(find_source(str(video(tmp_path)[0])), ["json"], None)
    output = JsonLinesOutput(names)
    output.write({"name": "é", "bytes": "\udce9"})  # a name that is not UTF-8 stays what it is
    output.write({"frame": 1})
    assert leftovers(tmp_path / "evit-out") == [".drive_segments.jsonl.evit-partial"]
    output.close()
    lines = Path("evit-out/drive_segments.jsonl").read_bytes().splitlines()
    assert lines[0] == b'{"name": "\xc3\xa9", "bytes": "\xe9"}'
    assert json.loads(lines[1]) == {"frame": 1}


@pytest.mark.parametrize("existed", [False, True])
def test_aborting_leaves_nothing(tmp_path: Path, existed: bool) -> None:
    path, frames = video(tmp_path)
    source = find_source(str(path))
    if existed:
        (tmp_path / "new").mkdir()
    names = OutputNames(source, ["overlay", "mask", "json"], Path("new/deep"))
    movie = MovieOutput(names, "overlay", source=source)
    masks, rows = MaskFolderOutput(names), JsonLinesOutput(names)
    for frame in frames:
        movie.write(frame, frame.image_rgb_u8)
        masks.write(frame, np.zeros((4, 5), np.uint8))
        rows.write({"frame": frame.index})
    for output in (movie, masks, rows):
        output.abort()
    assert (tmp_path / "new").exists() == existed
    assert leftovers(tmp_path) == sorted(["in", "in/drive.mp4", *(["new"] * existed)])


def test_aborting_before_anything_was_written(tmp_path: Path) -> None:
    source = find_source(str(video(tmp_path)[0]))
    names = OutputNames(source, ["overlay", "mask", "json"], None)
    for output in (
        MovieOutput(names, "overlay", source=source),
        MaskFolderOutput(names),
        JsonLinesOutput(names),
    ):
        output.abort()
        output.close()
        assert output.written == []
    assert leftovers(tmp_path) == ["in", "in/drive.mp4"]


def test_alpha_goes_along(tmp_path: Path) -> None:
    cover = np.arange(64 * 96, dtype=np.uint8).reshape(64, 96)
    write_image(tmp_path / "in" / "a.png", corners(), alpha=cover)
    source = find_source("in/a.png")
    frame = next(source.frames())
    output = StillsOutput(OutputNames(source, ["overlay"], None), "overlay")
    output.write(frame, frame.image_rgb_u8)
    written = cv2.imread(str(output.written[0]), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written[..., 3], cover)
