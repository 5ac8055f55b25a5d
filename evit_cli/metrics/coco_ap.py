"""Average precision of masks by COCO's and LVIS' own rules, which a library knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evit_cli.errors import EvitError, require

COCO_DETECTIONS = 100
"""Detections that count per image and category."""
LVIS_DETECTIONS = 300
"""Detections that count per image, over all categories (arXiv 1908.03195)."""

_WHY = "average precision"
_COCO_NAMES = {
    "AP_all": "ap", "AP_50": "ap50", "AP_75": "ap75", "AP_small": "ap_small",
    "AP_medium": "ap_medium", "AP_large": "ap_large",
}  # fmt: skip
_LVIS_NAMES = _COCO_NAMES | {"APr": "ap_rare", "APc": "ap_common", "APf": "ap_frequent"}


def require_coco_library() -> None:
    """Refuse to start what could not be finished.

    Raises:
        MissingDependency: the library of average precision is not installed.
    """
    require("faster_coco_eval", extra="sam", why=_WHY)


def mask_average_precision(
    annotations: Path,
    results: Sequence[Mapping[str, Any]],
    *,
    image_ids: Sequence[int],
    lvis: bool = False,
) -> dict[str, float]:
    """Average precision of masks (`segm`), by the library faster-coco-eval.

    Args:
        annotations: the set's JSON file.
        results: COCO's result format: image_id, category_id, segmentation (compressed run
            lengths) and score. The values are not kept, but get further keys.
        image_ids: the images that were used.
        lvis: by the rules of LVIS: categories that nobody looked for in an image do not count
            there, and rare, common and frequent ones have means of their own.

    Returns:
        In [0, 1], NaN where there is nothing to average: `ap` (over IoU 0.5 to 0.95), `ap50`,
        `ap75`, `ap_small`, `ap_medium`, `ap_large`; of LVIS also `ap_rare`, `ap_common` and
        `ap_frequent`.

    Raises:
        MissingDependency: the library is not installed.
        EvitError: the file has no categories as the rules need them.
    """
    library = require("faster_coco_eval", extra="sam", why=_WHY)
    try:
        truth = library.COCO(str(annotations))
        found = truth.loadRes([dict(one) for one in results])
        task = library.COCOeval_faster(
            truth, found, iouType="segm", lvis_style=lvis, print_function=lambda *_: None
        )
        task.params.imgIds = sorted(image_ids)
        if lvis:
            task.params.maxDets = [LVIS_DETECTIONS]
        task.evaluate()
        task.accumulate()
        task.summarize()
    except KeyError as error:
        raise EvitError(
            f"{annotations} lacks {error}, which average precision is computed from",
            hint="LVIS needs the frequency of every category" if lvis else "",
        ) from error
    stats = task.stats_as_dict
    names = _LVIS_NAMES if lvis else _COCO_NAMES
    # The library writes -1 for what cannot be averaged.
    return {
        ours: float(stats[theirs]) if stats[theirs] >= 0 else float("nan")
        for theirs, ours in names.items()
    }
