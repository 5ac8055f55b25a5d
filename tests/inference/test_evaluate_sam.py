"""Evaluation of promptable models, with sessions whose masks are known."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from evit_cli.data.instances import open_instances
from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.evaluate_sam import TOGETHER, batched, evaluate_sam, parse_prompts
from evit_cli.inference.evaluate_sam_ap import evaluate_detections, read_detections
from tests.helpers.sam_answers import AnsweringSession, MemoryObjects
from tests.helpers.segmentation_sets import write_image

HW = (32, 32)
T = TypeVar("T")


def rectangle(x0: int, y0: int, x1: int, y1: int, hw: tuple[int, int] = HW) -> np.ndarray:
    mask = np.zeros(hw, np.bool_)
    mask[y0:y1, x0:x1] = True
    return mask


def ell() -> np.ndarray:
    return rectangle(2, 2, 8, 20) | rectangle(2, 14, 26, 20)


def truth_of(objects: Sequence[np.ndarray]) -> Any:
    """Answers with the object whose box or first click it gets."""

    def answer(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
        if labels[0] == 2:
            x0, y0, x1, y1 = np.rint(points).astype(int).ravel()
            same = [m for m in objects if (rectangle(x0, y0, x1, y1)[m].all() and
                                           m.any(axis=0).sum() == x1 - x0)]  # fmt: skip
        else:
            x, y = np.rint(points[0]).astype(int)
            same = [m for m in objects if m[y, x]]
        (found,) = same
        return found

    return answer


def boxes_only(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    assert labels.tolist() == [2, 3]
    x0, y0, x1, y1 = np.rint(points).astype(int).ravel()
    return rectangle(x0, y0, x1, y1)


def test_a_model_that_is_always_right_has_1() -> None:
    objects = [ell(), rectangle(20, 1, 30, 9), rectangle(28, 25, 31, 31)]
    session = AnsweringSession(truth_of(objects), HW)
    score = evaluate_sam(session, MemoryObjects([objects]))
    assert score.mean_iou.keys() == {"box", "1", "3", "5"}
    assert all(means["all"] == means["small"] == 1 for means in score.mean_iou.values())
    assert all(math.isnan(means["large"]) for means in score.mean_iou.values())
    assert score.objects == {"all": 3, "small": 3, "medium": 0, "large": 0}
    assert session.encoded == score.images == 1
    # One run of boxes and one of first clicks: nothing was left to click on.
    assert [one.tolist() for one in session.labels] == [[[2, 3]] * 3, [[1, -1]] * 3]


def test_filling_boxes_has_the_share_of_the_objects_in_them() -> None:
    session = AnsweringSession(boxes_only, HW)
    score = evaluate_sam(
        session, MemoryObjects([[ell()], [rectangle(3, 4, 9, 9)]]), prompts=["box"]
    )
    share = ell().sum() / (24 * 18)
    assert score.mean_iou["box"]["all"] == pytest.approx((1 + share) / 2)
    assert list(score.mean_iou) == ["box"]


def test_bands_are_those_of_the_objects_areas() -> None:
    hw = (128, 128)
    objects = [rectangle(*box, hw) for box in ((0, 0, 10, 10), (0, 0, 32, 32), (10, 10, 110, 110))]
    session = AnsweringSession(lambda *_: objects[1], hw)
    score = evaluate_sam(session, MemoryObjects([objects]), prompts=["box"])
    assert score.objects == {"all": 3, "small": 1, "medium": 1, "large": 1}
    means = score.mean_iou["box"]
    assert means["small"] == pytest.approx(100 / 1024)
    assert means["medium"] == 1
    overlap = 22 * 22
    assert means["large"] == pytest.approx(overlap / (100 * 100 + 1024 - overlap))


def painted(points: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Every click turns the block of 8x8 pixels around it on or off; the first one four blocks."""
    mask = np.zeros(HW, np.bool_)
    for number, ((x, y), label) in enumerate(zip(np.rint(points).astype(int), labels, strict=True)):
        size = 16 if number == 0 else 8
        top, left = y // size * size, x // size * size
        mask[top : top + size, left : left + size] = label == 1
    return mask


def naive_clicks(truth: np.ndarray, count: int) -> list[float]:
    """IoU after each click, by plain loops."""
    points: list[tuple[int, int]] = []
    labels: list[int] = []
    found, ious = np.zeros_like(truth), []
    for _ in range(count):
        best, where = 0.0, None
        for kind, wrong in ((0, found & ~truth), (1, truth & ~found)):
            outside = np.argwhere(~np.pad(wrong, 1)) - 1
            for y, x in np.argwhere(wrong):
                depth = np.sqrt(((outside - (y, x)) ** 2).sum(axis=1).min())
                if (x, y) not in points and (depth > best + 1e-6):
                    best, where = depth, (x, y, kind)
        if where is not None:
            points.append(where[:2])
            labels.append(where[2])
            found = painted(np.array(points), np.array(labels))
        ious.append((found & truth).sum() / (found | truth).sum())
    return ious


@pytest.mark.parametrize(
    "truth", [ell(), rectangle(0, 0, 24, 8), rectangle(9, 9, 23, 12), rectangle(0, 0, 32, 32)]
)
def test_clicks_go_where_the_mask_is_wrong(truth: np.ndarray) -> None:
    expected = naive_clicks(truth, 5)
    session = AnsweringSession(painted, HW)
    score = evaluate_sam(session, MemoryObjects([[truth]]), prompts=["1", "3", "5"])
    assert [score.mean_iou[n]["all"] for n in ("1", "3", "5")] == pytest.approx(
        [expected[0], expected[2], expected[4]]
    )
    assert all(labels[0, -1] == -1 for labels in session.labels)  # the padding point


def test_images_that_are_not_square() -> None:
    hw = (32, 16)
    truth = rectangle(3, 5, 11, 30, hw)
    session = AnsweringSession(lambda *_: truth, hw)
    score = evaluate_sam(session, MemoryObjects([[truth]]))
    assert all(means["all"] == 1 for means in score.mean_iou.values())


def test_many_objects_go_in_runs() -> None:
    objects = [rectangle(2, 2, 9, 9)] * (2 * TOGETHER + 1)
    session = AnsweringSession(lambda *_: objects[0], HW)
    score = evaluate_sam(session, MemoryObjects([objects]), prompts=["box"])
    assert [len(one) for one in session.labels] == [TOGETHER, TOGETHER, 1]
    assert score.objects["all"] == len(objects)
    assert session.encoded == 1


def test_max_images_says_so() -> None:
    session = AnsweringSession(boxes_only, HW)
    objects = MemoryObjects([[rectangle(2, 2, 9, 9)]] * 3)
    score = evaluate_sam(session, objects, prompts=["box"], max_images=2)
    assert score.images == score.objects["all"] == 2
    assert "ONLY 2 OF 3 IMAGES" in score.protocol


class Twins:
    """Two processes, of which the other one has exactly the same images."""

    def share(self, items: Sequence[T]) -> list[T]:
        return list(items)

    def total(self, counts: np.ndarray) -> np.ndarray:
        return 2 * counts


def test_processes_add_up() -> None:
    objects = MemoryObjects([[ell(), rectangle(20, 1, 30, 9)]])
    alone = evaluate_sam(AnsweringSession(painted, HW), objects, prompts=["1", "3"])
    both = evaluate_sam(AnsweringSession(painted, HW), objects, prompts=["1", "3"], group=Twins())
    assert both.objects["all"] == 2 * alone.objects["all"]
    for prompt in ("1", "3"):
        assert both.mean_iou[prompt]["all"] == pytest.approx(alone.mean_iou[prompt]["all"])


def test_objects_of_less_than_a_pixel_do_not_count(tmp_path: Path) -> None:
    write_set(tmp_path, [(4, 4, 8, 8), (20, 20, 30, 30)], area=[0.5, None])
    score = evaluate_sam(
        AnsweringSession(boxes_only, HW), open_instances("coco", tmp_path), prompts=["box"]
    )
    assert score.objects["all"] == 1
    assert score.left_out == 1
    assert score.mean_iou["box"]["all"] == 1


@pytest.mark.parametrize(
    ("names", "prompts"),
    [([], ("box", "1", "3", "5")), (["all"], ("box", "1", "3", "5")), (["5", "box"], ("box", "5"))],
)
def test_prompts(names: list[str], prompts: tuple[str, ...]) -> None:
    assert parse_prompts(names) == prompts


def test_unknown_prompts() -> None:
    with pytest.raises(UsageError, match="no prompt '2'"):
        parse_prompts(["box", "2"])


def test_batched() -> None:
    assert list(batched(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(batched([], 2)) == []


def write_set(
    root: Path, boxes: Sequence[tuple[int, int, int, int]], *, area: Sequence[float | None]
) -> None:
    """One picture of 32x32 with rectangles."""
    write_image(root / "images" / "a.png", HW, 0)
    annotations = [
        {
            "id": number + 1, "image_id": 7, "category_id": 1, "iscrowd": 0,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": (x1 - x0) * (y1 - y0) if size is None else size,
            "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
        }
        for number, ((x0, y0, x1, y1), size) in enumerate(zip(boxes, area, strict=True))
    ]  # fmt: skip
    document = {
        "images": [{"id": 7, "file_name": "a.png", "height": 32, "width": 32}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "instances.json").write_text(json.dumps(document))


def detection(x0: float, y0: float, x1: float, y1: float, **more: Any) -> dict[str, Any]:
    bbox = [x0, y0, x1 - x0, y1 - y0]
    return {"image_id": 7, "category_id": 1, "bbox": bbox, "score": 0.5} | more


def test_masks_in_a_detectors_boxes(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    boxes = [(4, 4, 8, 8), (20, 10, 30, 30)]
    write_set(tmp_path, boxes, area=[None, None])
    detections = tmp_path / "boxes.json"
    session = AnsweringSession(boxes_only, HW)
    found = open_instances("coco", tmp_path)
    detections.write_text(json.dumps([detection(*box) for box in boxes]))
    score = evaluate_detections(session, found, detections)
    assert score.values["ap"] == pytest.approx(1)
    assert (score.detections, score.images) == (2, 1)
    detections.write_text(json.dumps([detection(*boxes[0]), detection(20, 10, 25, 30)]))
    half = evaluate_detections(session, found, detections)
    assert 0.5 <= half.values["ap50"] <= 1
    assert half.values["ap75"] == pytest.approx(0.5, abs=0.01)


def test_the_most_certain_boxes_come_first(tmp_path: Path) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([detection(0, 0, 1, 1, score=s) for s in (0.1, 0.9, 0.5)]))
    (boxes,) = read_detections(path).values()
    assert [one["score"] for one in boxes] == [0.9, 0.5, 0.1]


@pytest.mark.parametrize(
    "text", ["", "{", '[{"image_id": 1}]', "[3]", json.dumps([detection(0, 0, 1, 1, bbox=[1])])]
)
def test_files_that_are_no_detections(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.json"
    path.write_text(text)
    with pytest.raises(EvitError, match=r"boxes\.json is not a list of detections"):
        read_detections(path)


def test_boxes_of_another_set(tmp_path: Path) -> None:
    pytest.importorskip("faster_coco_eval")
    write_set(tmp_path, [(4, 4, 8, 8)], area=[None])
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps([detection(0, 0, 1, 1, image_id=1234)]))
    session = AnsweringSession(boxes_only, HW)
    with pytest.raises(EvitError, match="has no box in an image of"):
        evaluate_detections(session, open_instances("coco", tmp_path), path)
