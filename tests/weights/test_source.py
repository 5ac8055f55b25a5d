from __future__ import annotations

import string
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evit_cli.errors import EvitError
from evit_cli.weights.catalog import CATALOG, get_entry
from evit_cli.weights.source import HubAddress, find_local, locate_path, parse, parse_address
from tests.helpers.weight_files import write

_EDGE = string.ascii_letters + string.digits + "_"
_names = st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,20}[A-Za-z0-9_])?", fullmatch=True).filter(
    lambda name: ".." not in name and "--" not in name
)
_segments = st.text(
    string.ascii_letters + string.digits + "._- @+é", min_size=1, max_size=12
).filter(lambda segment: segment not in (".", ".."))
_files = st.none() | st.lists(_segments, min_size=1, max_size=3).map("/".join)
_revisions = st.just("main") | st.from_regex(
    r"[A-Za-z0-9_][A-Za-z0-9_/-]{0,15}", fullmatch=True
).filter(lambda revision: all(revision.split("/")))


@settings(deadline=None)
@given(owner=_names, name=_names, file=_files, revision=_revisions)
@example(owner="o", name="r", file="a@b.pt", revision="main")
@example(owner="o", name="r", file="a/b.pt", revision="refs/pr/1")
def test_addresses_survive_being_written_and_read(
    owner: str, name: str, file: str | None, revision: str
) -> None:
    address = HubAddress(f"{owner}/{name}", file, revision)
    assert parse_address(str(address)) == address


@settings(deadline=None)
@given(text=st.text(max_size=60))
@example(text="o/r/../../etc/passwd")
@example(text="o/r@../../x")
@example(text="o/r/a\\b")
@example(text="o/r//f.pt")
@example(text="o/r/f.pt@")
@example(text="../r/f.pt")
@example(text="o/r/f\n.pt")
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        address = parse_address("hf://" + text)
    except EvitError as error:
        assert error.hint
        return
    owner, name = address.repo.split("/")
    pieces = [owner, name, *(address.file or "f").split("/"), *address.revision.split("/")]
    assert not {"", ".", ".."} & set(pieces)
    assert parse_address(str(address)) == address


@settings(deadline=None)
@given(text=st.text(max_size=40))
@example(text="a\0b")
@example(text="x" * 5000)
def test_parse_never_fails_otherwise(text: str) -> None:
    try:
        source = parse(text)
    except EvitError as error:
        assert error.exit_code == 1
    else:
        assert not isinstance(source, Path) or source.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://o/r", HubAddress("o/r")),
        ("hf://o/r@v1.0", HubAddress("o/r", None, "v1.0")),
        ("hf://o/r/f.pt", HubAddress("o/r", "f.pt")),
        ("hf://o/r/a/b/f.pt@refs/pr/1", HubAddress("o/r", "a/b/f.pt", "refs/pr/1")),
        ("hf://timm/efficientvit_b1.r256_in1k", HubAddress("timm/efficientvit_b1.r256_in1k")),
    ],
)
def test_known_addresses(text: str, expected: HubAddress) -> None:
    assert parse(text) == expected


@pytest.mark.parametrize(
    "text", ["hf://", "hf://o", "hf://o/", "hf://o/r/", "hf://o/r/f@", "hf:///r"]
)
def test_incomplete_addresses(text: str) -> None:
    with pytest.raises(EvitError, match="is not a hub address") as caught:
        parse(text)
    assert "hf://owner/repo/file" in caught.value.hint


def test_a_revision_in_the_middle_is_mended() -> None:
    with pytest.raises(EvitError, match="revision in the middle") as caught:
        parse("hf://o/r@v1/sub/f.pt")
    assert caught.value.hint == "write hf://o/r/sub/f.pt@v1"


@pytest.mark.parametrize("name", CATALOG)
def test_catalog_names_win(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, b"a file of that name")
    assert parse(name) is get_entry(name)
    assert parse(f"./{name}") == Path(name)


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("seg-b0-citiscapes", "no model or file", "seg-b0-cityscapes"),
        ("weights/none.pt", "no file or folder", "check"),
        ("none.safetensors", "no file or folder", "check"),
        ("https://huggingface.co/o/r", "not an address", "hf://owner/repo"),
        ("", "no model or file", "known"),
    ],
)
def test_what_is_nothing_gets_a_mend(text: str, says: str, hint: str) -> None:
    with pytest.raises(EvitError, match=says) as caught:
        parse(text)
    assert hint in caught.value.hint


def test_folders(tmp_path: Path) -> None:
    with pytest.raises(EvitError, match="holds no weights"):
        locate_path(tmp_path)
    write(tmp_path / "notes.txt", b"")
    nested = write(tmp_path / "owner" / "repo" / "w.pt", b"")
    assert locate_path(tmp_path).path == nested
    top = write(tmp_path / "top.pth", b"")
    assert locate_path(tmp_path).path == top
    write(tmp_path / "other.safetensors", b"")
    with pytest.raises(EvitError, match=r"2 weights files: other\.safetensors, top\.pth") as caught:
        locate_path(tmp_path)
    assert f"{tmp_path}/other.safetensors" in caught.value.hint
    preferred = write(tmp_path / "model.safetensors", b"")
    assert locate_path(tmp_path).path == preferred


def test_models_dir_may_be_flat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = get_entry("seg-b0-cityscapes")
    (tmp_path / entry.file).write_bytes(b"weights")
    monkeypatch.setenv("EVIT_MODELS_DIR", str(tmp_path))
    assert find_local(entry) == tmp_path / entry.file


def test_models_dir_that_is_no_folder_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EVIT_MODELS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(EvitError, match="EVIT_MODELS_DIR"):
        find_local(get_entry("seg-b0-cityscapes"))
