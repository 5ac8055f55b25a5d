"""Breaks things under a running `evit segment` and notes how it ends.

`python -m benchmarks.fault_drills` runs every drill as a real process with the model that travels
with evit, prints the table, and exits with 1 if one ended otherwise than it should;
`--write` puts the table into docs/fault-drills.md, `--only NAME` runs one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.helpers.media_files import damage_packets, numbered, write_video
from tests.helpers.rtsp_server import Camera, RtspServer

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "fault-drills.md"
COMMAND = "python -m benchmarks.fault_drills --write"
START, END = "<!-- the table begins -->", "<!-- the table ends -->"
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


def camera_comes_back(folder: Path) -> Ending:
    plug = folder / "plugged"
    plug.touch()
    with Run(folder, 0, "--out", "out/drive.mp4", stand_in=f"camera={plug}") as run:
        run.frames(4)
        plug.unlink()
        run.hears("was lost")
        plug.touch()
        run.wait_for("the camera", lambda: run.rows[-1].get("reconnects") == 1)
        run.frames(len(run.rows) + 3)
        code = run.end(signal.SIGTERM)
        assert code == 143
        return Ending(code, lost_and_found(run) + "after SIGTERM " + whole_movie(run))


def camera_stays_away(folder: Path) -> Ending:
    plug = folder / "plugged"
    plug.touch()
    options = {"stand_in": f"camera={plug}", "EVIT_RECONNECT_S": "2"}
    with Run(folder, 0, "--out", "out/drive.mp4", **options) as run:
        run.frames(4)
        plug.unlink()
        code = run.end()
        assert code == 1 and any("did not come back for 2 s" in line for line in run.said)
        return Ending(code, "one sentence that it did not come back; " + whole_movie(run))


def pipe_breaks(folder: Path) -> Ending:
    """A FIFO, as `gst-launch ... ! filesink` or ffmpeg fills it, whose writer dies."""
    pipe, clip = folder / "camera", folder / "clip.mkv"
    write_video(clip, [numbered(n) for n in range(60)], options={"g": "1"})
    os.mkfifo(pipe)
    with Run(folder, "camera", "--out", "out/drive.mp4") as run:
        data = clip.read_bytes()
        with pipe.open("wb") as writer:
            writer.write(data[: len(data) // 2 + 7])
        code = run.end()
        assert code == 0 and run.summary["frames"] > 5
        note = f"as a file that ends early: {run.summary['frames']} of 60 frames; "
        return Ending(code, note + whole_movie(run))


@contextmanager
def rtsp_server(port: int) -> Iterator[str]:
    """GStreamer's server, or the small one of the tests where `gi` is missing; its name."""
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    script = ROOT / "tests" / "helpers" / "gst_rtsp_server.py"
    server = subprocess.Popen(
        [python, str(script), str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        if server.stdout is not None and server.stdout.readline() == b"serving\n":
            yield "GStreamer's gst-rtsp-server"
            return
        with RtspServer(Camera(frames=2000, rate=15, port=port)):
            yield "the tests' own RTSP server"
    finally:
        server.kill()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rtsp_comes_back(folder: Path) -> Ending:
    port = free_port()
    with ExitStack() as server:
        kind = server.enter_context(rtsp_server(port))
        with Run(folder, f"rtsp://127.0.0.1:{port}/stream", "--out", "out/drive.mp4") as run:
            run.frames(4)
            server.close()
            run.hears("was lost")
            server.enter_context(rtsp_server(port))
            run.wait_for("the server", lambda: run.rows[-1].get("reconnects", 0) >= 1)
            run.frames(len(run.rows) + 3)
            code = run.end(signal.SIGINT)
            assert code == 130
            return Ending(code, f"({kind}) {lost_and_found(run)}after Ctrl-C {whole_movie(run)}")


def rtsp_stays_away(folder: Path) -> Ending:
    port = free_port()
    with ExitStack() as server:
        kind = server.enter_context(rtsp_server(port))
        url, limit = f"rtsp://127.0.0.1:{port}/stream", {"EVIT_RECONNECT_S": "2"}
        with Run(folder, url, "--out", "out/drive.mp4", **limit) as run:
            run.frames(4)
            server.close()
            code = run.end()
            assert code == 1 and any("did not come back for 2 s" in line for line in run.said)
            words = "one sentence that it did not come back"
            return Ending(code, f"({kind}) {words}; {whole_movie(run)}")


def corrupt_frames(folder: Path) -> Ending:
    damage_packets(film(folder, 25), [5, 15])
    with Run(folder, "drive.mp4", "--out", "out/drive.mp4") as run:
        code = run.end()
        assert code == 0 and run.summary["skipped"] == 2 and run.summary["frames"] == 23
        return Ending(code, "2 frames skipped, counted and told; " + whole_movie(run))


def corrupt_stream(folder: Path) -> Ending:
    path = film(folder, 25)
    damage_packets(path, range(25))
    with Run(folder, "drive.mp4", "--out", "out/drive.mp4") as run:
        code = run.end()
        assert code == 1 and not (folder / "out").exists()
        return Ending(code, f"nothing is written: `{run.sentence()}`")


def cut_file(folder: Path) -> Ending:
    path = film(folder, 25)
    path.write_bytes(path.read_bytes()[:2000])
    with Run(folder, "drive.mp4", "--out", "out/drive.mp4") as run:
        code = run.end()
        assert code == 1 and not (folder / "out").exists()
        return Ending(code, f"nothing is written: `{run.sentence()}`")


# The machine


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


def _shown_s(seen: Path) -> float:
    """How far the process's time of day is from ours; read while it is being written, far off."""
    return float(seen.read_text() or 0) - time.time()


def clock_jumps(folder: Path) -> Ending:
    """Only the time of day jumps, as when a board without a battery finds its time server."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        raise NotHere("libfaketime is not installed")
    clock, plug = folder / "clock", folder / "plugged"
    seen = plug.with_name("plugged.seen")
    clock.write_text("+0\n")
    plug.touch()
    fake = {
        "LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1", "EVIT_STALL_S": "10",
    }  # fmt: skip
    options = {"stand_in": f"camera={plug}", **fake}
    with Run(folder, 0, "--out", "out/drive.mp4", **options) as run:
        run.frames(3)
        for shift_s in (864_000, -864_000):
            clock.write_text(f"{shift_s:+d}\n")
            run.wait_for("the jump", lambda s=shift_s: abs(_shown_s(seen) - s) < 60)
            run.frames(len(run.rows) + 4)
        code = run.end(signal.SIGTERM)
        times = [row["time_s"] for row in run.rows if "time_s" in row]
        assert (
            code == 143
            and run.summary["reconnects"] == 0
            and not any("lost" in s for s in run.said)
        )
        assert times == sorted(set(times)) and times[-1] < 600
        return Ending(
            code, "no stall, no loss, times go on evenly; after SIGTERM " + whole_movie(run)
        )


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


def _engine(folder: Path, version: str) -> Path:
    """An engine of the stand-in's TensorRT."""
    script = (
        "import sys, pytest; from pathlib import Path\n"
        "from tests.helpers.tensorrt_standin import install\n"
        "from tests.helpers.tensorrt_models import Tiny\n"
        "from evit_cli.export.tensorrt import EngineRequest, build_engine\n"
        "install(pytest.MonkeyPatch(), sys.argv[1]); tiny = Tiny(); here = Path('.')\n"
        "build_engine(tiny.save(here / 'tiny.onnx'), here / 'tiny.engine',\n"
        "             request=EngineRequest(tiny.description))"
    )
    subprocess.run(
        [sys.executable, "-c", script, version], cwd=folder, check=True, capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=PATIENCE_S,
    )  # fmt: skip
    return folder / "tiny.engine"


def _refused(folder: Path, expected: int, *words: str, stand_in: str = "") -> Ending:
    film(folder, 25)
    arguments = ("drive.mp4", "--model", "tiny.engine", "--out", "out/drive.mp4")
    with Run(folder, *arguments, stand_in=stand_in) as run:
        code = run.end()
        assert code == expected and all(word in run.sentence() for word in words), run.said
        assert not (folder / "out").exists()
        return Ending(code, f"before the first frame: `{run.sentence()}`")


def unreadable_engine(folder: Path) -> Ending:
    path = _engine(folder, "10.3.0")
    path.write_bytes(path.read_bytes()[:200])
    return _refused(folder, 1, "is no engine that TensorRT", stand_in="tensorrt=10.3.0")


def other_tensorrt(folder: Path) -> Ending:
    _engine(folder, "10.3.0")
    words = ("was built with another TensorRT", "evit export")
    return _refused(folder, 1, *words, stand_in="tensorrt=10.13.2")


def without_tensorrt(folder: Path) -> Ending:
    _engine(folder, "10.3.0")
    return _refused(folder, 5, "needs TensorRT")


def without_network(folder: Path) -> Ending:
    film(folder, 25)
    with Run(folder, "drive.mp4", "--model", "seg-b0-cityscapes", "--out", "out/drive.mp4") as run:
        code = run.end()
        assert code == 1 and not (folder / "out").exists()
        return Ending(code, f"`{run.sentence()}`")


FAULTS, ENGINES = "tests/commands/test_segment_faults.py", "tests/runtime/test_tensorrt_session.py"
DRILLS = (
    Drill(
        "camera", "a camera (stand-in for OpenCV's) is unplugged and plugged in again",
        camera_comes_back,
    ),
    Drill("camera-gone", "the same, and it stays away for `EVIT_RECONNECT_S=2`", camera_stays_away),
    Drill("pipe", "a FIFO whose writer dies in the middle of a frame", pipe_breaks),
    Drill("rtsp", "an RTSP server is killed (SIGKILL) and started again", rtsp_comes_back),
    Drill("rtsp-gone", "the same, and it stays away", rtsp_stays_away),
    Drill("disk-full", "the output's disk fills up", disk_full, FAULTS),
    Drill("sigint", "Ctrl-C", told_to_stop(signal.SIGINT, 130), FAULTS),
    Drill(
        "sigterm", "SIGTERM, as `systemctl stop` sends", told_to_stop(signal.SIGTERM, 143), FAULTS
    ),
    Drill("sigkill", "SIGKILL, as the out-of-memory killer or a lost power supply", killed),
    Drill("sigkill-mkv", "the same with `--out drive.mkv`", killed_mkv),
    Drill("reader", "`| head` closes the pipe that reads the rows", reader_goes_away, FAULTS),
    Drill("clock", "the time of day jumps by +10 days, then to -10 days", clock_jumps),
    Drill("corrupt-frames", "two frames of a video are noise", corrupt_frames, FAULTS),
    Drill("corrupt", "every frame of a video is noise", corrupt_stream, FAULTS),
    Drill("cut", "a video file is cut off", cut_file, FAULTS),
    Drill("engine", "an engine is cut off (TensorRT's stand-in)", unreadable_engine, ENGINES),
    Drill(
        "engine-version", "an engine of TensorRT 10.3.0 under 10.13.2 (stand-in)", other_tensorrt
    ),
    Drill(
        "no-tensorrt", "an engine where TensorRT is not installed", without_tensorrt, ENGINES
    ),
    Drill("no-network", "weights of the hub without a network and cache", without_network),
)  # fmt: skip


def rows(names: Sequence[str]) -> Iterator[tuple[Drill, Ending | None, str]]:
    """Run drills: each with its ending, or None and why."""
    for drill in DRILLS:
        if names and drill.name not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="evit-drill-") as folder:
            try:
                yield drill, drill.run(Path(folder)), ""
            except NotHere as error:
                yield drill, None, f"not tried: {error}"
            except (AssertionError, subprocess.SubprocessError) as error:
                yield drill, None, f"FAILED: {error}"


def line_of(drill: Drill, ending: Ending | None, why: str) -> str:
    """One row of the table."""
    seen, code = (why, "") if ending is None else (ending.seen, str(ending.code or 0))
    if ending is not None and ending.code is None:
        code = "none (killed)"
    cells = (drill.tried, seen.replace("|", "\\|"), code)
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    parser.add_argument("--only", action="append", default=[], choices=[d.name for d in DRILLS])
    options = parser.parse_args(arguments)
    table = ["| what was tried | what happened | exit code |", "|---|---|---|"]
    print("\n".join(table))
    failed = False
    for drill, ending, why in rows(options.only):
        table.append(line_of(drill, ending, why))
        print(table[-1], flush=True)
        failed |= why.startswith("FAILED")
    if options.write and not failed and not options.only:
        before, _, rest = PAGE.read_text("utf-8").partition(START)
        after = rest.partition(END)[2]
        PAGE.write_text("".join((before, START, "\n", "\n".join(table), "\n", END, after)), "utf-8")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
