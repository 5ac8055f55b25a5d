"""`evit segment --stream` as a real process: files or none, signals, ports and tokens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evit_cli.media.images import write_image
from evit_cli.media.stream import open_stream
from tests.helpers.cli import evit
from tests.helpers.media_files import corners, numbered, numbered_video, read_video, write_video
from tests.helpers.paths import REPOSITORY
from tests.helpers.stream_clients import ask, parts, picture, watch
from tests.helpers.weight_files import pt_bytes

FREE = "http://127.0.0.1:0"
PATIENCE_S = 120
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    path.write_bytes(pt_bytes("seg-b0-cityscapes"))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EVIT_STREAM_TOKEN", raising=False)


@pytest.fixture
def start(weights: Path) -> Iterator[Start]:
    """Starts `evit segment`; it is killed at the end of the test."""
    running = []

    def begin(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "evit_cli", "segment", *map(str, arguments)]
        command += ["--weights", str(weights), "--size", "64x96", "--offline", "--threads", "1"]
        process = subprocess.Popen(
            command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | environment,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def endless() -> Path:
    """A film that lasts longer than any test."""
    pictures = [numbered(n) for n in range(25)] * 240
    return write_video(Path("drive.mp4"), pictures, options={"preset": "ultrafast"})


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stream_alone_writes_nothing_and_ends_with_a_signal(
    start: Start, endless: Path, number: signal.Signals, code: int
) -> None:
    process = start(endless, "--stream", FREE)
    url = first_line(process)
    viewer = parts(watch(url)[1])
    assert picture(next(viewer)[1]).shape == (48, 64, 3)
    assert ask(url, "healthz").status == 200
    process.send_signal(number)
    list(viewer)  # it ends
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err and "interrupted after" in err
    assert not Path("evit-out").exists()


@pytest.mark.slow
def test_rows_and_files_beside_a_stream(start: Start) -> None:
    video = numbered_video(Path("drive.mp4"), 300)
    process = start(video, "--stream", FREE, "--out", "seen.mp4", "--json")
    url = json.loads(first_line(process))["stream"]
    numbers = [number for number, _ in parts(watch(url)[1])]
    assert numbers[-1] == 300
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (0, "")
    *rows, last = (json.loads(line) for line in out.splitlines())
    assert [row["frame"] for row in rows] == list(range(300))
    assert last["summary"]["written"] == [str(Path("seen.mp4").resolve())]
    assert len(read_video(Path("seen.mp4"))) == 300


@pytest.mark.slow
def test_a_signal_beside_a_client_that_never_reads(start: Start, endless: Path) -> None:
    process = start(endless, "--stream", FREE, "--save", "overlay", "-q")
    url = first_line(process)
    watch(url)  # and nothing is read
    next(parts(watch(url)[1]))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, err) == (143, "")
    assert out.split() == [str(Path("evit-out/drive_overlay.mp4").resolve())]
    assert read_video(Path(out.strip()))


def run(weights: Path, *arguments: object) -> tuple[int, str, str]:
    write_image(Path("a.png"), corners())
    common = ["--weights", weights, "--size", "64x96", "--offline"]
    result = evit("segment", "a.png", *arguments, *common)
    return result.exit_code, result.stdout, result.stderr


def test_an_image(weights: Path) -> None:
    code, out, _ = run(weights, "--stream", FREE)
    assert code == 0
    assert out.startswith("http://127.0.0.1:") and out.count("\n") == 1
    assert not Path("evit-out").exists()


def test_a_token_from_the_environment(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVIT_STREAM_TOKEN", "sixteen-letters-or-more")
    code, out, err = run(weights, "--stream", "http://0.0.0.0:0")
    assert code == 0
    assert "sixteen" not in out + err
    monkeypatch.setenv("EVIT_STREAM_TOKEN", "")
    code, out, _ = run(weights, "--stream", "http://0.0.0.0:0")
    assert code == 0
    assert "/?token=" in out.split()[0]


def test_a_taken_port_is_told_before_anything_is_done(weights: Path) -> None:
    with open_stream(FREE) as other:
        code, out, err = run(weights, "--stream", other.url, "--save", "mask")
    assert (code, out) == (1, "")
    assert "is in use" in err and "mend: use another port, or port 0" in err.replace("\n", " ")
    assert not Path("evit-out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "none"], "nothing is to be saved"),
        (["--stream", "8080"], "--stream 8080 is not http://HOST:PORT"),
        (["--stream", FREE, "--stream-token", "short"], "16 to 256"),
        (["--stream", FREE, "--save", "none,mask"], "--save none does not go with"),
        (["--stream", FREE, "--save", "none", "--out", "b.png"], "does not go with --out b.png"),
        (["--stream", FREE, "--save", "oops"], "evit cannot save 'oops'"),
    ],
)
def test_command_lines_that_make_no_sense(
    weights: Path, arguments: list[str], message: str
) -> None:
    code, out, err = run(weights, *arguments)
    assert (code, out) == (2, "")
    assert message in err
