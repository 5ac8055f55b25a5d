"""Average precision through the library, where it is installed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evit_cli.data.rle import encode_rle
from evit_cli.errors import EXIT_MISSING, EvitError
from evit_cli.metrics.coco_ap import mask_average_precision, require_coco_library

BOXES = {1: [(2, 2, 30, 20)], 2: [(5, 40, 15, 60), (60, 10, 110, 70)]}
SIDE = 128


def mask_of(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def write_set(path: Path, *, lvis: bool = False) -> Path:
    """Two images; every object is of category 1."""
    images: list[dict[str, Any]] = [{"id": i, "height": SIDE, "width": SIDE} for i in BOXES]
    categories: list[dict[str, Any]] = [{"id": 1, "name": "thing"}, {"id": 2, "name": "other"}]
    if lvis:
        for image in images:
            image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
        for category in categories:
            category["frequency"] = "f"
    annotations = [
        {
            "id": 10 * image + i, "image_id": image, "category_id": 1, "iscrowd": 0,
            "bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0),
            "segmentation": encode_rle(mask_of(x0, y0, x1, y1)),
        }
        for image, boxes in BOXES.items()
        for i, (x0, y0, x1, y1) in enumerate(boxes)
    ]  # fmt: skip
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document))
    return path


def result(image: int, box: tuple[int, int, int, int], **more: Any) -> dict[str, Any]:
    mask = encode_rle(mask_of(*box))
    return {"image_id": image, "category_id": 1, "score": 0.9, "segmentation": mask} | more


PERFECT = [result(image, box) for image, boxes in BOXES.items() for box in boxes]


@pytest.mark.parametrize("lvis", [False, True])
def test_the_objects_themselves_have_1(tmp_path: Path, lvis: bool) -> None:
    pytest.importorskip("faster_coco_eval")
    source = write_set(tmp_path / "set.json", lvis=lvis)
    found = mask_average_precision(source, PERFECT, image_ids=[1, 2], lvis=lvis)
    assert found["ap"] == found["ap50"] == found["ap75"] == pytest.approx(1)
    assert found["ap_small"] == found["ap_medium"] == pytest.approx(1)
    assert math.isnan(found["ap_large"])
    if lvis:
        assert found["ap_frequent"] == pytest.approx(1)
        assert math.isnan(found["ap_rare"])


def test_masks_of_iou_two_thirds_pass_four_of_ten_thresholds(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    source = write_set(tmp_path / "set.json")
    x0, y0, x1, y1 = BOXES[1][0]  # 28 pixels wide; 42 hold it
    found = mask_average_precision(source, [result(1, (x0, y0, x1 + 14, y1))], image_ids=[1])
    assert found["ap"] == pytest.approx(0.4)  # 0.5, 0.55, 0.6 and 0.65
    assert found["ap50"] == pytest.approx(1)
    assert found["ap75"] == 0


def test_images_that_were_not_used_do_not_count(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    source = write_set(tmp_path / "set.json")
    first = [one for one in PERFECT if one["image_id"] == 1]
    assert mask_average_precision(source, first, image_ids=[1])["ap"] == pytest.approx(1)
    assert mask_average_precision(source, first, image_ids=[1, 2])["ap"] < 0.5


def test_lvis_leaves_out_categories_that_nobody_looked_for(tmp_path: Path) -> None:
    """A wrong mask of another category costs nothing there, nor does the same in COCO's mean."""
    pytest.importorskip("faster_coco_eval")
    source = write_set(tmp_path / "set.json", lvis=True)
    wrong = [result(1, (90, 90, 99, 99), category_id=2, score=0.99)]
    found = mask_average_precision(source, PERFECT + wrong, image_ids=[1, 2], lvis=True)
    assert found["ap"] == pytest.approx(1)


def test_lvis_needs_frequencies(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    with pytest.raises(EvitError, match="'frequency'"):
        mask_average_precision(
            write_set(tmp_path / "set.json"), PERFECT, image_ids=[1, 2], lvis=True
        )


def test_without_the_library_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(EvitError, match="average precision needs faster_coco_eval") as caught:
        require_coco_library()
    assert caught.value.exit_code == EXIT_MISSING
    assert "[sam]" in caught.value.hint
