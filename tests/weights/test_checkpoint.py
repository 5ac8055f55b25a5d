from __future__ import annotations

import argparse
import errno
import os
import pickle
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from evit_cli.errors import EvitError
from evit_cli.models.classes import numbered_classes
from evit_cli.models.variants import get_variant
from evit_cli.types import ImageSize, ModelInfo, Preprocess, Task
from evit_cli.weights import atomic, metadata
from evit_cli.weights.checkpoint import (
    check_sha256,
    read_checkpoint,
    save_weights,
    sha256_of,
)
from tests.helpers.weight_files import pt_bytes, random_state, same_state, write

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.count": torch.tensor(3)}
INFO = ModelInfo(
    name="street-11",
    task=Task.SEGMENT,
    preprocess=Preprocess(ImageSize(360, 480), std_rgb=(0.5, 0.25, 0.125), crop_ratio=0.9),
    classes=numbered_classes(11),
    licence="CC-BY-NC-4.0",
    source="trained here",
)


class Malicious:
    """Unpickles into a call that leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def _refusal(path: Path) -> EvitError:
    with pytest.raises(EvitError) as caught:
        read_checkpoint(path)
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message
    assert str(path) in caught.value.message
    return caught.value


@pytest.mark.parametrize("wrapped", [True, False], ids=["state_dict", "bare"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_reads_torch_files(tmp_path: Path, wrapped: bool, zipped: bool) -> None:
    content = {"state_dict": TENSORS, "epoch": 3} if wrapped else TENSORS
    path = tmp_path / "weights.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert same_state(read_checkpoint(path).state, TENSORS)


def test_reads_safetensors_whatever_the_name(tmp_path: Path) -> None:
    for name in ("w.safetensors", "w.pt"):
        checkpoint = read_checkpoint(write(tmp_path / name, save(TENSORS)))
        assert same_state(checkpoint.state, TENSORS)
        assert checkpoint.saved is None


def test_the_model_does_not_follow_later_changes_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "w.safetensors", save({"a": torch.zeros(4096)}))
    state = read_checkpoint(path).state
    with open(path, "r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(b"\x3f" * 4096)
    assert state["a"].abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_floats_become_float32(tmp_path: Path, dtype: torch.dtype, name: str) -> None:
    tensors = {"a": torch.tensor([0.5, -2.0], dtype=dtype), "n": torch.tensor(7)}
    path = tmp_path / name
    write(path, save(tensors)) if name == "w.safetensors" else torch.save(tensors, path)
    state = read_checkpoint(path).state
    assert state["a"].dtype is torch.float32
    assert state["a"].tolist() == [0.5, -2.0]
    assert state["n"].dtype is torch.int64


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is a web page"),
        (b"\n  <html lang=en>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n", "Git LFS pointer"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), "is not a weights file"),
        (b"just text", "is not a weights file"),
        (b"PK\x03\x04" + bytes(200), "is damaged or cut short"),
        (pickle.dumps({"a": 1}, 2), "is a pickle, not a weights file"),
        (save({}), "holds no tensors"),
    ],
)
def test_what_is_not_weights_is_told_apart(tmp_path: Path, content: bytes, says: str) -> None:
    assert says in _refusal(write(tmp_path / "weights.pt", content)).message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": 1}, "its entry 'a' is int"),
        ({"state_dict": {"a": torch.zeros(1), "epoch": "3"}}, "its entry 'epoch' is str"),
        ([torch.zeros(1)], "holds no tensors"),
        (torch.zeros(1), "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
    ],
)
def test_torch_files_that_are_no_state_dict(tmp_path: Path, content: Any, says: str) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert says in _refusal(tmp_path / "weights.pt").message


@pytest.mark.parametrize("content", [b"", b"<html>", b"\xff" * 300, b"short", save(TENSORS)[:-3]])
def test_bad_safetensors(tmp_path: Path, content: bytes) -> None:
    _refusal(write(tmp_path / "weights.safetensors", content))


@pytest.mark.parametrize("keep", [1, 10, 100, 1000, 0.5, 0.99])
def test_a_cut_off_torch_file_is_damaged(tmp_path: Path, keep: float) -> None:
    whole = pt_bytes("seg-b0-cityscapes")
    cut = whole[: int(keep if keep >= 1 else keep * len(whole))]
    error = _refusal(write(tmp_path / "weights.pt", cut))
    assert keep == 1 or "damaged" in error.message
    assert error.hint


def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    spoiled = bytearray(pt_bytes("seg-b0-cityscapes"))
    spoiled[len(spoiled) // 2] ^= 1
    error = _refusal(write(tmp_path / "weights.pt", bytes(spoiled)))
    assert "does not fit its checksum" in error.message


def test_a_file_written_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(TENSORS, tmp_path / "weights.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same_state(read_checkpoint(tmp_path / "weights.pt").state, TENSORS)


def test_other_archives_are_told_apart(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is a zip archive" in _refusal(tmp_path / "a.pt").message
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:  # the layout of torch.jit.save
        archive.writestr("b/data.pkl", b"")
        archive.writestr("b/constants.pkl", b"")
    assert "TorchScript" in _refusal(tmp_path / "b.pt").message


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle2", "pickle4"])
def test_a_malicious_pickle_does_not_run(tmp_path: Path, form: str) -> None:
    trace = tmp_path / "ran"
    content = {"state_dict": {"a": Malicious(trace)}}
    path = tmp_path / "weights.pt"
    if form.startswith("pickle"):
        path.write_bytes(pickle.dumps(content, int(form[-1])))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    error = _refusal(path)
    assert "was not opened" in error.message
    assert "safetensors" in error.hint
    assert not trace.exists()
    pickle.loads(pickle.dumps(Malicious(trace)))  # and it would have run, had it been unpickled
    assert trace.is_dir()


def test_python_objects_beside_the_weights_are_named(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "args": argparse.Namespace(lr=1)}, tmp_path / "w.pt")
    assert "argparse.Namespace" in _refusal(tmp_path / "w.pt").message


def test_missing_file_folder_and_permissions(tmp_path: Path) -> None:
    assert "there is no file" in _refusal(tmp_path / "none.pt").message
    assert "is a folder" in _refusal(tmp_path).message
    locked = write(tmp_path / "locked.pt", b"x")
    locked.chmod(0)
    if os.access(locked, os.R_OK):
        pytest.skip("this user may read everything")
    assert "permission denied" in _refusal(locked).message


def test_wrong_hash_names_both(tmp_path: Path) -> None:
    path = write(tmp_path / "w.pt", b"abc")
    actual = sha256_of(path)
    assert actual == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_sha256(path, actual, actual)
    with pytest.raises(EvitError) as caught:
        check_sha256(path, actual, "0" * 64)
    assert actual in caught.value.message
    assert "0" * 64 in caught.value.message


def test_own_weights_say_what_they_are(tmp_path: Path) -> None:
    variant = get_variant("seg-b0-cityscapes", num_classes=11)
    state = random_state("seg-b0-cityscapes", 11)
    path = tmp_path / "new" / "best.safetensors"
    save_weights(path, state, INFO, variant)
    checkpoint = read_checkpoint(path)
    assert same_state(checkpoint.state, state)
    assert checkpoint.saved == metadata.SavedInfo(INFO, "seg-b0-cityscapes", 11)
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    assert [p.name for p in path.parent.iterdir()] == ["best.safetensors"]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "best.safetensors", b"the old one")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(atomic.os, "fsync", full)
    variant = get_variant("seg-b0-cityscapes", num_classes=11)
    with pytest.raises(EvitError, match="no space left on device") as caught:
        save_weights(path, TENSORS, INFO, variant)
    assert str(path) in caught.value.message
    assert path.read_bytes() == b"the old one"
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), atomic.atomic_file(tmp_path / "w") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_writing_below_a_file_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "file", b"x")
    with (
        pytest.raises(EvitError, match="cannot write"),
        atomic.atomic_file(tmp_path / "file" / "w"),
    ):
        pass


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"),
        ("[]", "lacks or garbles"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1}', "lacks or garbles"),
    ],
)
def test_garbled_metadata_is_an_error(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path / "w.safetensors", save(TENSORS, {metadata.KEY: text}))
    assert says in _refusal(path).message


def test_metadata_that_contradicts_itself_is_an_error(tmp_path: Path) -> None:
    text = metadata.encode(INFO, get_variant("seg-b0-cityscapes", num_classes=12))
    path = write(tmp_path / "w.safetensors", save(TENSORS, {metadata.KEY: text}))
    assert "11 classes" in _refusal(path).message
