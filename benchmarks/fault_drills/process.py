"""What happens to the process: its disk, its signals, its reader."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.fault_drills.run import (
    LONG,
    PATIENCE_S,
    ROOT,
    Ending,
    NotHere,
    Run,
    film,
    frames_of,
    left,
    whole_movie,
)
from tests.helpers.media_files import write_video


@contextmanager
def small_disk(place: Path) -> Iterator[str]:
    """A tmpfs of 256 KiB; its name in words."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        raise NotHere("only root may mount a small disk")
    try:
        yield "a tmpfs of 256 KiB"
    finally:
        subprocess.run(["umount", str(place)], check=True)


def disk_full(folder: Path) -> Ending:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(40)]
    write_video(folder / "drive.mp4", pictures, options={"preset": "ultrafast"})
    with small_disk(folder / "out"), Run(folder, "drive.mp4", "--out", "out/drive.mp4") as run:
        code = run.end()
        assert code == 1 and left(folder) == []
        assert "no space left on device" in run.sentence()
        return Ending(code, f"no half-written file stays: `{run.sentence()}`")


def told_to_stop(number: signal.Signals, expected: int) -> Callable[[Path], Ending]:
    def run_it(folder: Path) -> Ending:
        film(folder)
        with Run(folder, "drive.mp4", "--out", "out/drive.mp4") as run:
            run.frames(4)
            code = run.end(number)
            assert code == expected and run.summary["interrupted"]
            return Ending(code, whole_movie(run))

    return run_it


def killed(folder: Path) -> Ending:
    """What was there before is kept; the next run clears up and replaces it."""
    film(folder, 25)
    movie = folder / "out" / "drive.mp4"
    movie.parent.mkdir()
    movie.write_bytes(b"of yesterday")
    with Run(folder, "drive.mp4", "--out", "out/drive.mp4", "--force") as run:
        run.frames(4)
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
    assert movie.read_bytes() == b"of yesterday"
    hidden = [name for name in left(folder) if name != movie.name]
    assert hidden == [".drive.evit-partial.mp4"], hidden
    with Run(folder, "drive.mp4", "--out", "out/drive.mp4", "--force") as run:
        code = run.end()
        assert code == 0 and frames_of(movie) == 25
        whole_movie(run)
    return Ending(
        None,
        "the older output is untouched and a hidden partial file stays, whose frames are lost; the "
        "same command again replaces both and exits with 0",
    )


def killed_mkv(folder: Path) -> Ending:
    film(folder)
    with Run(folder, "drive.mp4", "--out", "out/drive.mkv") as run:
        run.frames(40)
        assert run.end(signal.SIGKILL) == -signal.SIGKILL
        seen = len(run.rows)
    assert left(folder) == [".drive.evit-partial.mkv"]
    frames = frames_of(folder / "out" / ".drive.evit-partial.mkv")
    assert frames > 0
    return Ending(None, f"the hidden partial .mkv plays: {frames} of {seen} frames")


def reader_goes_away(folder: Path) -> Ending:
    film(folder)
    command = (
        f"{sys.executable} -m evit_cli segment drive.mp4 --out out/drive.mp4 --json --threads 1"
    )
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 4 > rows; exit ${{PIPESTATUS[0]}}"],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    frames = frames_of(folder / "out" / "drive.mp4")
    assert 4 <= frames < LONG and left(folder) == ["drive.mp4"]
    return Ending(done.returncode, "quietly; the movie plays and has what was done by then")


# Models and engines
