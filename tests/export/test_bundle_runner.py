"""A bundle's run.py on a stand-in of JetPack 4, beside `evit segment` with the same model.

EVIT_PYTHON36 names a Python 3.6 with numpy and OpenCV, which then runs it as well.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from evit_cli.media.street_scene import street_frames
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.cli import evit
from tests.helpers.tensorrt8 import Board8

STREET = EMBEDDED["seg-b0-street"].weights
PHOTOS = Path(__file__).resolve().parents[2] / "evit_cli" / "assets" / "photos"
FRAMES = 6


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "nano"
    result = evit(
        "export", "--weights", STREET, "--size", "192x256", "--threads", "1", "--max-images", "2",
        "--device", "nano", "--bundle", folder,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def board(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Board8:
    """The bundle alone in a new place, with its engine built."""
    place = tmp_path_factory.mktemp("board")
    copy = place / "home" / "copied bundle"
    shutil.copytree(bundle, copy)
    made = Board8(place / "standin", copy)
    done = made.build()
    assert done.returncode == 0, done.stdout + done.stderr
    return made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is read in its own way: grey, 16 bits, transparent, turned, small, large."""
    folder = tmp_path_factory.mktemp("pictures")
    street = next(street_frames(1, (270, 480)))[:, :, ::-1]
    cv2.imwrite(str(folder / "street.png"), street)
    cv2.imwrite(str(folder / "wide.png"), cv2.resize(street, (1300, 400)))
    cv2.imwrite(str(folder / "tall.png"), cv2.resize(street, (90, 300)))
    cv2.imwrite(str(folder / "small.png"), cv2.resize(street, (40, 30)))
    cv2.imwrite(str(folder / "large.png"), cv2.resize(street, (900, 640)))
    cv2.imwrite(str(folder / "deep.png"), street.astype(np.uint16) * 257)
    fading = np.dstack([street, np.tile(np.linspace(0, 255, 480), (270, 1)).astype(np.uint8)])
    cv2.imwrite(str(folder / "fading.png"), fading)
    cv2.imwrite(str(folder / "street.bmp"), street)
    for name in ("coffee.jpg", "photographer.jpg"):
        shutil.copy(PHOTOS / name, folder)
    turned = (PHOTOS / "coffee.jpg").read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    head = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (folder / "turned.jpg").write_bytes(turned[:2] + head + turned[2:])
    return folder


def onnx_of(board: Board8) -> Path:
    return next(board.bundle.glob("*.onnx"))


def read(folder: Path) -> dict[str, np.ndarray]:
    return {
        path.name: cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def of_evit(
    board: Board8, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, np.ndarray]:
    """What `evit segment` makes of the pictures with the bundle's ONNX file."""
    out = tmp_path_factory.mktemp("evit")
    result = evit(
        "segment", pictures, "--model", onnx_of(board), "--out", out, "--save", "overlay,mask,color"
    )
    assert result.exit_code == 0, result.output
    return read(out)


@pytest.mark.slow
def test_it_gives_what_evit_segment_gives(
    board: Board8, pictures: Path, of_evit: dict[str, np.ndarray], tmp_path: Path
) -> None:
    done = board.run(pictures, "--out", tmp_path, "--save", "overlay,mask,color")
    assert done.returncode == 0, done.stderr
    assert "LEAKED" not in done.stderr
    found = read(tmp_path)
    assert found.keys() == of_evit.keys()
    assert len(found) == 3 * len(list(pictures.iterdir()))
    for name, expected in of_evit.items():
        assert found[name].shape == expected.shape, name
        assert np.array_equal(found[name], expected), name
    masks = [image for name, image in found.items() if "_mask" in name]
    assert len(np.unique(np.concatenate([mask.ravel() for mask in masks]))) > 4
    assert {Path(line).name for line in done.stdout.splitlines()} == found.keys()


def test_alpha_and_legend(board: Board8, pictures: Path, tmp_path: Path) -> None:
    image = pictures / "street.png"
    more = ("--alpha", "0.25", "--no-legend")
    done = board.run(image, *more, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    result = evit("segment", image, "--model", onnx_of(board), *more, "--out", tmp_path / "b.png")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def python36() -> str:
    path = os.environ.get("EVIT_PYTHON36", "")
    if not path:
        pytest.skip("EVIT_PYTHON36 names no Python 3.6 with numpy and OpenCV")
    return path


def test_it_runs_on_the_boards_own_python(
    board: Board8, pictures: Path, of_evit: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """OpenCV 4.1's bicubic resizing is not OpenCV 5's to the last grey level."""
    old = Board8(tmp_path / "standin", board.bundle, python36())
    version = subprocess.run([old.python, "-V"], capture_output=True, text=True, check=True)
    assert version.stdout.startswith("Python 3.6"), version.stdout
    assert old.run("--check").returncode == 0
    done = old.run(pictures, "--out", tmp_path / "o", "--save", "mask,overlay")
    assert done.returncode == 0, done.stderr
    for name, found in read(tmp_path / "o").items():
        if "_mask" in name:
            assert np.mean(found == of_evit[name]) > 0.99, name
    clip = movie(tmp_path / "clip.mp4")
    assert old.run(clip, "--out", tmp_path / "o").returncode == 0


def movie(path: Path, frames: int = FRAMES) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 15.0, (240, 134))
    for frame in street_frames(frames, (134, 240)):
        writer.write(np.ascontiguousarray(frame[:, :, ::-1]))
    writer.release()
    return path


def count(path: Path) -> int:
    video, frames = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        frames += 1
    return frames


def test_a_video_becomes_a_movie_and_masks(board: Board8, tmp_path: Path) -> None:
    clip = movie(tmp_path / "clip.mp4")
    done = board.run(clip, "--out", tmp_path / "o", "--save", "overlay,mask")
    assert done.returncode == 0, done.stderr
    assert count(tmp_path / "o" / "clip_overlay.mp4") == FRAMES
    masks = read(tmp_path / "o" / "clip_mask")
    assert list(masks) == [f"{index:06d}.png" for index in range(FRAMES)]
    result = evit("segment", clip, "--model", onnx_of(board), "--save", "mask", "--out",
                  tmp_path / "e")  # fmt: skip
    assert result.exit_code == 0, result.output
    for name, expected in read(tmp_path / "e" / "clip_mask").items():
        assert np.mean(masks[name] == expected) > 0.98, name  # the decoders' colours differ a bit
    short = board.run(clip, "--out", tmp_path / "short.avi", "--max-frames", 2)
    assert short.returncode == 0, short.stderr
    assert count(tmp_path / "short.avi") == 2
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4", "o", "e", "short.avi"}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_movie_plays(
    board: Board8, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    clip = movie(tmp_path / "long.mp4", 400)
    out = tmp_path / "o.avi"
    process = subprocess.Popen(
        board.command(clip, "--out", out), env=board.environment, stderr=subprocess.PIPE, text=True
    )
    partial = tmp_path / ".partial-o.avi"
    ends = time.monotonic() + 60
    while not (partial.exists() and partial.stat().st_size > 20_000):
        assert time.monotonic() < ends and process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert 0 < count(out) < 400
    assert not partial.exists()


def test_check_passes(board: Board8) -> None:
    done = board.run("--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASS: ")


def test_check_finds_an_engine_that_differs(board: Board8, tmp_path: Path) -> None:
    """An engine of other weights, as TensorRT's float16 might come to behave."""
    copy = tmp_path / "copy"
    shutil.copytree(board.bundle, copy)
    model = onnx.load(onnx_of(board))
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.raw_data:
            values = np.frombuffer(tensor.raw_data, np.float32)
            noise = np.random.default_rng(0).normal(0, 0.5 * values.std(), values.shape)
            tensor.raw_data = (values + noise).astype(np.float32).tobytes()
    other = Board8(tmp_path / "standin", copy)
    engine = next(copy.glob("*.engine"))
    old = engine.read_bytes()
    head = 8 + int.from_bytes(old[4:8], "little")
    engine.write_bytes(old[:head] + model.SerializeToString())
    done = other.run("--check")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "FAIL: " in done.stderr
    assert "--precision fp32" in done.stderr


def test_check_finds_a_damaged_file(board: Board8, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(board.bundle, copy)
    with (copy / "labels.txt").open("a") as labels:
        labels.write("more\n")
    done = Board8(tmp_path / "standin", copy).run("--check")
    assert done.returncode == 3
    assert "labels.txt is not as it was exported" in done.stderr


@pytest.mark.parametrize(
    ("words", "settings", "code", "said"),
    [
        (["IMAGE"], {"STANDIN_TENSORRT": "8.4.0"}, 1, "build_engine.sh --force"),
        (["IMAGE"], {"STANDIN_NO_CUDART": "1"}, 1, "libcudart.so is not found"),
        (["IMAGE"], {"STANDIN_NO_MEMORY": "1"}, 1, "CUDA failed: out of memory"),
        (["IMAGE"], {"STANDIN_NO_CONTEXT": "1"}, 1, "not enough memory"),
        (["IMAGE"], {"STANDIN_NO_RUN": "1"}, 1, "could not run the engine"),
        (["IMAGE"], {"PYTHONPATH": ""}, 1, "python3-libnvinfer"),
        (["nothing.png"], {}, 1, "nothing.png cannot be read"),
        (["nothing.mp4"], {}, 1, "no file, folder or camera"),
        (["TEXT"], {}, 1, "OpenCV cannot open"),
        (["EMPTY"], {}, 1, "there is no image in"),
        (["csi://0?zoom=2"], {}, 1, "names no CSI camera"),
        (["IMAGE", "--save", "masks"], {}, 2, "'masks' cannot be saved"),
        (["IMAGE", "--save", "mask", "--out", "m.jpg"], {}, 2, "use one of"),
        (["IMAGE", "--out", "m.mp4"], {}, 2, "use one of"),
        (["IMAGE", "--save", "mask,color", "--out", "m.png"], {}, 2, "there will be more"),
        (["IMAGE", "--alpha", "2"], {}, 2, "--alpha lies between 0 and 1"),
        (["IMAGE", "--check"], {}, 2, "give a SOURCE, or --check"),
        ([], {}, 2, "give a SOURCE, or --check"),
    ],
)
def test_what_goes_wrong_is_one_sentence(
    board: Board8, pictures: Path, tmp_path: Path,
    words: list[str], settings: dict[str, str], code: int, said: str,
) -> None:  # fmt: skip
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "empty").mkdir()
    places = {"IMAGE": pictures / "street.png", "TEXT": tmp_path / "notes.txt",
              "EMPTY": tmp_path / "empty"}  # fmt: skip
    out = [] if "--out" in words or "--check" in words or not words else ["--out", tmp_path / "o"]
    done = board.run(*(places.get(word, word) for word in words), *out, **settings)
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert "LEAKED" not in done.stderr
    assert not (tmp_path / "o").exists()


def test_without_an_engine(bundle: Path, pictures: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    done = Board8(tmp_path / "standin", copy).run(pictures / "street.png")
    assert done.returncode == 1
    assert "there is no engine" in done.stderr
    assert "sh build_engine.sh" in done.stderr


def test_an_output_is_not_overwritten(board: Board8, pictures: Path, tmp_path: Path) -> None:
    image, out = pictures / "street.png", tmp_path / "o.png"
    out.write_text("mine")
    refused = board.run(image, "--out", out)
    assert refused.returncode == 1
    assert "exists already" in refused.stderr
    assert out.read_text() == "mine"
    assert board.run(image, "--out", out, "--force").returncode == 0
    assert cv2.imread(str(out)) is not None


def test_an_unreadable_image_in_a_folder_is_left_out(
    board: Board8, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(pictures / "street.png", folder)
    (folder / "broken.png").write_bytes(b"no image")
    done = board.run(folder, "--out", tmp_path / "o")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["street_overlay.png"]
    assert "left out: " in done.stderr and "broken.png" in done.stderr


def test_a_grammar_of_python_36(bundle: Path) -> None:
    source = (bundle / "run.py").read_text("utf-8")
    ast.parse(source, feature_version=(3, 6))
    top = {
        alias.name.partition(".")[0]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert top - {"cv2", "numpy", "tensorrt"} <= {
        "argparse", "ctypes", "hashlib", "json", "os", "re", "signal", "sys", "threading", "time",
    }  # fmt: skip


def test_library_calls_of_python_36(bundle: Path) -> None:
    """What `ast` does not know: functions and arguments that came later."""
    program = shutil.which("vermin", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("vermin is not installed")
    command = [program, "--no-tips", "--violations", "-t=3.6-", str(bundle / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
def test_build_engine_is_for_any_shell(bundle: Path, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    subprocess.run([shell, "-n", bundle / "build_engine.sh"], check=True)


def test_shellcheck_has_nothing_to_say(bundle: Path) -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, bundle / "build_engine.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_answer_to_compare_with_is_the_models(bundle: Path) -> None:
    check = json.loads((bundle / "bundle.json").read_text("utf-8"))["check"]
    image = cv2.imread(str(bundle / check["image"]))
    logits = np.load(bundle / check["logits"])["logits"]
    assert image.shape == (192, 256, 3)
    assert logits.shape == (11, 24, 32)
    assert logits.dtype == np.float16
    assert check["least"] < check["good"] < 1
