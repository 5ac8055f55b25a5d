"""Average precision of the masks that a promptable model draws into a detector's boxes."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from evit_cli.data.instances import InstanceSet
from evit_cli.data.rle import encode_rle
from evit_cli.errors import EvitError
from evit_cli.inference.evaluate import part_used, spread
from evit_cli.inference.evaluate_sam import EncodedImage
from evit_cli.metrics.coco_ap import (
    COCO_DETECTIONS,
    LVIS_DETECTIONS,
    mask_average_precision,
    require_coco_library,
)
from evit_cli.runtime.sam import SamSession
from evit_cli.types import NoProgress, Progress

_KEYS = ("image_id", "category_id", "bbox", "score")


@dataclass(frozen=True)
class ApScore:
    """The result of a detector's boxes.

    Attributes:
        values: as `mask_average_precision` gives them, in [0, 1].
        detections: how many boxes were used.
        images: how many were used.
        seconds: wall time.
        protocol: what was done, in words.
    """

    values: dict[str, float]
    detections: int
    images: int
    seconds: float
    protocol: str


def read_detections(path: Path) -> dict[int, list[dict[str, Any]]]:
    """A detector's boxes in COCO's result format, per image, the most certain ones first.

    Raises:
        EvitError: the file cannot be read, or is not a list of boxes.
    """
    found: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    try:
        for one in json.loads(path.read_bytes()):
            kept = {key: one[key] for key in _KEYS}
            if len(kept["bbox"]) != 4:
                raise ValueError(f"a box has {len(kept['bbox'])} numbers")
            found[one["image_id"]].append(kept)
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"one has no {error}" if isinstance(error, KeyError) else str(error)
        raise EvitError(
            f"{path} is not a list of detections: {what}",
            hint='it holds [{"image_id", "category_id", "bbox": [x, y, width, height], "score"}]',
        ) from error
    return {key: sorted(boxes, key=lambda one: -one["score"]) for key, boxes in found.items()}


def evaluate_detections(
    session: SamSession,
    found: InstanceSet,
    detections: Path,
    *,
    max_images: int | None = None,
    progress: Progress | None = None,
) -> ApScore:
    """Average precision (`segm`) of the masks in a detector's boxes, with the detector's scores.

    Images are read one by one; of the masks, run lengths are kept until the end, about 200 bytes
    each.

    Args:
        session: the model.
        found: COCO's or LVIS' objects.
        detections: the boxes; of LVIS, the 300 most certain ones per image are used.
        max_images: use this many, spread over the whole set.
        progress: gets one step per image.

    Raises:
        EvitError: a file cannot be read.
        MissingDependency: the library of average precision is not installed.
    """
    require_coco_library()
    progress = progress or NoProgress()
    lvis = found.name == "lvis"
    boxes = read_detections(detections)
    items = spread(range(len(found)), max_images)
    used = [found.images[index].id for index in items]
    if not any(boxes.get(image_id) for image_id in used):
        raise EvitError(
            f"{detections} has no box in an image of {found.source}",
            hint="their image_id must be those of the set",
        )
    results: list[Mapping[str, Any]] = []
    started = time.perf_counter()
    progress.start(len(items), "image")
    try:
        for index in items:
            some = boxes.get(found.images[index].id, [])
            some = some[:LVIS_DETECTIONS] if lvis else some
            if some:
                results += _results(EncodedImage(session, found.image(index)), some)
            progress.advance(1, boxes=len(results))
    finally:
        progress.close()
    limit = (
        f"{LVIS_DETECTIONS} detections per image"
        if lvis
        else f"{COCO_DETECTIONS} detections per image and category"
    )
    return ApScore(
        mask_average_precision(found.source, results, image_ids=used, lvis=lvis),
        detections=len(results),
        images=len(items),
        seconds=time.perf_counter() - started,
        protocol=f"masks in the boxes of {detections.name}, of three the one with the highest "
        f"predicted IoU, {limit}" + part_used(len(items), len(found)),
    )


def _results(encoded: EncodedImage, boxes: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    corners = np.array([one["bbox"] for one in boxes], np.float32)
    corners[:, 2:] += corners[:, :2]
    for one, mask in zip(boxes, encoded.by_boxes(corners), strict=True):
        yield {
            "image_id": one["image_id"],
            "category_id": one["category_id"],
            "score": one["score"],
            "segmentation": encode_rle(mask),
        }
