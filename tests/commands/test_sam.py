"""`evit sam`: what it writes, what it says, and what happens when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from evit_cli.data.rle import read_rle
from evit_cli.media.images import read_image
from evit_cli.runtime import sam as runtime
from evit_cli.types import Task
from evit_cli.weights import embedded
from tests.helpers.cli import evit as run_evit
from tests.helpers.media_files import Sound, beep_in, encoded, read_video, write_video
from tests.helpers.paths import REPOSITORY
from tests.helpers.sam_sessions import colour_session
from tests.helpers.weight_files import pt_bytes

RED, BLUE, GREY = (220, 20, 20), (20, 20, 220), (128, 128, 128)
IMAGE_HW = (96, 128)


def picture(red_x: int | None = 16, size_hw: tuple[int, int] = IMAGE_HW) -> np.ndarray[Any, Any]:
    """Grey with a red square at the top and a blue one at the bottom."""
    image = np.full((*size_hw, 3), GREY, np.uint8)
    if red_x is not None:
        image[16:40, red_x : red_x + 24] = RED
    image[56:88, 80:112] = BLUE
    return image


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test works in an empty folder; whatever it does, no half-written file is left."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not [path for path in tmp_path.rglob("*") if "evit-partial" in path.name]


@pytest.fixture
def evit(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`evit sam ARGUMENTS` with a model whose masks can be foretold."""
    monkeypatch.setattr(runtime, "open_sam", lambda *a, **k: colour_session())
    return lambda *arguments: run_evit("sam", *arguments, "--model", "colour")


def save(name: str, image: np.ndarray[Any, Any] | None = None) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(picture() if image is None else image, path.suffix))
    return path


def files(folder: str = "evit-out") -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in Path(folder).rglob("*") if p.is_file())


def lines(result: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def agree(mask: np.ndarray[Any, Any], colour: tuple[int, int, int], image: Any = None) -> bool:
    truth = np.all((picture() if image is None else image) == colour, axis=2)
    return bool((mask & truth).sum() / (mask | truth).sum() > 0.85)


def test_a_point(evit: Any) -> None:
    save("a.png")
    result = evit("a.png", "--point", "30,30")
    assert result.exit_code == 0, result.output
    assert files() == ["a_mask.png", "a_overlay.png"]
    assert result.stdout.split() == [str(Path("evit-out", n).resolve()) for n in files()[::-1]]
    mask = cv2.imread("evit-out/a_mask.png", cv2.IMREAD_UNCHANGED)
    assert mask.shape == IMAGE_HW and set(np.unique(mask)) == {0, 255}
    assert agree(mask == 255, RED)
    overlay, _ = read_image(Path("evit-out/a_overlay.png"))
    assert (overlay[70, 100] == picture()[70, 100]).all() and (overlay[60, 30] == GREY).all()
    assert "colour on torch fp32" in result.stderr and "1 objects" in result.stderr


def test_a_box_with_points_is_one_object(evit: Any) -> None:
    save("a.png")
    box = ["--box", "4,4,124,94", "--point", "100,60", "--point", "70,10,0"]
    result = evit("a.png", *box, "--json")
    assert result.exit_code == 0, result.output
    row, summary = lines(result)
    (found,) = row["objects"]
    assert found["bbox"] == pytest.approx([80, 56, 32, 32], abs=2)
    assert (found["object"], found["answer"], row["size_hw"]) == (1, 2, list(IMAGE_HW))
    assert (found["score"], found["stability"] > 0.9) == (pytest.approx(0.95), True)
    assert (summary["summary"]["objects"], result.stderr) == (1, "")


def test_boxes_are_objects_and_everything_can_be_saved(evit: Any) -> None:
    save("a.png")
    boxes = ["--box", "10,10,50,50", "--box", "70,50,120,92"]
    result = evit("a.png", *boxes, "--save", "mask,overlay,cutout,rle", "-o", "out")
    assert result.exit_code == 0, result.output
    assert files("out") == [
        "a_cutouts/001.png", "a_cutouts/002.png", "a_masks/001.png", "a_masks/002.png",
        "a_overlay.png", "a_rle.json",
    ]  # fmt: skip
    for name, colour in (("001", RED), ("002", BLUE)):
        assert agree(cv2.imread(f"out/a_masks/{name}.png", -1) == 255, colour)
        cutout = cv2.imread(f"out/a_cutouts/{name}.png", cv2.IMREAD_UNCHANGED)
        inside = cutout[cutout[:, :, 3] == 255][:, 2::-1]
        assert not cutout[cutout[:, :, 3] == 0][:, :3].any()  # nothing hides behind transparency
        assert cutout.shape[2] == 4 and (np.abs(inside - np.array(colour)).max(axis=1) < 5).all()
    rows = json.loads(Path("out/a_rle.json").read_text())
    for row, colour in zip(rows, (RED, BLUE), strict=True):
        mask = read_rle(row["segmentation"])
        ys, xs = np.nonzero(mask)
        assert agree(mask, colour) and row["area"] == mask.sum()
        assert row["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert (row["image"], row["image_id"], row["category_id"]) == ("a.png", 0, 1)
        assert row["score"] == pytest.approx(0.95)


def test_all_three_answers(evit: Any) -> None:
    save("a.png")
    result = evit("a.png", "-p", "30,30", "--multimask", "--json", "--save", "mask,cutout")
    assert result.exit_code == 0, result.output
    found = lines(result)[0]["objects"]
    assert [(one["object"], one["answer"]) for one in found] == [(1, 1), (2, 2), (3, 3)]
    assert (found[2]["area"], found[2]["stability"]) == (0, None)
    masks = [f"a_masks/00{n}.png" for n in (1, 2, 3)]
    assert files() == ["a_cutouts/001.png", "a_cutouts/002.png", *masks]
    assert "1 empty masks gave no cut-out" in result.stderr


def test_one_file_where_out_names_one(evit: Any) -> None:
    save("a.png")
    for kind, name in (("mask", "m.png"), ("cutout", "c.webp"), ("rle", "r.json")):
        result = evit("a.png", "-p", "2,2", "--save", kind, "--out", name)
        assert (result.exit_code, Path(name).is_file()) == (0, True), result.output
    assert read_image(Path("c.webp"))[1] is not None


def test_a_folder_gets_the_same_prompt(evit: Any) -> None:
    for name in ("in/a.png", "in/b.jpg"):
        save(name)
    save("in/small.png", picture(size_hw=(90, 25))[:, :25])
    Path("in/broken.png").write_bytes(b"nonsense")
    result = evit("in", "-p", "30,30", "--save", "mask", "--json")
    assert result.exit_code == 0, result.output
    assert files() == ["a_mask.png", "b_mask.png"]
    problems = lines(result)[-1]["summary"]["problems"]
    assert len(problems) == 2 and "broken.png is not an image" in " ".join(problems)
    assert "small.png: the point 30,30 is outside of the image, which is 25 wide" in problems[1]


def test_everything(evit: Any) -> None:
    save("a.png")
    options = ["--points-per-side", "8", "--min-stability", "0.5", "--min-iou", "0.9"]
    result = evit("a.png", "--everything", *options, "--save", "rle,mask", "--json")
    assert result.exit_code == 0, result.output
    found = [
        read_rle(row["segmentation"]) for row in json.loads(Path("evit-out/a_rle.json").read_text())
    ]
    assert len(found) == len(lines(result)[0]["objects"]) == 3
    assert all(any(agree(mask, colour) for mask in found) for colour in (RED, BLUE, GREY))
    assert files()[:3] == [f"a_masks/00{n}.png" for n in (1, 2, 3)]
    nothing = evit("a.png", "--everything", "--points-per-side", "2", "--min-iou", "1", "-o", "no")
    assert (nothing.exit_code, "nothing is left after" in nothing.stderr) == (0, True)
    assert files("no") == ["a_overlay.png"]


def test_a_file_of_prompts(evit: Any) -> None:
    save("data/in/a.png")
    save("data/b.png", picture(60))
    rows = [
        {"image": "in/a.png", "boxes": [[10, 10, 50, 50]], "id": "red"},
        {"image": "b.png", "points": [[100, 70]], "labels": [1]},
        {"image": "in/a.png", "points": [[100, 70], [2, 2]], "labels": [1, 0], "id": "blue"},
    ]
    Path("data/p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evit("--prompts", "data/p.jsonl", "--save", "mask,rle", "--json")
    assert result.exit_code == 0, result.output
    assert files() == ["b_masks/001.png", "in/a_masks/001.png", "in/a_masks/002.png", "p_rle.json"]
    first, second, _ = lines(result)
    assert [one["id"] for one in first["objects"]] == ["red", "blue"]
    assert (first["name"], second["name"]) == ("in/a.png", "b.png")
    found = json.loads(Path("evit-out/p_rle.json").read_text())
    assert [(row["image"], row.get("id")) for row in found] == [
        ("in/a.png", "red"), ("in/a.png", "blue"), ("b.png", None)
    ]  # fmt: skip
    assert agree(read_rle(found[1]["segmentation"]), BLUE)


def test_each_image_of_a_file_is_encoded_once(evit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    session = colour_session()
    monkeypatch.setattr(runtime, "open_sam", lambda *a, **k: session)
    for name in ("a.png", "b.png"):
        save(name)
    rows = [{"image": name, "points": [[30, 30]]} for name in ("a.png", "b.png") * 3]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evit("--prompts", "p.jsonl", "--json", "--embedding-cache", "kept")
    assert result.exit_code == 0, result.output
    assert [len(row["objects"]) for row in lines(result)[:-1]] == [3, 3]
    assert len(session.encoder.seen) == 1, "both have the same pixels, and one embedding"  # type: ignore[attr-defined]
    assert evit("a.png", "-p", "30,30", "-o", "o", "--embedding-cache", "kept").exit_code == 0
    assert len(session.encoder.seen) == 1  # type: ignore[attr-defined]
    (kept,) = Path("kept").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    result = evit("a.png", "-p", "30,30", "-o", "o", "-f", "--embedding-cache", "kept")
    assert (result.exit_code, "it was computed again" in result.stderr) == (0, True)


def movie(name: str = "drive.mp4", hidden: range = range(0), **how: Any) -> list[Any]:
    images = [picture(None if n in hidden else 16 + 2 * n) for n in range(14)]
    write_video(Path(name), images, **how)
    return images


def test_a_video_is_followed(evit: Any) -> None:
    images = movie(sound=Sound(beep_s=0.3, seconds=0.56))
    prompts = ["--box", "12,12,44,44", "--box", "76,52,116,92"]
    result = evit("drive.mp4", *prompts, "--save", "overlay,mask,rle", "--json")
    assert result.exit_code == 0, result.output
    rows = lines(result)
    assert [row["frame"] for row in rows[:-1]] == list(range(14))
    assert all([one["lost"] for one in row["objects"]] == [False, False] for row in rows[:-1])
    assert rows[-1]["summary"]["method"] == "tracking by re-prompting"
    for n, image in enumerate(images):
        labels = cv2.imread(f"evit-out/drive_mask/{n:06d}.png", cv2.IMREAD_UNCHANGED)
        assert agree(labels == 1, RED, image) and agree(labels == 2, BLUE, image), n
    found = read_video(Path("evit-out/drive_overlay.mp4"))
    assert len(found) == 14 and found[0][1].shape == (*IMAGE_HW, 3)
    assert beep_in(Path("evit-out/drive_overlay.mp4")) == pytest.approx(0.3, abs=0.05)
    assert len(json.loads(Path("evit-out/drive_rle.json").read_text())) == 28


def test_a_hidden_object_is_lost_and_found_again(evit: Any) -> None:
    images = movie(hidden=range(5, 8))
    result = evit("drive.mp4", "-b", "12,12,44,44", "-b", "76,52,116,92", "--json")
    assert result.exit_code == 0, result.output
    rows = lines(result)
    red = [row["objects"][0] for row in rows[:-1]]
    assert [n for n, one in enumerate(red) if one["lost"]] == [5, 6, 7]
    assert red[6]["area"] == 0 and rows[-1]["summary"]["lost"] == 3
    drawn = read_video(Path("evit-out/drive_overlay.mp4"))
    assert np.abs(drawn[6][1][:48].astype(int) - images[6][:48]).mean() < 6, "it is not drawn"
    assert files() == ["drive_overlay.mp4"]
    talk = evit("drive.mp4", "-b", "12,12,44,44", "-o", "again", "--embedding-cache", "kept")
    assert "of prompted still images only" in talk.stderr and not list(Path("kept").iterdir())
    assert "tracked by re-prompting, 3 times lost" in talk.stderr


def test_a_video_with_a_file_of_prompts(evit: Any) -> None:
    movie()
    rows = [{"points": [[28, 28], [2, 2]], "labels": [1, 0], "id": "red"}, {"points": [[90, 70]]}]
    Path("p.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = evit("drive.mp4", "--prompts", "p.jsonl", "--json", "--max-frames", "3")
    assert result.exit_code == 0, result.output
    last = lines(result)[2]["objects"]
    assert [(one["object"], one.get("id"), one["lost"]) for one in last] == [
        (1, "red", False), (2, None, False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["none.png", "-p", "1,1"], 1, "does not exist"),
        (["a.png"], 2, "nothing says what to look for"),
        (["-p", "1,1"], 2, "SOURCE is missing"),
        (["a.png", "-p", "200,10"], 1, "the point 200,10 is outside of the image, which is 128"),
        (["a.png", "-p", "20"], 2, "'20' is not a point"),
        (["a.png", "-b", "1,2,3"], 2, "'1,2,3' is not a box"),
        (["a.png", "-b", "9,2,3,4"], 2, "is reversed"),
        (["a.png", "-b", "9,9,300,90"], 1, "128 wide and 96 high"),
        (["a.png", "-p", "9,9", "-b", "0,0,9,9", "-b", "0,0,5,5"], 2, "2 boxes are several"),
        (["a.png", "-p", "9,9", "--everything"], 2, "--everything needs no point"),
        (["a.png", "-p", "9,9", "--save", "masks"], 2, "cannot save 'masks'"),
        (["a.png", "-p", "9,9", "--save", ","], 0, ""),
        (["a.png", "-p", "9,9", "--save", "cutout", "-o", "b.jpg"], 2, "has transparency"),
        (["a.png", "-p", "9,9", "--save", "mask", "-o", "b.jpg"], 2, "mask cannot be written as"),
        (["a.png", "-p", "9,9", "--save", "rle", "-o", "b.png"], 2, "cannot be written as b.png"),
        (["a.png", "--everything", "--save", "mask", "-o", "b.png"], 2, "a folder of files"),
        (["a.png", "--prompts", "none.jsonl"], 1, "no such file"),
        (["--prompts", "p.jsonl"], 1, "p.jsonl line 2: it is not JSON"),
        (["--prompts", "gone.jsonl"], 1, "gone.png does not exist"),
        (["broken.png", "-p", "1,1"], 1, "is not an image"),
        (["a.png", "--everything", "--multimask"], 2, "--multimask is for prompts"),
        (["c.mp4", "--everything"], 2, "works on still images only"),
        (["c.mp4", "-p", "9,9", "--multimask"], 2, "works on still images only"),
        (["c.mp4", "-p", "9,9", "--save", "cutout"], 2, "still images only"),
        (["c.mp4", "-p", "900,9"], 1, "128 wide and 96 high"),
        (["c.mp4", "--ui"], 2, "--ui shows still images only"),
        (["a.png", "-p", "9,9", "--embedding-cache", "p.jsonl"], 1, "is a file, not a folder"),
    ],
)
def test_mistakes(arguments: list[str], code: int, words: str, evit: Any) -> None:
    save("a.png")
    Path("broken.png").write_bytes(b"nonsense")
    Path("p.jsonl").write_text('{"image": "a.png", "points": [[1, 2]]}\n{')
    Path("gone.jsonl").write_text('{"image": "gone.png", "points": [[1, 2]]}\n')
    write_video(Path("c.mp4"), [picture()] * 3)
    result = evit(*arguments)
    assert (result.exit_code, words in result.stderr) == (code, True), result.output
    assert Path("evit-out").exists() == (code == 0)


def test_nothing_is_overwritten_unless_it_is_asked_for(evit: Any) -> None:
    save("a.png")
    two = ["-b", "10,10,50,50", "-b", "70,50,120,92", "--save", "mask,rle,cutout"]
    assert evit("a.png", *two).exit_code == 0
    before = {name: Path("evit-out", name).stat().st_mtime_ns for name in files()}
    result = evit("a.png", *two)
    assert (result.exit_code, "exists already" in result.stderr) == (1, True)
    assert before == {name: Path("evit-out", name).stat().st_mtime_ns for name in files()}
    assert evit("a.png", *two[:2], *two[2:], "--force").exit_code == 0
    assert files() == sorted(before)
    result = evit("a.png", "-p", "30,30", "--save", "mask", "--out", "a.png", "--force")
    assert (result.exit_code, "would be overwritten" in result.stderr) == (1, True)


def test_another_task_and_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    save("a.png")
    Path("seg.pt").write_bytes(pt_bytes("seg-b0-cityscapes"))
    result = run_evit("sam", "a.png", "-p", "9,9", "--weights", "seg.pt")
    assert (result.exit_code, "is a segment model" in result.stderr) == (1, True), result.output
    others = {k: m for k, m in embedded.EMBEDDED.items() if m.task is not Task.SAM}
    monkeypatch.setattr(embedded, "EMBEDDED", others)
    result = run_evit("sam", "a.png", "-p", "9,9")
    assert (result.exit_code, "--model sam-l0" in result.stderr) == (2, True)


# As a real process

_FORETOLD = """
from evit_cli.app import main
from evit_cli.runtime import sam
from tests.helpers.sam_sessions import colour_session
sam.open_sam = lambda *a, **k: colour_session()
main()
"""


def start(*command: object) -> subprocess.Popen[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": os.getcwd()}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    texts = [sys.executable, *map(str, command)]
    return subprocess.Popen(texts, env=environment, text=True, **pipes)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_a_playable_video(number: signal.Signals, code: int) -> None:
    write_video(Path("drive.mp4"), [picture(16 + n % 40) for n in range(25)] * 40)
    process = start(
        "-c", _FORETOLD, "sam", "drive.mp4", "-b", "12,12,44,44", "--model", "x", "--json"
    )
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (code, "")
    summary = json.loads(out.splitlines()[-1])["summary"]
    found = read_video(Path("evit-out/drive_overlay.mp4"))
    assert summary["interrupted"] and 2 <= summary["frames"] == len(found) < 1000
    assert first["objects"][0]["object"] == 1


def test_a_reader_that_goes_away_ends_the_run() -> None:
    write_video(Path("drive.mp4"), [picture(16 + n % 40) for n in range(25)] * 40)
    process = start(
        "-c", _FORETOLD, "sam", "drive.mp4", "-b", "12,12,44,44", "--model", "x", "--json"
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=120) == 1
    assert 1 <= len(read_video(Path("evit-out/drive_overlay.mp4"))) < 1000


@pytest.mark.slow
def test_a_real_model_in_a_process_of_its_own() -> None:
    save("a.png")
    command = ("-m", "evit_cli", "sam", "a.png", "-p", "30,30", "--backend", "torch")
    process = start(*command, "--offline", "--json", "--embedding-cache", "kept", "--threads", "1")
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out.splitlines()[0])["objects"][0]["object"] == 1
    assert files() == ["a_mask.png", "a_overlay.png"] and len(files("kept")) == 1
