"""`evit classify` through the runner."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.media.street_scene import write_street_clip
from evit_cli.models.classes import class_set
from tests.helpers.cli import evit
from tests.helpers.weight_files import pt_bytes


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "cls.pt"
    path.write_bytes(pt_bytes("cls-b0"))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(3):
        noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{i}.png"), noise)
    return tmp_path


def test_json_rows_name_real_classes_with_falling_probabilities(
    folder: Path, weights: Path
) -> None:
    result = evit("classify", folder, "--weights", weights, "--topk", "4", "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["name"] for row in rows] == ["0.png", "1.png", "2.png"]
    names = class_set("imagenet").classes
    for row in rows:
        assert len(row["top"]) == 4
        values = [prediction["probability"] for prediction in row["top"]]
        assert values == sorted(values, reverse=True)
        assert all(names[p["index"]] == p["class"] for p in row["top"])


def test_lines_for_people(folder: Path, weights: Path) -> None:
    result = evit("classify", folder / "0.png", "--weights", weights, "--topk", "2")
    assert result.exit_code == 0, result.output
    name, _, classes = result.stdout.strip().partition("\t")
    assert name == "0.png"
    assert classes.count("%") == 2


def test_video_by_every_nth_frame(tmp_path: Path, weights: Path) -> None:
    write_street_clip(tmp_path / "clip.mp4", count=9, size_hw=(64, 96))
    result = evit("classify", tmp_path / "clip.mp4", "--weights", weights, "--every", "4", "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line)["frame"] for line in result.stdout.splitlines()] == [0, 4, 8]


def test_a_broken_image_among_good_ones_is_told(folder: Path, weights: Path) -> None:
    (folder / "1.png").write_bytes(b"not an image")
    result = evit("classify", folder, "--weights", weights, "--json")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 2
    assert "skipped 1:" in result.stderr


def test_a_segmentation_model_does_not_classify(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "seg.pt"
    path.write_bytes(pt_bytes("seg-b0-cityscapes"))
    result = evit("classify", folder / "0.png", "--weights", path)
    assert result.exit_code == 1
    assert "not a classifier" in result.stderr
