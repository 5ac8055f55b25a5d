"""A run of `evit segment` that something is done to, and what every drill asks of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from tests.helpers.media_files import numbered, write_video

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 90
LONG = 600
"""Frames of a film that outlasts every drill."""


class NotHere(Exception):
    """This machine lacks what the drill needs; the words say what."""


@dataclass(frozen=True)
class Ending:
    """How a run ended: its exit code, None where it was killed, and what was seen."""

    code: int | None
    seen: str


@dataclass(frozen=True)
class Drill:
    """One thing to break.

    Attributes:
        name: short, for `--only`.
        tried: what was done, in a sentence.
        run: does it in an empty folder, and asserts what must hold.
        also: the test that does the same, so that the drill need not be one too.
    """

    name: str
    tried: str
    run: Callable[[Path], Ending]
    also: str = ""


class Run:
    """`evit segment` as a process, with JSON rows on stdout; killed when the context ends."""

    def __init__(self, folder: Path, *arguments: object, stand_in: str = "", **more: str) -> None:
        module = ["tests.helpers.stand_in_runner", stand_in] if stand_in else ["evit_cli"]
        command = [sys.executable, "-m", *module, "segment", *map(str, arguments), "--json"]
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", **more,
        }  # fmt: skip
        self.folder = folder
        self.said: list[str] = []
        self.rows: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [*command, "--threads", "1"], cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._readers = [
            threading.Thread(target=self._read_rows, daemon=True),
            threading.Thread(target=self._read_words, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read_rows(self) -> None:
        for line in self.process.stdout or ():
            self.rows.append(json.loads(line))

    def _read_words(self) -> None:
        for line in self.process.stderr or ():
            self.said.append(line.strip())

    def wait_for(self, what: str, true: Callable[[], object]) -> None:
        """Wait until something holds, while the process lives."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < deadline_s, f"waited in vain for {what}: {self.said}"
            assert self.process.poll() is None, f"ended before {what}: {self.said}"
            time.sleep(0.02)

    def frames(self, count: int) -> None:
        """Wait until so many frames are done."""
        self.wait_for(f"{count} frames", lambda: len(self.rows) >= count)

    def hears(self, words: str) -> None:
        """Wait until it has said this."""
        self.wait_for(f"'{words}'", lambda: any(words in line for line in self.said))

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if any, and wait for the end; its exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        assert not any("Traceback" in line for line in self.said), self.said
        return code

    @property
    def summary(self) -> dict[str, Any]:
        """The last row's report."""
        report: dict[str, Any] = self.rows[-1]["summary"]
        return report

    def sentence(self) -> str:
        """The error and its mend, as one line without this machine's paths."""
        lines = [line for line in self.said if line.startswith(("error: ", "mend: "))]
        # The sources' folder first: it may be above the drill's own.
        text = "; ".join(lines).replace(str(ROOT) + "/", "").replace(f"{self.folder}/", "")
        return text.replace("`", "'")  # it stands between backticks in the table


def frames_of(path: Path) -> int:
    """How many frames of a movie can be decoded."""
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


def left(folder: Path) -> list[str]:
    """Files of the output folder."""
    return sorted(path.name for path in (folder / "out").rglob("*") if path.is_file())


def film(folder: Path, count: int = LONG) -> Path:
    pictures = [numbered(n) for n in range(25)] * (count // 25)
    options = {"preset": "ultrafast", "g": "1"}
    return write_video(folder / "drive.mp4", pictures, options=options)


def whole_movie(run: Run, name: str = "out/drive.mp4") -> str:
    """The movie plays, and has the frames that the summary tells."""
    frames = frames_of(run.folder / name)
    assert frames == run.summary["frames"] > 0, (frames, run.summary)
    assert left(run.folder) == [Path(name).name]
    return "the movie plays and has every frame that was processed"


def lost_and_found(run: Run) -> str:
    losses = sum("was lost" in line for line in run.said)
    returns = sum("is back" in line for line in run.said)
    assert losses == returns == run.summary["reconnects"] > 0, run.said
    return f"{losses} loss and {returns} return, told as they happened; "


# Cameras and streams
