"""`evit segment` through the runner: what it writes and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.media.images import read_image
from evit_cli.media.street_scene import street_frames, write_street_clip
from evit_cli.models.classes import class_set
from tests.helpers.cli import evit
from tests.helpers.paths import shared_dir
from tests.helpers.weight_files import pt_bytes

CITYSCAPES = class_set("cityscapes")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: what matters here is what happens around the model."""
    path = tmp_path_factory.mktemp("weights") / "seg.pt"
    path.write_bytes(pt_bytes("seg-b0-cityscapes"))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "street.png"
    cv2.imwrite(str(path), next(street_frames(1, (90, 160)))[:, :, ::-1])
    return path


def test_everything_that_can_be_saved_of_an_image(
    image: Path, weights: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = evit(
        "segment", image, "--weights", weights, "--size", "64x128", "--out", out,
        "--save", "overlay,mask,color,json", "--no-legend", "--alpha", "0.25",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    files = {path.name for path in out.iterdir()}
    assert files == {
        "street_overlay.png", "street_mask.png", "street_color.png", "street_segments.jsonl",
    }  # fmt: skip
    assert set(result.stdout.split()) == {str((out / name).resolve()) for name in files}

    mask = cv2.imread(str(out / "street_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (90, 160)
    assert mask.dtype == np.uint8
    assert mask.max() < 19
    color, _ = read_image(out / "street_color.png")
    assert (color == np.array(CITYSCAPES.colors_rgb)[mask]).all()
    overlay, _ = read_image(out / "street_overlay.png")
    picture, _ = read_image(image)
    expected = 0.75 * picture + 0.25 * color.astype(float)
    assert np.abs(overlay - expected).max() <= 1
    row = json.loads((out / "street_segments.jsonl").read_text())
    assert row["size_hw"] == [90, 160]
    for name, share in row["classes"].items():
        assert share == pytest.approx((mask == CITYSCAPES.classes.index(name)).mean(), abs=1e-5)


def test_json_lines_are_all_there_is_on_stdout(image: Path, weights: Path, tmp_path: Path) -> None:
    result = evit("segment", image, "--weights", weights, "--out", tmp_path / "o", "--json")
    assert result.exit_code == 0, result.output
    row, summary = (json.loads(line) for line in result.stdout.splitlines())
    assert row["frame"] == 0
    assert sum(row["classes"].values()) == pytest.approx(1, abs=1e-4)
    assert summary["summary"]["frames"] == 1
    assert result.stderr == ""


def test_only_some_classes_are_coloured(image: Path, weights: Path, tmp_path: Path) -> None:
    common = ["segment", image, "--weights", weights, "--out", tmp_path / "o", "--no-legend"]
    assert evit(*common, "--save", "mask").exit_code == 0
    mask = cv2.imread(str(tmp_path / "o" / "street_mask.png"), cv2.IMREAD_UNCHANGED)
    kept = int(np.bincount(mask.ravel()).argmax())
    assert evit(*common, "--classes", CITYSCAPES.classes[kept]).exit_code == 0
    overlay, _ = read_image(tmp_path / "o" / "street_overlay.png")
    picture, _ = read_image(image)
    changed = (overlay != picture).any(axis=2)
    assert not changed[mask != kept].any()
    assert changed[mask == kept].mean() > 0.9


def test_folder_of_images_with_clashing_names(weights: Path, tmp_path: Path, image: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "a.jpg", "b.bmp"):
        picture, _ = read_image(image)
        cv2.imwrite(str(folder / name), picture[:, :, ::-1])
    (folder / "notes.txt").write_text("not an image")
    out = tmp_path / "out"
    result = evit("segment", folder, "--weights", weights, "--size", "64x128", "--out", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "a.png_overlay.png", "a.jpg_overlay.jpg", "b.bmp_overlay.bmp",
    }  # fmt: skip


def test_video_keeps_its_length_rate_and_size(weights: Path, tmp_path: Path) -> None:
    import av

    clip = tmp_path / "clip.mp4"
    write_street_clip(clip, count=12, size_hw=(61, 99))
    out = tmp_path / "out.mp4"
    result = evit("segment", clip, "--weights", weights, "--size", "64x128", "--out", out)
    assert result.exit_code == 0, result.output
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.height, stream.width) == (62, 100)
        assert stream.average_rate == 25
        assert [frame.time for frame in container.decode(video=0)] == pytest.approx(
            [i / 25 for i in range(12)]
        )


def test_every_and_max_frames(weights: Path, tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    write_street_clip(clip, count=12, size_hw=(64, 96))
    result = evit(
        "segment", clip, "--weights", weights, "--size", "64x96", "--save", "mask,json",
        "--out", tmp_path / "o", "--every", "3", "--max-frames", "3",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = (tmp_path / "o" / "clip_segments.jsonl").read_text().splitlines()
    assert [json.loads(row)["frame"] for row in rows] == [0, 3, 6]
    masks = sorted(path.name for path in (tmp_path / "o" / "clip_mask").iterdir())
    assert masks == ["000000.png", "000003.png", "000006.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--save", "overlays"], 2, "did you mean 'overlay'"),
        (["--save", ""], 2, "nothing is to be saved"),
        (["--size", "64by64"], 2, "HEIGHTxWIDTH"),
        (["--classes", "rood"], 2, "did you mean 'road'"),
        (["--backend", "onnx"], 2, "no onnx artifact that fits"),
        (["--precision", "int8"], 2, "int8"),
        (["--out", "x.mp3", "--save", "mask,json"], 2, "several files"),
        (["--model", "seg-b1-cityscapes"], 1, "seg-b0-cityscapes"),
        (["--show"], 5, "opencv-python"),
    ],
)
def test_wrong_requests_end_in_one_sentence(
    image: Path, weights: Path, tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    result = evit("segment", image, "--weights", weights, "--out", tmp_path / "o", *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "o").exists()


def test_outputs_are_not_overwritten_without_force(
    image: Path, weights: Path, tmp_path: Path
) -> None:
    common = ["segment", image, "--weights", weights, "--out", tmp_path / "o", "--size", "64x128"]
    assert evit(*common).exit_code == 0
    again = evit(*common)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert evit(*common, "--force").exit_code == 0


def test_a_new_folder_may_have_a_dot(image: Path, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.v2"
    assert evit("segment", image, "--weights", weights, "--out", out).exit_code == 0
    assert [path.name for path in out.iterdir()] == ["street_overlay.png"]


def test_requests_are_checked_before_the_model_is_loaded(image: Path, tmp_path: Path) -> None:
    result = evit("segment", image, "--weights", tmp_path / "none.pt", "--save", "masks")
    assert result.exit_code == 2
    assert "masks" in result.stderr


def test_only_overlays_keep_transparency(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((64, 96, 4), 90, np.uint8))
    out = tmp_path / "o"
    result = evit("segment", path, "--weights", weights, "--save", "overlay,color", "--out", out)
    assert result.exit_code == 0, result.output
    channels = [
        cv2.imread(str(out / f"a_{kind}.png"), cv2.IMREAD_UNCHANGED).shape[2]
        for kind in ("overlay", "color")
    ]
    assert channels == [4, 3]


@pytest.mark.shared
@pytest.mark.slow
def test_published_weights_give_the_published_labels(tmp_path: Path) -> None:
    out = tmp_path / "mask.png"
    result = evit(
        "segment", shared_dir("data", "frames", "cityscapes_frankfurt_000294.png"),
        "--weights", shared_dir("data", "weights", "efficientvit_seg_b0_cityscapes.pt"),
        "--save", "mask", "--out", out,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = shared_dir("parity", "fixtures", "seg-b0-cityscapes_frankfurt_trainids.png")
    ours, theirs = (cv2.imread(str(p), cv2.IMREAD_UNCHANGED) for p in (out, expected))
    assert (ours == theirs).mean() >= 0.9999


@pytest.mark.shared
@pytest.mark.slow
def test_real_dash_camera_video(tmp_path: Path) -> None:
    import av

    out = tmp_path / "drive.mp4"
    source = shared_dir("data", "video", "dashcam_highway_540p.mp4")
    result = evit(
        "segment", source, "--size", "256x512", "--out", out, "--json",
        "--weights", shared_dir("data", "weights", "efficientvit_seg_b0_cityscapes.pt"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout.splitlines()[-1])["summary"]
    assert summary["frames"] == 221
    assert list(summary["classes"])[:2] in (["sky", "road"], ["road", "sky"])
    with av.open(str(source)) as before, av.open(str(out)) as after:
        assert after.streams.video[0].frames == 221
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate
        sounds = [[bytes(p) for p in c.demux(audio=0) if p.size] for c in (before, after)]
        assert sounds[1] == sounds[0][: len(sounds[1])]
        assert len(sounds[1]) > 0.98 * len(sounds[0])
