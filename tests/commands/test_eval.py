"""`evit eval` through the runner."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.inference.evaluate import published_placement
from evit_cli.types import ImageSize, Preprocess
from evit_cli.weights.embedded import EMBEDDED
from tests.helpers.cli import evit
from tests.helpers.paths import shared_dir
from tests.helpers.segmentation_sets import write_folders, write_image
from tests.helpers.weight_files import pt_bytes


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "seg.pt"
    path.write_bytes(pt_bytes("seg-b0-cityscapes"))
    return path


def test_scores_a_set_whose_labels_are_the_models_own(weights: Path, tmp_path: Path) -> None:
    """Labels made by the model itself score 1; with half of them void, still 1."""
    write_folders(tmp_path / "set", [np.zeros((64, 96), np.uint8)] * 2)
    for number in range(2):
        image = tmp_path / "set" / "images" / f"{number}.png"
        mask = tmp_path / "set" / "labels" / f"{number}.png"
        common = ["segment", image, "--weights", weights, "--save", "mask", "--size", "64x96"]
        assert evit(*common, "--out", mask, "--force").exit_code == 0
        labels = cv2.imread(str(mask), cv2.IMREAD_UNCHANGED)
        labels[:, ::2] = 255
        cv2.imwrite(str(mask), labels)
    result = evit(
        "eval", "--weights", weights, "--dataset", "folders", "--data", tmp_path / "set",
        "--size", "64x96", "--json", "--out", tmp_path / "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    score = json.loads(result.stdout)
    assert score["mean_iou"] == 1.0
    assert score["images"] == 2
    assert cv2.imread(str(tmp_path / "out" / "confusion.png")) is not None


def test_wrong_labels_lower_the_score(weights: Path, tmp_path: Path) -> None:
    write_folders(tmp_path, [np.full((64, 96), 18, np.uint8)])
    result = evit("eval", "--weights", weights, "--dataset", "folders", "--data", tmp_path, "-q")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("mIoU 0.")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--dataset", "ade20k"], 1, "expected"),
        (["--dataset", "ade"], 2, "did you mean 'ade20k'"),
        (["--dataset", "camvid", "--void", "3"], 2, "its own void label"),
        (["--dataset", "folders", "--out", "{weights}"], 1, "is a file, not a folder"),
        (["--dataset", "folders", "--map", "nowhere.json"], 1, "there is no class map"),
        (["--dataset", "folders"], 1, "holds the label 77"),
    ],
)
def test_errors(weights: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    write_folders(tmp_path, [np.full((8, 8), 77, np.uint8)])
    arguments = [argument.format(weights=weights) for argument in arguments]
    result = evit("eval", "--weights", weights, "--data", tmp_path, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr


def test_a_class_map_from_a_file(weights: Path, tmp_path: Path) -> None:
    write_folders(tmp_path, [np.zeros((64, 96), np.uint8)])
    mapping = tmp_path / "map.json"
    common = ["eval", "--weights", weights, "--dataset", "folders", "--data", tmp_path]
    mapping.write_text(json.dumps({"classes": ["anything"], "map": [0] * 19}))
    result = evit(*common, "--map", mapping, "--json")
    assert json.loads(result.stdout)["iou"] == {"anything": 1.0}
    mapping.write_text(json.dumps({"classes": ["anything"], "map": [0] * 18}))
    result = evit(*common, "--map", mapping)
    assert result.exit_code == 1
    assert "maps 18 classes, and the model has 19" in result.stderr


def test_no_model_is_a_usage_error(tmp_path: Path) -> None:
    result = evit("eval", "--dataset", "camvid", "--data", tmp_path)
    assert result.exit_code == 2


def test_classification_top_k(tmp_path: Path) -> None:
    path = tmp_path / "cls.pt"
    path.write_bytes(pt_bytes("cls-b0", num_classes=3))
    for name in ("a", "b", "c"):
        write_image(tmp_path / "set" / name / "1.png", (40, 40), ord(name))
    result = evit(
        "eval", "--weights", path, "--dataset", "imagefolder", "--data", tmp_path / "set", "--json"
    )
    assert result.exit_code == 0, result.output
    score = json.loads(result.stdout)
    assert score["top5"] == 1.0  # three classes are always among the first five
    assert "ONLY" not in score["protocol"]
    assert score["top1"] in (pytest.approx(0), pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0)

    result = evit(
        "eval", "--weights", path, "--dataset", "imagefolder", "--data", tmp_path / "set",
        "--max-images", "2",
    )  # fmt: skip
    assert "ONLY 2 OF 3 IMAGES" in result.stderr
    result = evit(
        "eval", "--weights", path, "--dataset", "imagefolder", "--data", tmp_path / "set",
        "--size", "64",
    )  # fmt: skip
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("dataset", "image_hw", "input_hw"),
    [
        ("cityscapes", (1024, 2048), (1024, 2048)),
        ("camvid", (360, 480), (736, 960)),
        ("ade20k", (512, 683), (512, 704)),
        ("ade20k", (683, 512), (704, 512)),
        ("ade20k", (256, 256), (512, 512)),
    ],
)
def test_published_input_sizes(
    dataset: str, image_hw: tuple[int, int], input_hw: tuple[int, int]
) -> None:
    preprocess = Preprocess(ImageSize(512, 512))
    placement = published_placement(dataset, ImageSize(*image_hw), preprocess)
    assert placement.content_hw == placement.canvas_hw == input_hw


@pytest.mark.shared
@pytest.mark.slow
def test_published_b0_on_camvid_gives_the_known_figure() -> None:
    result = evit(
        "eval", "--model", "seg-b0-cityscapes", "--dataset", "camvid", "--json",
        "--weights", shared_dir("data", "weights", "efficientvit_seg_b0_cityscapes.pt"),
        "--data", shared_dir("data", "camvid", "val"),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["mean_iou"] == pytest.approx(0.6927, abs=0.0005)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.parametrize("how", [("--backend", "torch", "--size", "736x960"), ()])
def test_the_street_model_has_the_figures_of_its_card(how: tuple[str, ...]) -> None:
    """The weights at 736x960, and the artifact at its own size."""
    data = shared_dir("data", "camvid")
    model = ("--model", "seg-b0-street")
    result = evit("eval", *model, "--dataset", "camvid", "--data", data, "--json", *how)
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)["mean_iou"]
    card = EMBEDDED["seg-b0-street"].card.read_text()
    row = "torch, 736x960" if how else "LiteRT, 544x960"
    claimed = re.search(rf"\| {row} \| ([\d.]+) \|", card)
    assert claimed is not None
    assert measured == pytest.approx(float(claimed[1]), abs=5e-4)
    assert measured >= 0.68
