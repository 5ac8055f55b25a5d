from __future__ import annotations

import os
from pathlib import Path

import pytest

from evit_cli.errors import EvitError
from evit_cli.media.frame import SourceKind
from evit_cli.media.images import write_image
from evit_cli.media.open import find_source, open_source
from tests.helpers.media_files import corners, numbered_video


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def image(path: str) -> Path:
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_image(place, corners())
    return place


def names(text: str) -> list[str]:
    with open_source(text) as source:
        return [frame.name for frame in source.frames()]


def test_one_image() -> None:
    image("photos/a.PNG")
    source = find_source("photos/a.PNG")
    assert (source.kind, source.name, source.frame_count) == (SourceKind.IMAGES, "a", 1)
    assert source.path == Path("photos/a.PNG")
    assert names("photos/a.PNG") == ["a.PNG"]


def test_a_folder_in_natural_order() -> None:
    for name in ("f10.png", "f9.jpg", "f1.webp", "F2.bmp"):
        image(f"photos/{name}")
    Path("photos/notes.txt").write_text("not an image")
    Path("photos/folder.png").mkdir()
    image("photos/deeper/x.png")
    assert names("photos") == ["f1.webp", "F2.bmp", "f9.jpg", "f10.png"]
    assert find_source("photos").name == "photos"
    assert names("photos/") == names("./photos/../photos")


def test_globs() -> None:
    for name in ("a/1.png", "a/2.jpg", "b/1.png", "b/c/1.png"):
        image(name)
    Path("a/1.txt").write_text("x")
    assert names("a/*") == ["1.png", "2.jpg"]
    assert names("*/1.png") == ["a/1.png", "b/1.png"]
    assert names("**/1.png") == ["a/1.png", "b/1.png", "b/c/1.png"]
    assert names("[ab]/?.jpg") == ["a/2.jpg"]
    assert names(str(Path("a").resolve() / "*.png")) == ["1.png"]


def test_repeated_matches_are_read_once() -> None:
    image("a/x.png")
    image("b/x.png")
    assert names("*/../a/x.png") == ["a/x.png"]


def test_names_with_the_characters_of_globs_and_pipelines() -> None:
    for name in ("[1].png", "what?.png", "wow ! nice.png", "100%d.png", "日本 é.png"):
        image(name)
        assert names(name) == [name]


def test_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    image("photos/a.png")
    assert names("~/photos/a.png") == ["a.png"]
    assert names("~/photos/*.png") == ["a.png"]


def test_folders_that_are_called_like_a_number() -> None:
    image("20240131/a.png")
    assert names("20240131") == ["a.png"]


def test_videos_with_unusual_names() -> None:
    for name in ("12:30.mp4", "é 日本.mp4", "a%03d.mp4", "pipe:1.mp4", os.fsdecode(b"caf\xe9.mp4")):
        numbered_video(Path("v.mp4"), 2)
        Path("v.mp4").rename(name)
        source = find_source(name)
        assert (source.kind, source.name) == (SourceKind.VIDEO, Path(name).stem)
        assert len(list(source.frames())) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "SOURCE is empty"),
        ("  ", "SOURCE is empty"),
        ("none.png", r"none\.png does not exist"),
        ("x" * 300 + ".mp4", r"x\.mp4 does not exist"),
        ("none/*.png", r"no image matches none/\*\.png"),
        ("~nobody-has-this-name/a.png", "does not exist"),
        ("empty.mp4", r"empty\.mp4 is empty"),
        ("empty.png", r"empty\.png is empty"),
        ("hollow", "the folder hollow holds no images"),
        ("ftp://host/a.mp4", "cannot read ftp:// addresses"),
        ("file:///a.mp4", "cannot read file:// addresses"),
        ("http://[::1/a.mp4", "is not an address"),
        ("http://127.0.0.1:9/a.mp4", r"http://127\.0\.0\.1:9/a\.mp4 cannot be opened: .*refused"),
        ("rtsp://127.0.0.1:9/a", r"rtsp://127\.0\.0\.1:9/a cannot be opened: .*refused"),
        ("999", "camera 999 cannot be opened"),
    ],
)
def test_what_is_not_there(text: str, message: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("empty.mp4").touch()
    Path("empty.png").touch()
    Path("hollow").mkdir()
    with pytest.raises(EvitError, match=message), open_source(text) as source:
        list(source.frames())
    assert capfd.readouterr() == ("", "")


def test_passwords_are_not_told() -> None:
    with pytest.raises(EvitError) as caught:
        find_source("rtsp://user:secret@127.0.0.1:9/a")
    assert "secret" not in caught.value.message + caught.value.hint
    assert "rtsp://127.0.0.1:9/a" in caught.value.message


def test_only_videos_match() -> None:
    numbered_video(Path("a.mp4"), 2)
    with pytest.raises(EvitError, match="no image matches") as caught:
        find_source("*.mp4")
    assert "one by one" in caught.value.hint


def test_an_unreadable_file() -> None:
    path = image("a.png")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(EvitError, match=r"a\.png cannot be read: Permission denied"):
        names("a.png")


def test_the_source_is_closed_whatever_happens() -> None:
    path = numbered_video(Path("a.mp4"), 30)
    with pytest.raises(ZeroDivisionError), open_source(str(path)) as source:
        frames = source.frames()
        next(frames)
        raise ZeroDivisionError
    assert len(list(frames)) < 29
