"""What `evit segment` does when something goes wrong, as a real process."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from evit_cli.media.images import write_image
from tests.helpers.media_files import (
    Sound,
    beep_in,
    corners,
    damage_packets,
    encoded,
    numbered,
    numbered_video,
    read_video,
    write_video,
)
from tests.helpers.paths import REPOSITORY
from tests.helpers.weight_files import pt_bytes

MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    path.write_bytes(pt_bytes("seg-b0-cityscapes"))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in an empty folder; whatever it does, no half-written file is left."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not [path for path in tmp_path.rglob("*") if "evit-partial" in path.name]


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(weights: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts `evit segment` with a small model; it is killed at the end of the test."""
    running = []
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(REPOSITORY), "LC_ALL": "C.UTF-8",
    }  # fmt: skip

    def begin(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "evit_cli", "segment", *map(str, arguments)]
        command += ["--weights", str(weights), "--size", "64x96", "--offline", "--threads", "1"]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(command, env=environment, text=True, **(pipes | options))
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def evit(weights: Path) -> Callable[..., Any]:
    """The same in this process, which is quicker."""
    from evit_cli.app import app

    def run(*arguments: object) -> Any:
        options = ["--weights", weights, "--size", "64x96", "--offline", "--threads", "1"]
        words = [str(word) for word in ("segment", *arguments, *options)]
        return CliRunner().invoke(app, words)

    return run


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def files(folder: str = ".") -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def long_video(count: int = 600) -> Path:
    pictures = [numbered(n) for n in range(25)] * (count // 25)
    return write_video(Path("drive.mp4"), pictures, options={"preset": "ultrafast"})


# Being told to stop


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_playable_file(start: Start, number: signal.Signals, code: int) -> None:
    process = start(long_video(), "--json", "--save", "overlay,mask,json")
    assert process.stdout is not None
    rows = [json.loads(process.stdout.readline()) for _ in range(20)]
    process.send_signal(number)
    returned, out, err = finish(process)
    assert (returned, err) == (code, "")
    rows += [json.loads(line) for line in out.splitlines()]
    summary = rows.pop()["summary"]
    times = [float(time_s) for time_s, _ in read_video(Path("evit-out/drive_overlay.mp4"))]
    assert summary["interrupted"] and summary["frames"] == len(times) < 590
    assert times[: len(rows)] == [row["time_s"] for row in rows]
    assert len(times) - len(rows) in (0, 1)  # it may come after the frame and before its row
    assert len(files("evit-out/drive_mask")) == len(times)
    assert len(Path("evit-out/drive_segments.jsonl").read_text().splitlines()) == len(times)


def test_a_reader_that_goes_away(start: Start) -> None:
    process = start(long_video(), "--json")
    assert process.stdout is not None and process.stderr is not None
    assert json.loads(process.stdout.readline())["frame"] == 0
    process.stdout.close()  # as `| head -1` does
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == ""
    written = Path("evit-out/drive_overlay.mp4")  # what was done by then can be played
    assert 1 <= len(read_video(written)) < 600
    assert files("evit-out") == [written.name]


# A disk that is full


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def noise_video(count: int = 40) -> Path:
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (240, 320, 3), dtype=np.uint8) for _ in range(count)]
    return write_video(Path("drive.mp4"), pictures, options={"preset": "ultrafast"})


@pytest.mark.parametrize("kind", ["overlay", "json"])
def test_a_full_disk(start: Start, small_disk: Path, kind: str) -> None:
    if kind == "json":
        (small_disk / "ballast").write_bytes(bytes(248 << 10))
    video = noise_video() if kind == "overlay" else long_video(100)
    code, out, err = finish(start(video, "--out", small_disk / "out", "--save", kind, "-q"))
    assert (code, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 2
    assert "cannot be written: no space left on device" in err
    assert "mend: free some space, or write elsewhere with --out" in err
    assert files(str(small_disk)) == (["ballast"] if kind == "json" else [])
    assert not (small_disk / "out").exists()


def test_a_file_that_may_not_grow(start: Start) -> None:
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (90, 120, 3), dtype=np.uint8)
        write_image(Path(f"photos/{number}.png") if number else _made("photos/0.png"), image)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, 8 << 10))

    code, out, err = finish(start("photos", preexec_fn=limit))
    assert (code, out) == (1, "")
    assert "0_overlay.png cannot be written: file too large" in err
    assert "Traceback" not in err
    assert not Path("evit-out").exists()


def _made(name: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_a_folder_that_may_not_be_written(evit: Callable[..., Any]) -> None:
    Path("locked").mkdir(mode=0o500)
    if os.access("locked", os.W_OK):
        pytest.skip("this user may write everywhere")
    result = evit(numbered_video(Path("v.mp4"), 3), "--out", "locked")
    assert result.exit_code == 1
    assert "cannot be written: permission denied" in result.stderr


# Sources that are broken


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.mp4", None, "none.mp4 does not exist"),
        ("empty.mp4", b"", "empty.mp4 is empty"),
        ("text.mp4", b"hello\n" * 500, "text.mp4 is not a video or image that can be read"),
        ("text.txt", b"hello\n" * 500, "text.txt is not a video or image that can be read"),
        ("cut.mp4", "cut", "cut.mp4 is not a video or image that can be read"),
        ("none.jpg", None, "none.jpg does not exist"),
    ],
)
def test_a_broken_source(start: Start, name: str, content: Any, message: str) -> None:
    if content == "cut":
        content = numbered_video(Path(name), 30).read_bytes()[:1500]
    if content is not None:
        Path(name).write_bytes(content)
    code, out, err = finish(start(name))
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == f"error: {message}"
    assert "Traceback" not in err
    assert not Path("evit-out").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.jpg", encoded(corners(), ".jpg")[:700], "cut.jpg ends in the middle of the image"),
        ("bad.png", b"hello", "bad.png is not an image that can be decoded"),
        ("empty.webp", b"", "empty.webp is empty"),
    ],
)
def test_a_broken_image(evit: Callable[..., Any], name: str, content: bytes, message: str) -> None:
    Path(name).write_bytes(content)
    result = evit(name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f"error: {message}" in result.stderr
    assert not Path("evit-out").exists()


def test_zero_frames(evit: Callable[..., Any]) -> None:
    path = numbered_video(Path("v.mp4"), 5, options={"g": "1"})
    damage_packets(path, range(5))
    result = evit(path, "--save", "overlay,mask,color,json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "error: v gave no frame: " in result.stderr
    assert not Path("evit-out").exists()


def test_damaged_frames_are_counted_and_told(start: Start) -> None:
    path = numbered_video(Path("v.mp4"), 30, options={"g": "1"})
    damage_packets(path, [10, 20])
    code, out, err = finish(start(path, "--json"))
    assert code == 0
    *rows, last = (json.loads(line) for line in out.splitlines())  # nothing but JSON on stdout
    assert len(rows) == last["summary"]["frames"] == 28
    assert last["summary"]["skipped"] == len(last["summary"]["problems"]) == 2
    assert err.startswith("warning: skipped 2: ") and err.count("\n") == 1
    assert len(read_video(Path(last["summary"]["written"][0]))) == 28


def test_one_broken_image_among_good_ones(start: Start) -> None:
    for number in (1, 3):
        write_image(_made(f"photos/{number}.png"), corners())
    Path("photos/2.png").write_bytes(encoded(corners(), ".png")[:400])
    code, out, err = finish(start("photos"))
    assert code == 0
    assert out.splitlines() == [
        str(Path(f"evit-out/{number}_overlay.png").resolve()) for number in (1, 3)
    ]
    assert "warning: skipped 1: photos/2.png ends in the middle" in err
    assert "\x1b" not in out + err  # a pipe gets plain lines
    assert files("evit-out") == ["1_overlay.png", "3_overlay.png"]


def test_only_broken_images(evit: Callable[..., Any]) -> None:
    for number in range(3):
        _made(f"photos/{number}.png").write_bytes(b"x")
    result = evit("photos", "--save", "overlay,json")
    assert result.exit_code == 1
    assert "error: photos gave no frame: photos/0.png is not an image" in result.stderr
    assert not Path("evit-out").exists()


# Outputs that are in the way


def test_nothing_is_overwritten_without_force(evit: Callable[..., Any]) -> None:
    path = numbered_video(Path("v.mp4"), 3)
    out = _made("evit-out/v_overlay.mp4")
    out.write_text("precious")
    result = evit(path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "v_overlay.mp4 exists already" in result.stderr and "--force" in result.stderr
    assert out.read_text() == "precious"
    assert evit(path, "--force").exit_code == 0
    assert len(read_video(out)) == 3


def test_a_failed_run_keeps_what_it_would_have_replaced(evit: Callable[..., Any]) -> None:
    path = numbered_video(Path("v.mp4"), 3, options={"g": "1"})
    damage_packets(path, range(3))
    out = _made("evit-out/v_overlay.mp4")
    out.write_text("precious")
    assert evit(path, "--force").exit_code == 1
    assert out.read_text() == "precious"


@pytest.mark.parametrize("name", ["v.mp4", "v.png"])
def test_the_source_is_never_overwritten(evit: Callable[..., Any], name: str) -> None:
    path = Path(name)
    if path.suffix == ".mp4":
        numbered_video(path, 3)
    else:
        write_image(path, corners())
    before = path.read_bytes()
    result = evit(name, "--out", f"./{name}", "--force")
    assert result.exit_code == 1
    assert f"{name} is read and would be overwritten" in result.stderr.replace("\n", "")
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("out", "code", "message"),
    [
        ("taken.txt", 2, "there will be several files, but --out taken.txt names one"),
        ("taken", 1, "taken is a file, not a folder"),
        ("taken/below", 1, "taken is a file, not a folder"),
    ],
)
def test_a_file_for_a_folder(evit: Callable[..., Any], out: str, code: int, message: str) -> None:
    for number in range(2):
        write_image(_made(f"photos/{number}.png"), corners())
    for name in ("taken", "taken.txt"):
        Path(name).write_text("precious")
    result = evit("photos", "--out", out)
    assert result.exit_code == code
    assert message in result.stderr.replace("\n", "")
    assert Path("taken").read_text() == Path("taken.txt").read_text() == "precious"


# And when nothing is wrong


def test_unusual_paths_and_sound(start: Start) -> None:
    source = _made("mein Film/日本 é ! 12:30.mp4")
    numbered_video(source, 30, size_hw=(48, 64), options={"crf": "12"}, sound=Sound(beep_s=0.5))
    code, out, err = finish(start(source, "--out", "aus gabe/übersicht 1:2.mp4"))
    written = Path("aus gabe/übersicht 1:2.mp4").resolve()
    assert (code, out) == (0, f"{written}\n")
    assert "done: 30 frames" in err
    assert beep_in(written) == pytest.approx(0.5, abs=0.003)
    assert files("aus gabe") == ["übersicht 1:2.mp4"]


def memory_of(process: subprocess.Popen[str]) -> int:
    """Resident memory in bytes."""
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_memory_is_constant(start: Start) -> None:
    frame = numbered(0, (240, 320))  # 225 KiB: keeping one in ten would be seen
    video = write_video(Path("v.mp4"), [frame] * 500, options={"preset": "ultrafast"})
    process = start(video, "--json", "--save", "overlay,json")
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        row = json.loads(line)
        if row.get("frame") in (80, 480):
            seen.append(memory_of(process))
    assert process.wait(timeout=60) == 0
    assert len(seen) == 2
    assert seen[1] - seen[0] < 10 * MEGABYTE
