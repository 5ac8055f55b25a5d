"""Nothing is lost: killed at any moment, a training goes on and ends as the uninterrupted one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.trainings import (
    CLASSIFY,
    EVERY_STEP,
    RANDOM_CLASSIFY,
    RANDOM_SEGMENT,
    SEGMENT,
    arguments,
    assert_same_run,
    changed,
    checkpoint,
    differing,
    evaluations,
    run_here,
    start,
    write_classes,
    write_recipe,
    write_segments,
)

LENGTH = {"train.steps": 10, "train.eval_epochs": 1.0, **EVERY_STEP}
PATIENCE_S = 60.0


@pytest.fixture(params=["segment", "classify"])
def training(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """(recipe, data) of a training with everything random in it."""
    if request.param == "segment":
        document = changed(SEGMENT, {**RANDOM_SEGMENT, **LENGTH})
        return write_recipe(tmp_path / "r.yaml", document), write_segments(tmp_path / "data")
    document = changed(CLASSIFY, {**RANDOM_CLASSIFY, **LENGTH})
    return write_recipe(tmp_path / "r.yaml", document), write_classes(tmp_path / "data")


def step_of(out: Path) -> int:
    """Steps that the newest checkpoint holds."""
    return int(checkpoint(out)["step"]) if (out / "last.ckpt").exists() else 0


def kill_after(process: subprocess.Popen[str], out: Path, *, saves: int, delay_s: float) -> None:
    """Kill a training some time after it wrote so many checkpoints."""
    path, seen, count = out / "last.ckpt", 0, -1
    deadline = time.monotonic() + PATIENCE_S
    while process.poll() is None and count < saves and time.monotonic() < deadline:
        now = path.stat().st_mtime_ns if path.exists() else 0
        if now != seen or count < 0:
            seen, count = now, count + 1
        time.sleep(0.002)
    time.sleep(delay_s)
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_killed_at_random_moments(training: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = training
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    done = start(arguments(recipe, data, whole))
    assert done.wait(PATIENCE_S) == 0
    moments = random.Random(1)
    reached = [0]
    for saves in (1, 3, 2):
        process = start(arguments(recipe, data, pieces, "--resume", "auto"))
        kill_after(process, pieces, saves=saves, delay_s=moments.uniform(0, 0.15))
        assert process.returncode == -signal.SIGKILL
        reached.append(step_of(pieces))
    assert 0 < reached[1] < reached[2] < 10
    last = start(arguments(recipe, data, pieces, "--resume", "auto"))
    assert last.wait(PATIENCE_S) == 0
    assert_same_run(whole, pieces)
    assert {path.suffix for path in pieces.iterdir()} & {".tmp"} == set()


def stop_at(monkeypatch: pytest.MonkeyPatch, loss: int, *signals: int) -> None:
    """Send signals to this process while the loss number `loss` (from 1) is computed."""
    import evit_cli.train.classify_task as classify
    import evit_cli.train.segment_task as segment

    calls = 0
    for kind in (classify.ClassifyTask, segment.SegmentTask):
        plain = kind.loss

        def counted(self, *args, plain=plain, **named):  # type: ignore[no-untyped-def]
            nonlocal calls
            calls += 1
            if calls == loss:
                for number in signals:
                    os.kill(os.getpid(), number)
            return plain(self, *args, **named)

        monkeypatch.setattr(kind, "loss", counted)


@pytest.mark.parametrize("step", [2, pytest.param(3, marks=pytest.mark.slow), 6])
def test_stopped_by_a_signal_and_resumed(
    training: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """An evaluation is due after each second or third step, and after the last."""
    recipe, data = training
    changes = ("--set", "train.steps=6", "--set", "train.save_minutes=1000")
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert run_here(recipe, data, whole, *changes).exit_code == 0
    with monkeypatch.context() as patch:
        stop_at(patch, 2 * step, signal.SIGTERM)  # two micro-batches per step
        assert run_here(recipe, data, pieces, *changes).exit_code == 143
    assert step_of(pieces) == step
    done = run_here(recipe, data, pieces, *changes, "--resume", "auto")
    assert done.exit_code == 0, done.output
    assert_same_run(whole, pieces)


@pytest.mark.parametrize(
    ("signals", "code"),
    [((signal.SIGINT,), 130), ((signal.SIGTERM,), 143), ((signal.SIGHUP,), 143)],
)
def test_the_first_signal_finishes_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: tuple[int, ...], code: int
) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", SEGMENT)
    stop_at(monkeypatch, 2, *signals)
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == code
    assert "Traceback" not in result.output
    assert step_of(tmp_path / "out") == 2
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_second_signal_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEGMENT, EVERY_STEP))
    stop_at(monkeypatch, 3, number, number)
    result = run_here(recipe, data, tmp_path / "out")
    assert result.exit_code == code
    assert step_of(tmp_path / "out") == 2  # the third step was not finished


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_the_whole_group_spares_the_loaders(
    tmp_path: Path, number: int, code: int
) -> None:
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(
        tmp_path / "r.yaml",
        changed(SEGMENT, {"train.steps": 2000, "data.workers": 2, **EVERY_STEP}),
    )
    out = tmp_path / "out"
    process = start(arguments(recipe, data, out), start_new_session=True)
    deadline = time.monotonic() + PATIENCE_S
    while not (out / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    assert "Traceback" not in err
    before = step_of(out)
    assert before > 0
    more = ("--resume", "auto", "--set", "train.steps=2000")
    again = start(arguments(recipe, data, out, *more), start_new_session=True)
    kill_after(again, out, saves=2, delay_s=0)
    assert step_of(out) > before


@pytest.mark.slow
def test_loader_processes_change_nothing(training: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = training
    short = ("--set", "train.steps=3")
    assert run_here(recipe, data, tmp_path / "none", *short).exit_code == 0
    two = run_here(recipe, data, tmp_path / "two", *short, "--set", "data.workers=2")
    assert two.exit_code == 0, two.output
    assert_same_run(tmp_path / "none", tmp_path / "two")


def test_another_seed_is_another_training(training: tuple[Path, Path], tmp_path: Path) -> None:
    """So that equal weights above mean something."""
    recipe, data = training
    short = ("--set", "train.steps=2")
    assert run_here(recipe, data, tmp_path / "a", *short).exit_code == 0
    assert run_here(recipe, data, tmp_path / "b", *short, "--set", "train.seed=1").exit_code == 0
    one, two = checkpoint(tmp_path / "a"), checkpoint(tmp_path / "b")
    assert differing(one["network"], two["network"])
    assert differing(one["average"], two["average"])


def test_a_finished_training_stays_as_it_is(training: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, data = training
    out = tmp_path / "out"
    assert run_here(recipe, data, out, "--set", "train.steps=2").exit_code == 0
    before = evaluations(out), (out / "best.safetensors").read_bytes()
    again = run_here(recipe, data, out, "--set", "train.steps=2", "--resume", "auto")
    assert again.exit_code == 0
    assert (evaluations(out), (out / "best.safetensors").read_bytes()) == before


def test_starting_again_by_force_forgets_the_old_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its first checkpoint, the new run must not go on from the old one's."""
    data = write_segments(tmp_path / "data")
    recipe, out = write_recipe(tmp_path / "r.yaml", SEGMENT), tmp_path / "out"
    assert run_here(recipe, data, out).exit_code == 0
    stop_at(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    assert run_here(recipe, data, out, "--force").exit_code == 130
    assert not (out / "last.ckpt").exists()


def test_going_on_from_a_file_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, the best weights so far are missing, so the next ones are the best."""
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEGMENT, {"train.eval_epochs": 0.1}))
    with monkeypatch.context() as patch:
        stop_at(patch, 3, signal.SIGTERM)
        assert run_here(recipe, data, tmp_path / "old").exit_code == 143
    file = tmp_path / "old" / "last.ckpt"
    result = run_here(recipe, data, tmp_path / "new", "--resume", file)
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.splitlines()[-1]).is_file()
    assert [line["step"] for line in evaluations(tmp_path / "new")] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_has_the_gradients_of_the_plain_one(tmp_path: Path) -> None:
    """One step: AdamW then remembers a tenth of the gradient."""
    data = write_segments(tmp_path / "data")
    recipe = write_recipe(tmp_path / "r.yaml", changed(SEGMENT, {"train.steps": 1}))
    found = []
    for compiled in ("false", "true"):
        out = tmp_path / compiled
        result = run_here(recipe, data, out, "--set", f"train.compile={compiled}")
        assert result.exit_code == 0, result.output
        states = checkpoint(out)["optimizer"]["state"].values()
        found.append(torch.cat([state["exp_avg"].flatten() for state in states]))
    assert float(found[0].norm()) > 0
    assert float((found[1] - found[0]).norm()) <= 1e-3 * float(found[0].norm())
