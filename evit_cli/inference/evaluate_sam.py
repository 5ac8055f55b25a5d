"""How well a promptable model cuts out known objects: by box and by clicks, over any backend.

Of the three masks that a prompt gives, the one counts that the model expects to be best (the
published protocol; arXiv 2402.05008, tables 2 and 3).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from evit_cli.data.instances import Instance, Objects
from evit_cli.data.sample import ImageU8
from evit_cli.errors import UsageError, suggest
from evit_cli.inference.evaluate import Group, part_used, spread
from evit_cli.inference.sam_clicks import Clicker, Mask
from evit_cli.inference.sam_frame import MASK_THRESHOLD, encoder_input, full_size
from evit_cli.inference.sam_predictor import Prompts
from evit_cli.metrics.mask_iou import BandedIou, mask_iou
from evit_cli.runtime.sam import SamSession
from evit_cli.types import NoProgress, Progress

KINDS = ("box", "1", "3", "5")
"""What may be asked for: the object's box, or so many clicks."""

TOGETHER = 16
"""Prompts per run, and objects whose masks are in memory at the same time."""

_LEAST_AREA = 1.0
_FIXED = 1e9
"""Sums over processes are of integers."""
T = TypeVar("T")


@dataclass(frozen=True)
class SamScore:
    """The result on a set of objects.

    Attributes:
        mean_iou: per prompt ("box", "1", "3", "5"): {"all", "small", "medium", "large"} in
            [0, 1], NaN for bands without objects.
        objects: how many of each, likewise.
        left_out: objects of less than a pixel, which do not count.
        images: how many were used.
        seconds: wall time.
        protocol: what was done, in words.
    """

    mean_iou: dict[str, dict[str, float]]
    objects: dict[str, int]
    left_out: int
    images: int
    seconds: float
    protocol: str


def parse_prompts(names: Sequence[str]) -> tuple[str, ...]:
    """The prompts that `names` stand for, in the order of `KINDS`; "all" or none for all.

    Raises:
        UsageError: there is no such prompt.
    """
    for name in names:
        if name not in (*KINDS, "all"):
            raise UsageError(f"there is no prompt '{name}'", hint=suggest(name, (*KINDS, "all")))
    return tuple(one for one in KINDS if one in names or "all" in names or not names)


class EncodedImage:
    """An image that was encoded once, and whose best masks are asked for by many prompts.

    Args:
        session: the model.
        image_rgb_u8: (H, W, 3).
    """

    def __init__(self, session: SamSession, image_rgb_u8: ImageU8) -> None:
        self.session = session
        self.image_hw = (image_rgb_u8.shape[0], image_rgb_u8.shape[1])
        mean = session.info.preprocess.mean_rgb
        self.embedding = session.encode(encoder_input(image_rgb_u8, session.input_side, mean))

    def by_boxes(self, boxes_xyxy: npt.NDArray[np.floating[Any]]) -> Iterator[Mask]:
        """The (H, W) mask of each of (P, 4) boxes."""
        return self._best(Prompts(boxes_xyxy=boxes_xyxy))

    def by_clicks(
        self, points_xy: npt.NDArray[np.float32], labels: npt.NDArray[np.float32]
    ) -> Iterator[Mask]:
        """The (H, W) mask of each of P prompts of N clicks: (P, N, 2), (P, N)."""
        return self._best(Prompts(points_xy, labels))

    def _best(self, prompts: Prompts) -> Iterator[Mask]:
        points, labels = prompts.in_frame(self.image_hw)
        for start in range(0, len(points), TOGETHER):
            some = slice(start, start + TOGETHER)
            low_res, iou = self.session.decode(self.embedding, points[some], labels[some])
            # Token 0 is for prompts that leave no doubt; 1 to 3 are the three answers.
            chosen = 1 + iou[:, 1:].argmax(axis=1)
            for one, token in zip(low_res, chosen, strict=True):
                yield full_size(one[token][None], self.image_hw)[0] > MASK_THRESHOLD


def evaluate_sam(
    session: SamSession,
    objects: Objects,
    *,
    prompts: Sequence[str] = KINDS,
    max_images: int | None = None,
    group: Group | None = None,
    progress: Progress | None = None,
) -> SamScore:
    """Mean intersection over union of objects, by box and after some clicks.

    Args:
        session: the model.
        objects: images with objects, read one by one.
        prompts: of `KINDS`.
        max_images: use this many, spread over the whole set.
        group: processes that share the work; each gets the score of the whole.
        progress: gets one step per image.

    Raises:
        EvitError: a file cannot be read.
    """
    progress = progress or NoProgress()
    scores = {prompt: BandedIou() for prompt in prompts}
    clicks = sorted(int(one) for one in prompts if one != "box")
    items = spread(range(len(objects)), max_images)
    mine = items if group is None else group.share(items)
    left_out, started = 0, time.perf_counter()
    progress.start(len(mine), "image")
    try:
        for index in mine:
            image, found = objects.read(index)
            encoded = EncodedImage(session, image)
            for some in batched(found, TOGETHER):
                counted = [one for one in some if one.area >= _LEAST_AREA and one.mask.any()]
                left_out += len(some) - len(counted)
                if counted:
                    _measure(encoded, counted, clicks, scores)
            shown = next(iter(scores.values()))
            progress.advance(1, iou=shown.mean)
    finally:
        progress.close()
    if group is not None:
        left_out = _over_processes(group, list(scores.values()), left_out)
    return SamScore(
        mean_iou={name: {"all": one.mean, **one.band_means} for name, one in scores.items()},
        objects=_counts(next(iter(scores.values()))),
        left_out=left_out,
        images=len(items),
        seconds=time.perf_counter() - started,
        protocol="of three masks the one with the highest predicted IoU; clicks at the inner-most "
        "point of the largest error"
        + (f"; {objects.caveat}" if objects.caveat else "")
        + part_used(len(items), len(objects)),
    )


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, the last one shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


def _measure(
    encoded: EncodedImage,
    objects: Sequence[Instance],
    clicks: Sequence[int],
    scores: dict[str, BandedIou],
) -> None:
    """Add some objects of one image to the scores."""
    if "box" in scores:
        boxes = np.stack([one.box_xyxy for one in objects])
        for one, mask in zip(objects, encoded.by_boxes(boxes), strict=True):
            scores["box"].update(float(mask_iou(mask, one.mask)), one.area)
    if not clicks:
        return
    clickers = [Clicker(one.mask) for one in objects]
    found = [np.zeros_like(one.mask) for one in objects]
    for number in range(1, clicks[-1] + 1):
        _click_once(encoded, clickers, found)
        if number in clicks:
            for one, mask in zip(objects, found, strict=True):
                scores[str(number)].update(float(mask_iou(mask, one.mask)), one.area)


def _click_once(encoded: EncodedImage, clickers: Sequence[Clicker], found: list[Mask]) -> None:
    """One more click on each object; where nothing is wrong any more, the mask stays."""
    active = [i for i, clicker in enumerate(clickers) if clicker.add(found[i])]
    if not active:
        return
    points = np.stack([clickers[i].points_xy for i in active])
    labels = np.stack([clickers[i].labels for i in active])
    for i, mask in zip(active, encoded.by_clicks(points, labels), strict=True):
        found[i] = mask


def _counts(score: BandedIou) -> dict[str, int]:
    per_band = dict(zip(score.band_means, map(int, score.counts), strict=True))
    return {"all": int(score.counts.sum()), **per_band}


def _over_processes(group: Group, scores: Sequence[BandedIou], left_out: int) -> int:
    """Put the sums of all processes into the scores; returns how many objects were left out."""
    sums = np.concatenate([one.sums * _FIXED for one in scores]).round().astype(np.int64)
    counts = np.concatenate([one.counts for one in scores])
    total = group.total(np.concatenate([sums, counts, np.array([left_out], np.int64)]))
    for one, part, counted in zip(
        scores,
        np.split(total[: len(sums)], len(scores)),
        np.split(total[len(sums) : -1], len(scores)),
        strict=True,
    ):
        one.sums, one.counts = part / _FIXED, counted
    return int(total[-1])
