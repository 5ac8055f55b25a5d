"""Objects one by one from COCO's and LVIS' files, and from maps of regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from evit_cli.data import instances
from evit_cli.data.instances import Instance, box_of, instance_of, open_instances, open_regions
from evit_cli.data.masks import kept_out
from evit_cli.data.rle import encode_rle
from evit_cli.errors import EvitError
from evit_cli.metrics.mask_iou import mask_iou
from tests.helpers.paths import shared_dir
from tests.helpers.segmentation_sets import write_image

HW = (8, 10)
SQUARE = np.zeros(HW, np.bool_)
SQUARE[2:5, 1:7] = True


def write_set(root: Path, annotations: list[dict[str, Any]], images: int = 1) -> Path:
    listed = []
    for number in range(images):
        write_image(root / "images" / f"{number:02}.png", HW, number)
        name = f"{number:02}.png"
        # Ids fall as names rise: an object must find its image by id.
        listed.append({"id": 100 - number, "file_name": name, "height": HW[0], "width": HW[1]})
    document = {"images": listed, "annotations": annotations, "categories": []}
    (root / "instances.json").write_text(json.dumps(document))
    return root


def annotation(image_id: int = 100, **more: Any) -> dict[str, Any]:
    return {
        "image_id": image_id, "category_id": 1, "iscrowd": 0, "bbox": [1, 2, 6, 3], "area": 18,
        "segmentation": encode_rle(SQUARE),
    } | more  # fmt: skip


def objects_of(root: Path, index: int = 0) -> list[Instance]:
    image, found = open_instances("coco", root).read(index)
    assert image.shape == (*HW, 3)
    return list(found)


def test_an_object_has_mask_box_and_area(tmp_path: Path) -> None:
    (one,) = objects_of(write_set(tmp_path, [annotation(area=17.5)]))
    assert (one.mask == SQUARE).all()
    assert one.box_xyxy.tolist() == [1, 2, 7, 5]
    assert one.area == 17.5  # what the file says, not the mask's 18 pixels


def test_objects_belong_to_their_images_crowds_too(tmp_path: Path) -> None:
    annotations = [annotation(99, area=3), annotation(100, iscrowd=1), annotation(99, area=5)]
    root = write_set(tmp_path, annotations, images=3)
    assert [[one.area for one in objects_of(root, i)] for i in range(3)] == [[18], [3, 5], []]


def test_what_the_file_does_not_say_is_the_masks(tmp_path: Path) -> None:
    bare = annotation()
    del bare["bbox"], bare["area"]
    empty = dict(bare, segmentation=encode_rle(np.zeros(HW, np.bool_)))
    one, nothing = objects_of(write_set(tmp_path, [bare, empty]))
    assert one.box_xyxy.tolist() == [1, 2, 7, 5]
    assert one.area == 18
    assert nothing.area == 0


def test_the_box_of_a_mask_holds_its_pixels() -> None:
    single = np.zeros(HW, np.bool_)
    single[7, 9] = True
    assert box_of(single).tolist() == [9, 7, 10, 8]
    assert instance_of(SQUARE).area == 18
    with pytest.raises(ValueError, match="empty"):
        box_of(np.zeros(HW, np.bool_))


def test_the_part_is_the_one_that_training_leaves_out(tmp_path: Path) -> None:
    write_set(tmp_path, [], images=32)
    found = open_instances("coco", tmp_path, part="kept_out")
    assert [one.file.name for one in found.images] == [f"{i:02}.png" for i in kept_out(32)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segmentation": [[1, 2, 3]]}, "that cannot be drawn"),
        ({"segmentation": encode_rle(SQUARE.T)}, "that cannot be drawn"),
        ({"bbox": [1, 2]}, "that cannot be drawn"),
    ],
)
def test_objects_that_are_wrong(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    root = write_set(tmp_path, [annotation(**change)])
    with pytest.raises(EvitError, match=words):
        objects_of(root)


@pytest.mark.parametrize("text", ["{", "[]", '{"images": []}', '{"images": [], "annotations": []}'])
def test_files_that_are_wrong(tmp_path: Path, text: str) -> None:
    write_set(tmp_path, [])
    (tmp_path / "instances.json").write_text(text)
    with pytest.raises(EvitError, match=r"instances\.json"):
        open_instances("coco", tmp_path)


def test_an_image_of_another_size(tmp_path: Path) -> None:
    write_set(tmp_path, [annotation()])
    write_image(tmp_path / "images" / "00.png", (9, 10), 0)
    with pytest.raises(EvitError, match=r"9x10 pixels.* 8x10"):
        objects_of(tmp_path)


@pytest.mark.parametrize("folder", ["", "annotations"])
def test_lvis_names_images_by_address(tmp_path: Path, folder: str) -> None:
    write_image(tmp_path / "train2017" / "7.png", HW, 0)
    address = "http://images.cocodataset.org/train2017/7.png"
    image = {"id": 100, "coco_url": address, "height": HW[0], "width": HW[1]}
    source = tmp_path / folder / "lvis_v1_val.json"
    source.parent.mkdir(exist_ok=True)
    source.write_text(json.dumps({"images": [image], "annotations": [annotation()]}))
    found = open_instances("lvis", tmp_path)
    assert (found.name, found.source) == ("lvis", source)
    assert len(list(found.read(0)[1])) == 1


def test_regions_of_a_map(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png", HW, 0)
    regions = SQUARE.astype(np.uint8) * 3
    regions[6:, 8:] = 200
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "masks" / "a.png"), regions)
    found = open_regions(tmp_path, part="all")
    boxes = [(one.box_xyxy.tolist(), one.area) for one in found.read(0)[1]]
    assert boxes == [([1, 2, 7, 5], 18), ([8, 6, 10, 8], 4)]


def test_regions_of_sa1b(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", HW, 0)
    empty = encode_rle(np.zeros(HW, np.bool_))
    listed = [{"segmentation": one} for one in (encode_rle(SQUARE), empty)]
    (tmp_path / "a.json").write_text(json.dumps({"annotations": listed}))
    (one,) = open_regions(tmp_path, part="all").read(0)[1]
    assert (one.mask == SQUARE).all()


def test_regions_of_several_people() -> None:
    pytest.importorskip("scipy")
    found = open_regions(
        shared_dir("data", "bsds_regions"), images=shared_dir("data", "sr", "bsds400"),
        part="kept_out",
    )  # fmt: skip
    image, objects = found.read(0)
    # Every person divides the whole image.
    shares = sum(one.area for one in objects) / image[..., 0].size
    assert shares == pytest.approx(round(shares))
    assert shares > 1


def agreement(root: Path) -> tuple[float, str]:
    """Mean IoU of some objects' masks with the library's, and the caveat."""
    library = pytest.importorskip("faster_coco_eval")
    truth = library.COCO(str(root / "instances.json"))
    found = open_instances("coco", root)
    ious = []
    for index in range(0, len(found), 8):
        drawn = found.read(index)[1]
        for theirs, ours in zip(truth.imgToAnns[found.images[index].id], drawn, strict=True):
            mask = truth.annToMask(theirs).astype(np.bool_)
            ious.append(mask_iou(ours.mask, mask))
    return float(np.mean(ious)), found.caveat


def test_polygons_are_drawn_as_coco_draws_them_where_its_library_is() -> None:
    assert agreement(shared_dir("data", "coco128")) == (1.0, "")


def test_without_it_nearly_so_and_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faster_coco_eval")
    monkeypatch.setattr(instances, "_has_library", lambda: False)
    iou, caveat = agreement(shared_dir("data", "coco128"))
    assert 0.95 < iou < 1
    assert "without COCO's library" in caveat
