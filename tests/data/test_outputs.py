"""A teacher's outputs in shards: what is missing, what another key does, what damage does."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from evit_cli.data.outputs import PER_SHARD, OutputShards
from evit_cli.errors import EvitError
from evit_cli.weights.atomic import atomic_file

COUNT = 2 * PER_SHARD + 5


def put(path: Path, content: bytes) -> None:
    with atomic_file(path) as file:
        file.write(content)


def outputs(index: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(index)
    return {
        "logits": rng.standard_normal((3, 2, 4)).astype(np.float16),
        "stride8": rng.standard_normal((5, 2, 4)).astype(np.float16),
    }


def filled(folder: Path) -> OutputShards:
    shards = OutputShards(folder, COUNT)
    shards.prepare({"teacher": "a"}, put)
    for indices in shards.missing():
        shards.write(indices, [outputs(index) for index in indices], put)
    return shards


def same(found: dict[str, np.ndarray], index: int) -> bool:
    expected = outputs(index)
    return found.keys() == expected.keys() and all(
        found[name].dtype == np.float16 and (found[name] == expected[name]).all()
        for name in expected
    )


def test_what_was_written_is_read(tmp_path: Path) -> None:
    shards = filled(tmp_path / "teacher")
    for index in (COUNT - 1, 0, PER_SHARD - 1, PER_SHARD, 7, 2 * PER_SHARD):
        assert same(shards.read(index), index)
    assert shards.missing() == []


def test_only_missing_shards_are_asked_for(tmp_path: Path) -> None:
    shards = OutputShards(tmp_path, COUNT)
    assert shards.missing() == [range(0, 64), range(64, 128), range(128, 133)]
    filled(tmp_path)
    (tmp_path / "00001.safetensors").unlink()
    assert shards.missing() == [range(64, 128)]


def test_the_same_key_keeps_everything_and_another_one_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    shards = filled(folder)
    shards.prepare({"teacher": "a"}, put)
    assert shards.missing() == []
    shards.prepare({"teacher": "b"}, put)
    assert len(shards.missing()) == 3
    assert [path.name for path in folder.iterdir()] == ["key.json"]


def test_shards_without_a_key_are_not_trusted(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    shards = filled(folder)
    (folder / "key.json").unlink()
    shards.prepare({"teacher": "a"}, put)
    assert len(shards.missing()) == 3


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "gone"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    shards = filled(tmp_path)
    path = tmp_path / "00001.safetensors"
    if damage == "gone":
        path.unlink()
    elif damage == "foreign":
        path.write_bytes((tmp_path / "00000.safetensors").read_bytes())
    else:
        path.write_bytes(path.read_bytes()[: 1000 if damage == "cut" else 0])
    assert same(shards.read(3), 3)
    with pytest.raises(EvitError, match="does not hold the teacher's outputs") as caught:
        shards.read(70)
    assert str(path) in caught.value.message
    assert "made again" in caught.value.hint


def test_open_shards_go_to_worker_processes(tmp_path: Path) -> None:
    shards = filled(tmp_path)
    shards.read(0)
    other = pickle.loads(pickle.dumps(shards))
    assert same(other.read(0), 0)
