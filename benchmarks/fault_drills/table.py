"""All drills, and the table of how they ended."""

from __future__ import annotations

import argparse
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import benchmarks.fault_drills
from benchmarks.fault_drills import models, process, sources
from benchmarks.fault_drills.run import (
    ROOT,
    Drill,
    Ending,
    NotHere,
)

PAGE = ROOT / "docs" / "fault-drills.md"
START, END = "<!-- the table begins -->", "<!-- the table ends -->"
FAULTS, ENGINES = "tests/commands/test_segment_faults.py", "tests/runtime/test_tensorrt_session.py"
DRILLS = (
    Drill(
        "camera",
        "a camera (stand-in for OpenCV's) is unplugged and plugged in again",
        sources.camera_comes_back,
    ),
    Drill(
        "camera-gone",
        "the same, and it stays away for `EVIT_RECONNECT_S=2`",
        sources.camera_stays_away,
    ),
    Drill("pipe", "a FIFO whose writer dies in the middle of a frame", sources.pipe_breaks),
    Drill("rtsp", "an RTSP server is killed (SIGKILL) and started again", sources.rtsp_comes_back),
    Drill("rtsp-gone", "the same, and it stays away", sources.rtsp_stays_away),
    Drill("disk-full", "the output's disk fills up", process.disk_full, FAULTS),
    Drill("sigint", "Ctrl-C", process.told_to_stop(signal.SIGINT, 130), FAULTS),
    Drill(
        "sigterm",
        "SIGTERM, as `systemctl stop` sends",
        process.told_to_stop(signal.SIGTERM, 143),
        FAULTS,
    ),
    Drill("sigkill", "SIGKILL, as the out-of-memory killer or a lost power supply", process.killed),
    Drill("sigkill-mkv", "the same with `--out drive.mkv`", process.killed_mkv),
    Drill(
        "reader", "`| head` closes the pipe that reads the rows", process.reader_goes_away, FAULTS
    ),
    Drill("clock", "the time of day jumps by +10 days, then to -10 days", sources.clock_jumps),
    Drill("corrupt-frames", "two frames of a video are noise", sources.corrupt_frames, FAULTS),
    Drill("corrupt", "every frame of a video is noise", sources.corrupt_stream, FAULTS),
    Drill("cut", "a video file is cut off", sources.cut_file, FAULTS),
    Drill(
        "engine", "an engine is cut off (TensorRT's stand-in)", models.unreadable_engine, ENGINES
    ),
    Drill(
        "engine-version",
        "an engine of TensorRT 10.3.0 under 10.13.2 (stand-in)",
        models.other_tensorrt,
    ),
    Drill(
        "no-tensorrt", "an engine where TensorRT is not installed", models.without_tensorrt, ENGINES
    ),
    Drill("no-network", "weights of the hub without a network and cache", models.without_network),
)


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
    parser = argparse.ArgumentParser(description=benchmarks.fault_drills.__doc__)
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
