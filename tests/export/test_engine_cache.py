"""Engines kept from earlier builds: when they are reused, and what is said when they are not."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from evit_cli.config.device import load_profile
from evit_cli.errors import EvitError
from evit_cli.export.engine_cache import EngineCache, EngineKey, default_folder
from evit_cli.export.tensorrt import EngineRequest, EngineResult, build_engine
from evit_cli.runtime.description import read_description
from evit_cli.types import ImageSize
from tests.helpers.tensorrt_engine import A100, ORIN
from tests.helpers.tensorrt_models import Tiny
from tests.helpers.tensorrt_standin import Board, install

KEY = EngineKey("ab" * 32, "10.3.0", "Orin", "8.7", "fp16", "jetson-agx-orin", ("workspace=1",))


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "cache")


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    return install(monkeypatch, "10.3.0")


def stored(cache: EngineCache, key: EngineKey = KEY, build_s: float = 30.0) -> Path:
    return cache.store(key, b"engine" * 100, model="tiny at 32x48", build_s=build_s)


def test_what_was_stored_is_found(cache: EngineCache) -> None:
    path = stored(cache)
    found = cache.find(replace(KEY), model="tiny at 32x48")
    assert found.engine == path
    assert path.read_bytes() == b"engine" * 100
    assert found.reason == "the engine was built before, in 30 s, and reused"


def test_an_empty_cache_says_that_building_takes_minutes(cache: EngineCache) -> None:
    found = cache.find(KEY, model="tiny at 32x48")
    assert found.engine is None
    assert found.reason == (
        "no engine of tiny at 32x48 was built here yet; building it may take minutes"
    )
    stored(cache)
    other = cache.find(replace(KEY, onnx_sha256="cd" * 32), model="another at 32x48")
    assert other.reason.startswith("no engine of another at 32x48 was built here yet")


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("onnx_sha256", "cd" * 32, "the ONNX file has changed"),
        ("tensorrt", "10.13.2", "TensorRT was 10.3.0 and is 10.13.2"),
        ("gpu", "Thor", "the GPU was Orin and is Thor"),
        ("compute_capability", "11.0", "the GPU's compute capability was 8.7 and is 11.0"),
        ("precision", "int8", "the precision was fp16 and is int8"),
        ("profile", "mine", "the device profile was jetson-agx-orin and is mine"),
        ("profile", "", "the device profile has changed"),
        ("flags", ("workspace=2",), "the build flags have changed"),
    ],
)
def test_every_part_of_the_key_counts_and_is_named(
    cache: EngineCache, part: str, value: object, said: str
) -> None:
    stored(cache, build_s=143.0)
    found = cache.find(replace(KEY, **{part: value}), model="tiny at 32x48")
    assert found.engine is None
    assert found.changes == (said,)
    assert found.reason == (
        f"the engine is built again, because {said}; building it may take minutes, the last one "
        "took 2 min"
    )


def test_the_nearest_engine_explains_the_change(cache: EngineCache) -> None:
    stored(cache, replace(KEY, tensorrt="8.6.1", precision="fp32", gpu="Xavier"))
    stored(cache, replace(KEY, tensorrt="10.7.0"))
    found = cache.find(KEY, model="tiny at 32x48")
    assert found.changes == ("TensorRT was 10.7.0 and is 10.3.0",)


@pytest.mark.parametrize("what", ["cut", "changed", "gone", "note"])
def test_a_damaged_engine_is_dropped_with_a_reason(cache: EngineCache, what: str) -> None:
    path = stored(cache)
    if what == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif what == "changed":
        path.write_bytes(b"Engine" + path.read_bytes()[6:])
    elif what == "gone":
        path.unlink()
    else:
        path.with_suffix(".json").write_text('{"format": 1, "key": {}}')
    found = cache.find(KEY, model="tiny at 32x48")
    assert found.engine is None
    assert found.reason.startswith("the engine is built again, because ")
    assert ("damaged" in found.reason) is (what in ("cut", "changed"))
    assert list(cache.folder.iterdir()) == []
    assert "was built here yet" in cache.find(KEY, model="tiny at 32x48").reason


def test_an_engine_without_its_note_is_none(cache: EngineCache) -> None:
    """As after a power cut between the two files."""
    stored(cache).with_suffix(".json").unlink()
    assert cache.find(KEY, model="tiny at 32x48").engine is None


def test_a_note_of_another_format_is_not_read(cache: EngineCache) -> None:
    note = stored(cache).with_suffix(".json")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"format": 99}))
    assert cache.find(KEY, model="tiny at 32x48").engine is None


def test_the_oldest_engines_go_when_there_are_too_many(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, limit_bytes=1500)
    keys = [replace(KEY, onnx_sha256=f"{number:064x}") for number in range(4)]
    for age, key in enumerate(keys):
        path = stored(cache, key)
        os.utime(path, (1000 + age, 1000 + age))
    left = [cache.find(key, model="tiny at 32x48").engine is not None for key in keys]
    assert left == [False, False, True, True]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    with pytest.raises(EvitError, match="cannot write"):
        stored(EngineCache(tmp_path / "cache"))
    assert EngineCache(tmp_path / "cache").find(KEY, model="tiny").engine is None


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"EVIT_CACHE_DIR": "/a", "XDG_CACHE_HOME": "/x"}, Path("/a/engines")),
        ({"XDG_CACHE_HOME": "/x"}, Path("/x/evit/engines")),
        ({}, Path.home() / ".cache/evit/engines"),
    ],
)
def test_where_it_is(env: dict[str, str], folder: Path) -> None:
    assert default_folder(env) == folder


# With the builder
def build(
    folder: Path, tiny: Tiny, cache: EngineCache, said: list[str], profile: str = "orin"
) -> EngineResult:
    onnx_file = tiny.save(folder / "tiny.onnx")
    request = EngineRequest(tiny.description, load_profile(profile), cache, said.append)
    return build_engine(onnx_file, folder / "tiny.engine", request=request)


def test_the_second_build_comes_from_the_cache(
    board: Board, tmp_path: Path, cache: EngineCache
) -> None:
    said: list[str] = []
    first = build(tmp_path, Tiny(), cache, said)
    content = first.engine.read_bytes()
    first.engine.unlink()
    second = build(tmp_path, Tiny(), cache, said)
    assert (first.built, second.built) == (True, False)
    assert second.engine.read_bytes() == content
    assert read_description(second.engine).info.name == "tiny"
    assert len(board.builds) == 1
    assert first.gpu == second.gpu == ORIN
    assert said[0].startswith("no engine of tiny at 32x48 was built here yet")
    assert "reused" in said[1]
    assert board.leaked == 0


def test_what_makes_the_builder_run_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: EngineCache
) -> None:
    said: list[str] = []
    install(monkeypatch, "10.3.0")
    build(tmp_path, Tiny(), cache, said)
    build(tmp_path, Tiny(seed=1), cache, said)
    install(monkeypatch, "11.4.1")
    build(tmp_path, Tiny(seed=1), cache, said)
    install(monkeypatch, "11.4.1", A100)
    build(tmp_path, Tiny(seed=1), cache, said, "a100")
    assert "because the ONNX file has changed" in said[1]
    assert "because TensorRT was 10.3.0 and is 11.4.1" in said[2]
    assert "the GPU was Orin and is NVIDIA A100-SXM4-40GB" in said[3]
    assert "the device profile was jetson-agx-orin and is a100" in said[3]


def test_another_range_of_sizes_is_another_engine(
    board: Board, tmp_path: Path, cache: EngineCache
) -> None:
    """The same ONNX file, tuned for other sizes."""
    said: list[str] = []
    build(tmp_path, Tiny(largest_hw=ImageSize(64, 64)), cache, said)
    result = build(tmp_path, Tiny(largest_hw=ImageSize(128, 128)), cache, said)
    assert result.built
    assert "tiny at 32x48 to 128x128" in said[1]


def test_timings_of_this_gpu_are_kept_for_the_next_build(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: EngineCache
) -> None:
    board = install(monkeypatch, "10.3.0")
    build(tmp_path, Tiny(), cache, [])
    build(tmp_path, Tiny(seed=1), cache, [])
    assert [made["timing"] for made in board.builds] == [b"", f"10.3.0|{ORIN}".encode()]
    other = install(monkeypatch, "10.13.2")
    build(tmp_path, Tiny(), cache, [])
    assert other.builds[0]["timing"] == b""


def test_timings_that_tensorrt_does_not_take_are_left(
    board: Board, tmp_path: Path, cache: EngineCache
) -> None:
    build(tmp_path, Tiny(), cache, [])
    (timing,) = cache.folder.glob("*.timing")
    timing.write_bytes(b"damaged")
    build(tmp_path, Tiny(seed=1), cache, [])
    assert board.builds[1]["timing"] == b""


def test_a_cache_that_cannot_be_written_costs_no_engine(board: Board, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file is in the way")
    said: list[str] = []
    result = build(tmp_path, Tiny(), EngineCache(tmp_path / "cache"), said)
    assert result.engine.is_file()
    assert said[-1].startswith("the engine is not kept for the next time: cannot write")


def test_a_failed_build_is_not_kept(board: Board, tmp_path: Path, cache: EngineCache) -> None:
    board.fail_build = "Error Code 1: Internal Error (no.)"
    with pytest.raises(EvitError):
        build(tmp_path, Tiny(), cache, [])
    assert list(cache.folder.glob("*")) == []
