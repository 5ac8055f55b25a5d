"""Mean IoU that boxes alone give: filled, by OpenCV's GrabCut, and by models, on kept-out images.

    python -m benchmarks.sam_baselines --coco coco128/ [--models sam-b0,mine.safetensors]
    python -m benchmarks.sam_baselines --regions bsds_regions/ --images bsds400/ [--limit 50]

GrabCut starts from the box on the whole image and runs for five iterations. Everything outside of
the box is background to it; where the box holds the whole image, there is none to learn from, and
the box is taken.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.data.instances import Objects, open_instances, open_regions
from evit_cli.inference.evaluate import spread
from evit_cli.metrics.mask_iou import BANDS, BandedIou, mask_iou

Image, Mask = npt.NDArray[np.uint8], npt.NDArray[np.bool_]
Box = npt.NDArray[np.float32]

ITERATIONS = 5


def corners(box_xyxy: Box, size_hw: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in whole pixels of the image, at least one pixel large."""
    x0, y0, x1, y1 = np.rint(box_xyxy).astype(int)
    x0, y0 = min(max(x0, 0), size_hw[1] - 1), min(max(y0, 0), size_hw[0] - 1)
    return x0, y0, min(max(x1, x0 + 1), size_hw[1]), min(max(y1, y0 + 1), size_hw[0])


def filled_box(image_rgb_u8: Image, box_xyxy: Box) -> Mask:
    """(H, W): all of the box."""
    mask = np.zeros(image_rgb_u8.shape[:2], np.bool_)
    x0, y0, x1, y1 = corners(box_xyxy, mask.shape)
    mask[y0:y1, x0:x1] = True
    return mask


def grab_cut(image_rgb_u8: Image, box_xyxy: Box) -> Mask:
    """(H, W): what GrabCut (Rother et al. 2004) takes for the object in the box."""
    cv2.setRNGSeed(0)
    filled = filled_box(image_rgb_u8, box_xyxy)
    if filled.all():
        return filled
    x0, y0, x1, y1 = corners(box_xyxy, filled.shape)
    state, background, foreground = np.zeros(filled.shape, np.uint8), *np.zeros((2, 1, 65))
    rectangle = (x0, y0, x1 - x0, y1 - y0)
    how = cv2.GC_INIT_WITH_RECT
    bgr = np.ascontiguousarray(image_rgb_u8[..., ::-1])
    cv2.grabCut(bgr, state, rectangle, background, foreground, ITERATIONS, how)
    return (state == cv2.GC_FGD) | (state == cv2.GC_PR_FGD)


def measure(
    objects: Objects, cut: Callable[[Image, Box], Mask], limit: int | None
) -> tuple[BandedIou, float]:
    """The score over a set, and ms per object."""
    score, started = BandedIou(), time.perf_counter()
    for index in spread(range(len(objects)), limit):
        image, found = objects.read(index)
        for one in found:
            if one.area >= 1 and one.mask.any():
                score.update(float(mask_iou(cut(image, one.box_xyxy), one.mask)), one.area)
    return score, 1e3 * (time.perf_counter() - started) / max(int(score.counts.sum()), 1)


def model_row(name: str, objects: Objects, limit: int | None) -> dict[str, dict[str, float]]:
    """The same of a model, as `evit eval` measures it."""
    from evit_cli.inference.evaluate_sam import evaluate_sam
    from evit_cli.runtime.sam import open_sam

    file = Path(name)
    weights = file if file.suffix in (".safetensors", ".pt") else None
    session = open_sam(None if weights else name, weights=weights)
    try:
        found = evaluate_sam(session, objects, max_images=limit)
    finally:
        session.close()
    return {f"{name}, {prompt}": means for prompt, means in found.mean_iou.items()}


def show(title: str, rows: dict[str, dict[str, float]], counts: dict[str, int]) -> None:
    names = ("all", *BANDS)
    print(f"\n{title}: {', '.join(f'{counts[name]} {name}' for name in names)}")
    print(f"  {'mean IoU':28}" + "".join(f"{name:>9}" for name in names))
    for what, means in rows.items():
        cells = ("-" if math.isnan(means[name]) else f"{100 * means[name]:.1f}" for name in names)
        print(f"  {what:28}" + "".join(f"{cell:>9}" for cell in cells))


def compare(title: str, objects: Objects, options: argparse.Namespace) -> None:
    """One table."""
    rows: dict[str, dict[str, float]] = {}
    counts: dict[str, int] = {}
    for what, cut in (("filled box", filled_box), ("GrabCut, box", grab_cut)):
        score, ms = measure(objects, cut, options.limit)
        rows[f"{what} ({ms:.0f} ms)"] = {"all": score.mean, **score.band_means}
        counts = {"all": int(score.counts.sum())}
        counts |= dict(zip(BANDS, map(int, score.counts), strict=True))
    for name in options.models.split(",") if options.models else ():
        rows |= model_row(name, objects, options.limit)
    show(title, rows, counts)
    print(json.dumps({"set": title, "objects": counts, "mean_iou": rows}))


def main() -> None:
    """Measure the sets that were named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--coco", type=Path)
    parser.add_argument("--regions", type=Path)
    parser.add_argument("--images", type=Path)
    parser.add_argument("--models", default="", metavar="A,B")
    parser.add_argument("--limit", type=int, help="images of each set")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    cv2.setNumThreads(options.threads)
    if options.coco is not None:
        objects = open_instances("coco", options.coco, part="kept_out")
        compare(f"{options.coco.name}, kept out", objects, options)
    if options.regions is not None:
        regions = open_regions(options.regions, images=options.images, part="kept_out")
        compare(f"{options.regions.name}, kept out", regions, options)


if __name__ == "__main__":
    main()
