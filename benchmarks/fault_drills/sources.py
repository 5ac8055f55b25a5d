"""What happens to a source: cameras, pipes, RTSP servers, broken films, clocks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.fault_drills.run import (
    ROOT,
    Ending,
    NotHere,
    Run,
    film,
    lost_and_found,
    whole_movie,
)
from tests.helpers.media_files import damage_packets, numbered, write_video
from tests.helpers.rtsp_server import Camera, RtspServer


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
