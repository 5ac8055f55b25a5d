"""`evit eval` of promptable models, through the runner."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.cli import evit
from tests.helpers.sam_answers import AnsweringSession
from tests.helpers.segmentation_sets import write_folders, write_image
from tests.helpers.weight_files import pt_bytes

HW = (32, 32)


def boxes_only(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The box, or a square of 8x8 pixels in the corner for clicks."""
    x0, y0, x1, y1 = np.rint(points).astype(int).ravel() if 2 in labels else (0, 0, 8, 8)
    mask = np.zeros(HW, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> AnsweringSession:
    """What every model's name opens: a model that fills boxes."""
    session = AnsweringSession(boxes_only, HW)
    monkeypatch.setattr("evit_cli.runtime.sam.open_sam", lambda *_, **__: session)
    return session


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Two pictures, each with a triangle that is half of its box."""
    root = tmp_path / "set"
    images = []
    annotations = []
    for number in range(2):
        write_image(root / "images" / f"{number}.png", HW, number)
        images.append({"id": number, "file_name": f"{number}.png", "height": 32, "width": 32})
        annotations.append(
            {
                "id": number + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                "bbox": [4, 4, 24, 24], "area": 288, "segmentation": [[4, 4, 28, 4, 4, 28]],
            }
        )  # fmt: skip
    categories = [{"id": 1, "name": "thing"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(document))
    return root


def run(*arguments: Any) -> Any:
    return evit("eval", "--model", "sam-b0", *arguments)


def test_coco_as_json(model: AnsweringSession, coco: Path) -> None:
    result = run("--dataset", "coco", "--data", coco, "--prompts", "box", "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert row["mean_iou"].keys() == {"box"}
    assert row["mean_iou"]["box"]["all"] == pytest.approx(0.5, abs=0.03)
    assert row["mean_iou"]["box"]["large"] is None
    assert row["objects"] == {"all": 2, "small": 2, "medium": 0, "large": 0}
    assert (row["model"], row["dataset"], row["part"]) == ("answers", "coco", "val")
    assert "highest predicted IoU" in row["protocol"]


def test_all_prompts_as_a_table(model: AnsweringSession, coco: Path) -> None:
    result = run("--dataset", "coco", "--data", coco)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("\t") == ["prompt", "all", "small", "medium", "large"]
    assert [line.split("\t")[0] for line in lines[1:]] == ["box", "1 click", "3 clicks", "5 clicks"]
    assert lines[1].endswith("\t-")
    assert "objects: 2 all" in result.stderr


def test_lvis_finds_images_by_their_address(model: AnsweringSession, coco: Path) -> None:
    raw = json.loads((coco / "instances.json").read_text())
    for image in raw["images"]:
        name = image.pop("file_name")
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
    (coco / "images").rename(coco / "val2017")
    (coco / "annotations").mkdir()
    (coco / "annotations" / "lvis_v1_val.json").write_text(json.dumps(raw))
    result = run("--dataset", "lvis", "--data", coco, "--prompts", "box", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["mean_iou"]["box"]["all"] == pytest.approx(0.5, abs=0.03)


def test_regions(model: AnsweringSession, tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", HW, 0)
    regions = np.zeros(HW, np.uint8)
    regions[3:9, 2:20] = 5
    regions[20:30, 2:20] = 9
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), regions)
    result = run("--dataset", "regions", "--data", tmp_path, "--prompts", "box", "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert row["mean_iou"]["box"]["all"] == 1
    assert row["objects"]["all"] == 2


def test_the_images_that_training_keeps_out(model: AnsweringSession, coco: Path) -> None:
    """Of two images the rule takes none: the same part as training's."""
    from evit_cli.data.masks import kept_out

    many = json.loads((coco / "instances.json").read_text())
    for number in range(2, 32):
        write_image(coco / "images" / f"{number:02}.png", HW, number)
        image = {"id": number, "file_name": f"{number:02}.png", "height": 32, "width": 32}
        many["images"].append(image)
    (coco / "instances.json").write_text(json.dumps(many))
    result = run("--dataset", "coco", "--data", coco, "--part", "kept-out", "--json")
    expected = sorted(image["file_name"] for image in many["images"])
    kept = {expected[i] for i in kept_out(32)}
    assert model.encoded == len(kept) == 7
    assert result.exit_code == (0 if kept & {"0.png", "1.png"} else 1)


def test_average_precision(model: AnsweringSession, coco: Path, tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    boxes = tmp_path / "boxes.json"
    found = [
        {"image_id": i, "category_id": 1, "bbox": [4, 4, 24, 24], "score": 0.9} for i in range(2)
    ]
    boxes.write_text(json.dumps(found))
    result = run("--dataset", "coco", "--data", coco, "--detections", boxes, "--json")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert "mean_iou" not in row
    values = row["average_precision"]["values"]
    assert values["ap50"] in (pytest.approx(0), pytest.approx(1))  # IoU is 0.5, to a pixel
    assert values["ap75"] == 0
    assert values["ap_large"] is None


def test_average_precision_without_its_library(
    model: AnsweringSession, coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    result = run("--dataset", "coco", "--data", coco, "--detections", coco / "instances.json")
    assert result.exit_code == 5
    assert "[sam]" in result.stderr
    assert model.encoded == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--dataset", "coco", "--prompts", "2"], 2, "there is no prompt '2'"),
        (["--dataset", "coco", "--size", "64x64"], 2, "--size is for models without prompts"),
        (["--dataset", "lvis"], 1, "there is no lvis_v1_val.json"),
        (["--dataset", "regions"], 1, "no image has a .json beside it"),
        (["--dataset", "regions", "--detections", "x.json"], 1, "no image has a .json beside it"),
    ],
)
def test_errors(
    model: AnsweringSession, coco: Path, arguments: list[str], code: int, words: str
) -> None:
    result = run("--data", coco, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr.replace("\n", " ")


def test_no_object_that_counts(model: AnsweringSession, coco: Path) -> None:
    raw = json.loads((coco / "instances.json").read_text())
    for one in raw["annotations"]:
        one["area"] = 0
    (coco / "instances.json").write_text(json.dumps(raw))
    result = run("--dataset", "coco", "--data", coco)
    assert result.exit_code == 1
    assert "no object" in result.stderr


def test_prompts_are_for_promptable_models(tmp_path: Path) -> None:
    weights = tmp_path / "seg.pt"
    weights.write_bytes(pt_bytes("seg-b0-cityscapes"))
    write_folders(tmp_path, [np.zeros((8, 8), np.uint8)])
    common = ["eval", "--weights", weights, "--data", tmp_path]
    result = evit(*common, "--dataset", "folders", "--prompts", "box")
    assert result.exit_code == 2
    assert "--prompts is for promptable models, on coco, lvis, regions" in result.stderr


def test_a_real_model_from_a_file(coco: Path, tmp_path: Path) -> None:
    """Random weights: the file says that it is promptable, and so what is meant by COCO."""
    pytest.importorskip("torch")
    from safetensors.torch import save_file

    from tests.helpers.weight_files import random_state

    weights = tmp_path / "sam.safetensors"
    save_file({k: v.contiguous() for k, v in random_state("sam-b0").items()}, weights)
    common = ["eval", "--weights", weights, "--data", coco, "--json"]
    result = evit(*common, "--dataset", "coco", "--prompts", "box", "--prompts", "1")
    assert result.exit_code == 0, result.output
    row = json.loads(result.stdout)
    assert row["model"] == "sam-b0"
    assert all(0 <= row["mean_iou"][kind]["all"] <= 1 for kind in ("box", "1"))
    result = evit("eval", "--weights", weights, "--data", coco, "--dataset", "imagefolder")
    assert result.exit_code == 2, result.output
    assert "promptable models are measured on" in result.stderr
