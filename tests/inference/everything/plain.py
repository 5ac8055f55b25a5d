"""Everything mode as plain loops over points, pixels and pairs, to compare with."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from evit_cli.inference.everything.options import GeneratorOptions
from evit_cli.inference.sam_frame import encoder_input, full_size, to_frame


def grid(n: int) -> list[tuple[float, float]]:
    """x, y as shares of the sides."""
    return [((2 * i + 1) / (2 * n), (2 * j + 1) / (2 * n)) for j in range(n) for i in range(n)]


def crop_boxes(height: int, width: int, layers: int, share: float) -> list[tuple[int, list[int]]]:
    """(layer, x0, y0, x1, y1)."""
    found = [(0, [0, 0, width, height])]
    for layer in range(1, layers + 1):
        n = 2**layer
        overlap = math.floor(share * min(height, width) * 2 / n)
        crop_w = math.ceil((width + overlap * (n - 1)) / n)
        crop_h = math.ceil((height + overlap * (n - 1)) / n)
        for i in range(n):
            for j in range(n):
                x0, y0 = i * (crop_w - overlap), j * (crop_h - overlap)
                box = [x0, y0, min(width, x0 + crop_w), min(height, y0 + crop_h)]
                if x0 < width and y0 < height:
                    found.append((layer, box))
    return found


def box_iou(a: Any, b: Any) -> float:
    """In float32, step by step; NaN for two boxes without area."""
    f = np.float32
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = [f(v) for v in a], [f(v) for v in b]
    w = max(f(0), min(ax1, bx1) - max(ax0, bx0))
    h = max(f(0), min(ay1, by1) - max(ay0, by0))
    shared = w * h
    joined = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    return float(shared / joined) if joined else math.nan


def nms(boxes: Any, scores: Any, max_iou: float) -> list[int]:
    """Every box against every one that was kept before it."""
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(not box_iou(boxes[i], boxes[j]) > max_iou for j in kept):
            kept.append(i)
    return kept


def is_cut_off(box: Any, crop: Any, height: int, width: int) -> bool:
    """Whether a side is near the crop's, which is not near the image's."""
    image = (0, 0, width, height)
    return any(
        abs(side - edge) <= 20 and abs(side - end) > 20
        for side, edge, end in zip(box, crop, image, strict=True)
    )


def flood(mask: np.ndarray) -> list[list[tuple[int, int]]]:
    """The pixels of each region that hangs together over sides and corners."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    regions = []
    while left:
        stack, region = [left.pop()], []
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            for near in [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    stack.append(near)
        regions.append(region)
    return regions


def clean(mask: np.ndarray, min_px: int) -> tuple[np.ndarray, bool]:
    """Holes first, then islands, and whether there was a small one; the largest island stays."""
    mask = mask.copy()
    changed = False
    for region in flood(~mask):
        if len(region) < min_px:
            changed = True
            for y, x in region:
                mask[y, x] = True
    islands = flood(mask)
    largest = max(islands, key=len, default=[])
    for region in islands:
        if len(region) < min_px:
            changed = True
            for y, x in region:
                mask[y, x] = region is largest
    return mask, changed


@dataclass
class Found:
    mask: np.ndarray
    box: list[int]
    iou: float
    stability: float
    point: tuple[float, float]
    crop: list[int]


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return (
        [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])] if len(rows) else [0] * 4
    )


def everything(session: Any, image: np.ndarray, options: GeneratorOptions) -> list[Found]:
    """The whole of it, one point at a time, all masks at full size."""
    height, width = image.shape[:2]
    parts = crop_boxes(height, width, options.crop_layers, options.crop_overlap_share)
    found: list[Found] = []
    for layer, crop in parts:
        n = int(options.points_per_side / options.crop_points_divisor**layer)
        here = [
            one
            for share_xy in grid(n)
            for one in _of_point(session, image, crop, share_xy, options)
        ]
        kept = nms([one.box for one in here], [one.iou for one in here], options.max_box_iou)
        found += [here[i] for i in kept]
    if len(parts) > 1:
        sizes = [(one.crop[2] - one.crop[0]) * (one.crop[3] - one.crop[1]) for one in found]
        boxes = [one.box for one in found]
        found = [found[i] for i in nms(boxes, [1 / n for n in sizes], options.max_crop_box_iou)]
    if options.min_region_px:
        new = [clean(one.mask, options.min_region_px) for one in found]
        scores = [float(not changed) for _, changed in new]
        for (mask, _), one in zip(new, found, strict=True):
            one.mask, one.box = mask, box_of(mask)
        max_iou = max(options.max_box_iou, options.max_crop_box_iou)
        found = [found[i] for i in nms([one.box for one in found], scores, max_iou)]
    return found


def _of_point(
    session: Any, image: np.ndarray, crop: list[int], share_xy: Any, options: GeneratorOptions
) -> list[Found]:
    height, width = image.shape[:2]
    x0, y0, x1, y1 = crop
    crop_hw = (y1 - y0, x1 - x0)
    mean_rgb = session.info.preprocess.mean_rgb
    square = encoder_input(image[y0:y1, x0:x1], session.input_side, mean_rgb)
    point = np.array(share_xy) * crop_hw[::-1]
    prompt = np.stack((to_frame(point, crop_hw), np.zeros(2, np.float32)))
    labels = np.array([[1, -1]], np.float32)
    low_res, ratings = session.decode(session.encode(square), prompt[None], labels, None)
    found = []
    logits = full_size(low_res[0], crop_hw)
    for k in (1, 2, 3):
        if options.min_predicted_iou and ratings[0, k] <= np.float32(options.min_predicted_iou):
            continue
        inner = (logits[k] > options.stability_offset).sum()
        outer = (logits[k] > -options.stability_offset).sum()
        stability = np.float32(inner) / np.float32(outer) if outer else math.nan
        if options.min_stability and not stability >= np.float32(options.min_stability):
            continue
        mask = np.zeros((height, width), np.bool_)
        mask[y0:y1, x0:x1] = logits[k] > 0
        box = box_of(mask) if mask.any() else [x0, y0, x0, y0]
        if not is_cut_off(box, crop, height, width):
            xy = (float(point[0] + x0), float(point[1] + y0))
            found.append(Found(mask, box, float(ratings[0, k]), float(stability), xy, crop))
    return found
