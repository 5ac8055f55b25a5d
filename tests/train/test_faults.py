"""A full disk and a loss that is no number: what is said, and what is kept."""

from __future__ import annotations

import errno
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from evit_cli.errors import EvitError
from evit_cli.train.checkpoint import load_snapshot
from evit_cli.train.segment_task import SegmentTask
from tests.helpers.trainings import (
    EVERY_STEP,
    SEGMENT,
    changed,
    checkpoint,
    run_here,
    write_recipe,
    write_segments,
)


@pytest.fixture
def training(tmp_path: Path) -> tuple[Path, Path]:
    """(recipe, data); every step is saved."""
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEGMENT, {**EVERY_STEP, "train.ema": 0.9}))
    return recipe, write_segments(tmp_path / "data")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one run folder's files, but not for two checkpoints."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a tmpfs is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def sentence(output: str) -> str:
    """The error, whose lines the console may have wrapped."""
    return " ".join(output.split())


def test_a_full_disk_leaves_the_previous_checkpoint(
    training: tuple[Path, Path], small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = training
    out = small_disk / "out"
    steps = ("--set", "train.steps=4", "--resume", "auto")
    with monkeypatch.context() as patch:
        spoil(patch, 3, value=math.nan)  # ends after two steps
        assert run_here(recipe, data, out, *steps).exit_code == 1
    before = (out / "last.ckpt").read_bytes()
    used = sum(path.stat().st_size for path in out.iterdir())
    (small_disk / "other").write_bytes(bytes(48 * 2**20 - used - 2**20))
    result = run_here(recipe, data, out, *steps)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    said = sentence(result.stderr)
    assert "no space left on device" in said
    assert "the previous checkpoint is untouched" in said
    assert said.count("error:") == 1
    assert (out / "last.ckpt").read_bytes() == before
    assert not list(out.glob(".*"))
    assert load_snapshot(out / "last.ckpt").step == 2
    (small_disk / "other").unlink()
    again = run_here(recipe, data, out, *steps)
    assert again.exit_code == 0, again.output
    assert checkpoint(out)["step"] == 4


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_fails_late(
    training: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The system may refuse only when the data reach the disk, or at the renaming."""
    recipe, data = training
    out = tmp_path / "out"
    real = getattr(__import__("os"), where)
    plain = SegmentTask.loss
    steps = 0

    def counted(self: SegmentTask, *args: Any, **named: Any) -> Any:
        nonlocal steps
        steps += 1
        return plain(self, *args, **named)

    def refuse(*args: Any) -> Any:
        if steps >= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args)

    monkeypatch.setattr(SegmentTask, "loss", counted)
    monkeypatch.setattr(f"evit_cli.weights.atomic.os.{where}", refuse)
    result = run_here(recipe, data, out)
    assert result.exit_code == 1
    assert "at step 3: no space left on device" in sentence(result.stderr)
    assert load_snapshot(out / "last.ckpt").step == 2
    assert not list(out.glob(".*"))


def spoil(
    monkeypatch: pytest.MonkeyPatch, call: int, *, value: float, gradient: bool = False
) -> None:
    """Make the loss number `call` (from 1), or only its gradient, `value`."""
    plain, calls = SegmentTask.loss, 0

    def spoiled(self: SegmentTask, *args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        loss = plain(self, *args, **named)
        if calls == call and gradient:
            loss.total.register_hook(lambda g: g * value)
        elif calls == call:
            loss = loss._replace(total=loss.total * value)
        return loss

    monkeypatch.setattr(SegmentTask, "loss", spoiled)


@pytest.mark.parametrize(
    ("value", "gradient", "words"),
    [
        (math.nan, False, "the loss is nan at step 3"),
        (math.inf, False, "the loss is inf at step 3"),
        (math.nan, True, "the gradient is nan at step 3"),
    ],
)
def test_a_loss_that_is_no_number(
    training: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    gradient: bool,
    words: str,
) -> None:
    recipe, data = training
    out = tmp_path / "out"
    spoil(monkeypatch, 3, value=value, gradient=gradient)
    result = run_here(recipe, data, out)
    assert result.exit_code == 1
    assert "Traceback" not in result.output
    said = sentence(result.stderr)
    assert words in said
    together = "".join(result.stderr.split())
    assert str(data / "train" / "images") in together
    assert together.count(".png") == 4
    assert f"thelastgoodcheckpointis{out / 'last.ckpt'}" in together
    kept = checkpoint(out)
    assert kept["step"] == 2
    for part in ("network", "average"):
        assert all(bool(torch.isfinite(t.float()).all()) for t in kept[part].values())
    state = kept["optimizer"]["state"]
    assert all(bool(torch.isfinite(t).all()) for each in state.values() for t in each.values())
    monkeypatch.undo()
    assert run_here(recipe, data, out, "--resume", "auto").exit_code == 0


def test_only_the_files_of_the_guilty_micro_batch_are_named(
    training: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, data = training
    spoil(monkeypatch, 2, value=math.nan)
    more = ("--set", "train.accumulate=2", "--set", "train.save_minutes=1000")
    result = run_here(recipe, data, tmp_path / "out", *more)
    assert result.exit_code == 1
    assert "".join(result.stderr.split()).count(".png") == 2
    assert "no checkpoint yet" in sentence(result.stderr)


def test_a_learning_rate_that_explodes_is_noticed(
    training: tuple[Path, Path], tmp_path: Path
) -> None:
    """Nothing is faked here: the weights grow until the loss is no number."""
    recipe, data = training
    more = ("--set", "optimizer.lr=1e30", "--set", "train.steps=8")
    result = run_here(recipe, data, tmp_path / "out", *more)
    assert result.exit_code == 1, result.output
    assert "at step" in sentence(result.stderr)
    if (tmp_path / "out" / "last.ckpt").exists():
        kept = checkpoint(tmp_path / "out")["network"]
        assert all(bool(torch.isfinite(t.float()).all()) for t in kept.values())


def test_an_image_that_cannot_be_read_is_named(training: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = training
    broken = data / "train" / "images" / "3.png"
    broken.write_bytes(b"no image")
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == 1
    assert str(broken) in "".join(result.stderr.split())


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut"])
def test_a_damaged_checkpoint_is_named(
    training: tuple[Path, Path], tmp_path: Path, content: bytes
) -> None:
    recipe, data = training
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.ckpt").write_bytes(content)
    with pytest.raises(EvitError, match="is not a training checkpoint"):
        load_snapshot(tmp_path / "out" / "last.ckpt")
    result = run_here(recipe, data, tmp_path / "out", "--resume", "auto")
    assert result.exit_code == 1
    assert "last.ckpt" in "".join(result.stderr.split())


def test_a_missing_checkpoint_is_named(training: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = training
    result = run_here(recipe, data, tmp_path / "out", "--resume", tmp_path / "none.ckpt")
    assert result.exit_code == 1
    assert "thereisnocheckpoint" in "".join(result.stderr.split())


def test_too_little_memory_is_a_sentence(
    training: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's own words for it, from the CPU's allocator; another RuntimeError stays one."""

    def hungry(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 1 TB")

    monkeypatch.setattr(SegmentTask, "loss", hungry)
    recipe, data = training
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == 1
    said = sentence(result.stderr)
    assert "out of memory in step 1" in said
    assert "train.batch_size" in said

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(SegmentTask, "loss", broken)
    other = run_here(recipe, data, tmp_path / "other")
    assert isinstance(other.exception, RuntimeError)
