"""`evit upscale`: what it writes, what it says, and what happens when something goes wrong."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from evit_cli.media.images import read_image
from evit_cli.types import Task
from evit_cli.weights import embedded
from tests.helpers.cli import evit as run_evit
from tests.helpers.media_files import (
    Sound,
    beep_in,
    corners,
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
    """An untrained model: the last convolution is zero, and the result bicubic."""
    from safetensors.torch import save_file

    from evit_cli.models.build import build_model
    from evit_cli.models.variants import get_variant

    state = dict(build_model(get_variant("sr-xs-res-x2")).state_dict())
    for name in ("head.to_pixels.weight", "head.to_pixels.bias"):
        state[name] = torch.zeros_like(state[name])
    path = tmp_path_factory.mktemp("weights") / "sr.safetensors"
    save_file({k: v.contiguous() for k, v in state.items()}, str(path))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in an empty folder; whatever it does, no half-written file is left."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not [path for path in tmp_path.rglob("*") if "evit-partial" in path.name]


@pytest.fixture
def evit(weights: Path) -> Any:
    """`evit upscale ARGUMENTS` with the untrained model."""

    def run(*arguments: object) -> Any:
        model = ["--weights", weights, "--threads", "1"]
        return run_evit("upscale", *arguments, *model)

    return run


def bicubic(image: np.ndarray[Any, Any], scale: int = 2) -> np.ndarray[Any, Any]:
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def files(folder: str = "evit-out") -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def test_an_image(evit: Any) -> None:
    Path("a.png").write_bytes(encoded(corners((45, 63)), ".png"))
    result = evit("a.png")
    assert result.exit_code == 0, result.output
    path = Path("evit-out/a_upscaled.png").resolve()
    assert result.stdout.split() == [str(path)]
    image, _ = read_image(path)
    assert np.abs(image.astype(int) - bicubic(corners((45, 63)))).max() <= 1
    assert "2 times larger" in result.stderr and "frames/s" in result.stderr


def test_four_times_in_tiles(evit: Any) -> None:
    Path("a.png").write_bytes(encoded(corners((45, 63)), ".png"))
    result = evit("a.png", "--scale", "4", "--tile", "32", "--out", "b.png", "--json")
    assert result.exit_code == 0, result.output
    row, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert (row["size_hw"], row["upscaled_hw"]) == ([45, 63], [180, 252])
    assert row["tiles"] == summary["summary"]["tiles"] > 10
    assert summary["summary"]["written"] == [str(Path("b.png").resolve())]
    assert result.stderr == ""
    assert read_image(Path("b.png"))[0].shape == (180, 252, 3)


def test_a_folder_with_everything_in_it(evit: Any) -> None:
    folder = Path("in/deep")
    folder.mkdir(parents=True)
    rgba = np.dstack([corners(), np.full((64, 96), 200, np.uint8)])
    Path("in/alpha.png").write_bytes(encoded(rgba, ".png"))
    Path("in/grey.jpg").write_bytes(encoded(corners()[:, :, 0], ".jpg"))
    Path("in/turned.jpg").write_bytes(encoded(corners(), ".jpg", 6))
    Path("in/broken.png").write_bytes(b"nonsense")
    Path("in/a.webp").write_bytes(encoded(corners(), ".webp"))
    deep = np.linspace(0, 65535, 64 * 96).astype(np.uint16).reshape(64, 96)
    cv2.imwrite("in/sixteen.tif", deep)
    result = evit("in")
    assert result.exit_code == 0, result.output
    assert "skipped 1: in/broken.png is not an image" in result.stderr
    names = {
        "alpha": (".png", (128, 192, 4), np.uint8),
        "grey": (".jpg", (128, 192), np.uint8),
        "turned": (".jpg", (192, 128, 3), np.uint8),
        "a": (".webp", (128, 192, 3), np.uint8),
        "sixteen": (".tif", (128, 192), np.uint16),
    }
    assert files() == sorted(f"{name}_upscaled{what[0]}" for name, what in names.items())
    for name, (suffix, shape, dtype) in names.items():
        found = cv2.imread(f"evit-out/{name}_upscaled{suffix}", cv2.IMREAD_UNCHANGED)
        assert (found.shape, found.dtype) == (shape, dtype), name
    sixteen = cv2.imread("evit-out/sixteen_upscaled.tif", cv2.IMREAD_UNCHANGED)
    assert len(np.unique(sixteen)) > 5000
    assert (cv2.imread("evit-out/alpha_upscaled.png", -1)[:, :, 3] == 200).all()


def test_compare(evit: Any) -> None:
    image = np.full((120, 160, 3), 90, np.uint8)
    Path("a.png").write_bytes(encoded(image, ".png"))
    assert evit("a.png", "--compare").exit_code == 0
    found, _ = read_image(Path("evit-out/a_compare.png"))
    assert found.shape == (240, 642, 3)
    assert (found[:, 320:322] == 255).all()
    assert (found[120:, :320] == 90).all() and (found[120:, 322:] == 90).all()
    assert (found[:30, :80] != 90).any() and (found[:30, 322:400] != 90).any(), "names"


def test_a_video_keeps_its_sound_times_and_order(evit: Any) -> None:
    numbered_video(Path("clip.mp4"), 12, size_hw=(48, 64), sound=Sound(beep_s=0.3, seconds=0.48))
    result = evit("clip.mp4", "--json")
    assert result.exit_code == 0, result.output
    found = read_video(Path("evit-out/clip_upscaled.mp4"))
    assert [float(time_s) for time_s, _ in found] == pytest.approx([n / 25 for n in range(12)])
    for n, (_, image) in enumerate(found):
        assert image.shape == (96, 128, 3)
        assert np.abs(image.astype(int) - bicubic(numbered(n))).mean() < 6
    assert beep_in(Path("evit-out/clip_upscaled.mp4")) == pytest.approx(0.3, abs=0.05)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["frame"] for row in rows[:-1]] == list(range(12))
    assert rows[-1]["summary"]["frames"] == 12


def test_every_max_frames_and_compare_of_a_video(evit: Any) -> None:
    numbered_video(Path("clip.mp4"), 12)
    result = evit("clip.mp4", "--every", "3", "--max-frames", "3", "--compare", "-o", "c.mp4")
    assert result.exit_code == 0, result.output
    found = read_video(Path("c.mp4"))
    assert [float(time_s) for time_s, _ in found] == pytest.approx([0, 0.12, 0.24])
    assert found[0][1].shape == (96, 258, 3)


def test_nothing_is_overwritten_unless_it_is_asked_for(evit: Any) -> None:
    Path("a.png").write_bytes(encoded(corners(), ".png"))
    Path("b.png").write_bytes(b"precious")
    result = evit("a.png", "--out", "b.png")
    assert (result.exit_code, Path("b.png").read_bytes()) == (1, b"precious")
    assert "exists already" in result.stderr
    assert evit("a.png", "--out", "b.png", "--force").exit_code == 0
    assert read_image(Path("b.png"))[0].shape == (128, 192, 3)
    result = evit("a.png", "--out", "a.png", "--force")
    assert (result.exit_code, "would be overwritten" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.png"], 1, "does not exist"),
        (["a.png", "--scale", "3"], 2, "gives no 3 times"),
        (["a.png", "--tile", "9"], 2, "too small"),
        (["a.png", "--tile", "big"], 2, "no tile size"),
        (["a.png", "--out", "b.xyz/c.gif"], 2, "cannot be written as c.gif"),
        (["a.png", "--out", "b.mp4"], 2, "cannot be written as b.mp4"),
        (["a.png", "--backend", "onnx"], 2, "no onnx artifact"),
        (["broken.png"], 1, "is not an image"),
        (["a.png", "--out", "a.png/b.png"], 1, "is a file, not a folder"),
    ],
)
def test_mistakes(arguments: list[str], code: int, words: str, evit: Any) -> None:
    Path("a.png").write_bytes(encoded(corners(), ".png"))
    Path("broken.png").write_bytes(b"nonsense")
    result = evit(*arguments)
    assert (result.exit_code, words in result.stderr) == (code, True), result.output
    assert not Path("evit-out").exists()


def test_a_segmentation_model_says_so() -> None:
    Path("a.png").write_bytes(encoded(corners(), ".png"))
    Path("seg.pt").write_bytes(pt_bytes("seg-b0-cityscapes"))
    result = run_evit("upscale", "a.png", "--weights", "seg.pt")
    assert result.exit_code == 1
    assert "is a segment model, not for super-resolution" in result.stderr


def test_without_a_model_that_travels_with_evit(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.png").write_bytes(encoded(corners(), ".png"))
    others = {k: m for k, m in embedded.EMBEDDED.items() if m.task is not Task.SUPERRES}
    monkeypatch.setattr(embedded, "EMBEDDED", others)
    result = run_evit("upscale", "a.png")
    assert (result.exit_code, "--model" in result.stderr) == (2, True)


def test_a_picture_too_large_for_its_format(evit: Any) -> None:
    Path("in").mkdir()
    Path("in/long.webp").write_bytes(encoded(np.zeros((1, 8200, 3), np.uint8), ".webp"))
    result = evit("in/long.webp")
    assert (result.exit_code, "only 16383" in result.stderr) == (1, True)
    Path("in/a.png").write_bytes(encoded(corners((20, 20)), ".png"))
    result = evit("in")
    assert (result.exit_code, "skipped 1" in result.stderr) == (0, True), result.output
    assert files() == ["a_upscaled.png"]


# As a real process


def start(weights: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "evit_cli", "upscale", *map(str, arguments)]
    command += ["--weights", str(weights), "--threads", "1"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": os.getcwd()}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **(pipes | options))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_playable_video(weights: Path, number: signal.Signals, code: int) -> None:
    write_video(Path("drive.mp4"), [numbered(n) for n in range(25)] * 40)
    process = start(weights, "drive.mp4", "--json")
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (code, "")
    summary = json.loads(out.splitlines()[-1])["summary"]
    found = read_video(Path("evit-out/drive_upscaled.mp4"))
    assert summary["interrupted"] and summary["frames"] == len(found) < 990


def test_a_signal_between_stills_keeps_what_is_done(weights: Path) -> None:
    Path("in").mkdir()
    for n in range(60):
        Path(f"in/{n:03}.png").write_bytes(encoded(numbered(n, (200, 200)), ".png"))
    process = start(weights, "in", "--json")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    written = json.loads(out.splitlines()[-1])["summary"]["written"]
    assert 1 <= len(written) < 60
    assert files() == [Path(path).name for path in written]
    for path in written:
        assert read_image(Path(path))[0].shape == (400, 400, 3)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_full_disk(weights: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    Path("a.png").write_bytes(encoded(noise, ".png"))

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    process = start(weights, "a.png", "--out", f"b{suffix}", preexec_fn=small_files)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "cannot be written: file too large" in err
    assert "Traceback" not in err
    assert not Path(f"b{suffix}").exists()


_LARGE = """
import re, sys
import numpy as np
from evit_cli.inference.upscale_job import UpscaleRequest, upscale_source
from evit_cli.inference.upscaler import Upscaler
from evit_cli.media.open import find_source
from pathlib import Path
from tests.inference.test_upscaler import Repeats
upscaler = Upscaler(Repeats(), tile=352)
upscale_source(find_source("large.jpg"), upscaler, UpscaleRequest(out=Path(sys.argv[1])))
# Not ru_maxrss: a child inherits what its parent held.
print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) >> 10)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.jpg", "out.tif"])
def test_48_megapixels_fit_into_memory(name: str) -> None:
    """Without a model, which takes 0.2 GB more: docs/upscale.md has the whole."""
    rows = np.arange(6000, dtype=np.uint16)[:, None, None]
    columns = np.arange(8000, dtype=np.uint16)[None, :, None]
    image = ((rows + columns) // 60 + np.array([0, 40, 80], np.uint16)).astype(np.uint8)
    cv2.imwrite("large.jpg", image)
    del image
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", _LARGE, name], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with_torch = 300
    assert int(done.stdout) + with_torch < 1500
    assert Path(name).stat().st_size > MEGABYTE
