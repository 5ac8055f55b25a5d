"""Following objects through a video by re-prompting.

There is no memory and no motion model: each frame is asked for each object anew, with what the last
frame's mask says about it (its box, its inner-most point and its logits). What the answer must be
like for the object to count as seen is in `TrackOptions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from evit_cli.errors import UsageError
from evit_cli.inference.sam_clicks import depth
from evit_cli.inference.sam_frame import MASK_THRESHOLD, Floats
from evit_cli.inference.sam_objects import SamObject, answers, object_of
from evit_cli.inference.sam_predictor import Prompts, SamPredictor
from evit_cli.inference.sam_prompts import ObjectPrompt, check_inside
from evit_cli.media.frame import ImageU8
from evit_cli.metrics.mask_iou import mask_iou
from evit_cli.runtime.sam import POSITIVE

_PER_BIN = 8
"""Values of a colour that count as one."""
_BLUR = np.array([1, 2, 3, 2, 1]) / 9


@dataclass(frozen=True)
class TrackOptions:
    """When an object counts as seen.

    Attributes:
        min_score: the model must expect at least this IoU.
        min_overlap: IoU of the mask with the last one that was seen, at least.
        min_likeness: overlap of its colours' histograms with those of the last time, at least: a
            box finds something also where the object has gone.
        max_growth: the area may be at most this many times the last one, or its inverse.
        patience: for this many frames a lost object is looked for, where it was seen last.
        margin: the last box is enlarged by this share of its sides, for what moves.

    Raises:
        UsageError: a value is out of its range.
    """

    min_score: float = 0.5
    min_overlap: float = 0.3
    min_likeness: float = 0.6
    max_growth: float = 3.0
    patience: int = 30
    margin: float = 0.1

    def __post_init__(self) -> None:
        shares = (self.min_score, self.min_overlap, self.min_likeness)
        if not all(0 <= share <= 1 for share in shares):
            raise UsageError(f"score, overlap and likeness are from 0 to 1, got {shares}")
        if self.max_growth < 1 or self.patience < 0 or self.margin < 0:
            raise UsageError(
                f"growth is at least 1, patience and margin at least 0, got {self.max_growth}, "
                f"{self.patience} and {self.margin}"
            )


@dataclass
class _Track:
    """One object and what is remembered of it: the last time that it was seen."""

    seen: SamObject
    low_res: Floats
    colours: Floats
    missing: int = 0
    """Frames since then."""


class Tracker:
    """Follows the objects of a video's first frame through the frames that come after.

    Args:
        predictor: used by nobody else meanwhile.
        prompts: where the objects are in the first frame.
        options: when an object counts as seen.
    """

    def __init__(
        self,
        predictor: SamPredictor,
        prompts: Sequence[ObjectPrompt],
        options: TrackOptions | None = None,
    ) -> None:
        self._predictor, self._prompts = predictor, prompts
        self.options = options or TrackOptions()
        self._tracks: list[_Track] = []

    def __call__(self, image_rgb_u8: ImageU8) -> list[SamObject]:
        """The objects in the next frame, (H, W, 3); each has its number throughout.

        Of an object that is not seen, `lost` is set and the mask is empty.

        Raises:
            EvitError: a prompt is outside of the first frame.
        """
        if not self._tracks:
            check_inside(self._prompts, image_rgb_u8.shape[:2])
            self._predictor.set_image(image_rgb_u8, keep=False)
            return self._begin(image_rgb_u8)
        self._predictor.set_image(image_rgb_u8, keep=False)
        image_hw = self._predictor.embedding.image_hw
        now: dict[int, SamObject] = {}
        followed = [t for t in self._tracks if not t.missing and t.seen.area]
        sought = [t for t in self._tracks if 0 < t.missing <= self.options.patience and t.seen.area]
        for tracks, all_cues in ((followed, True), (sought, False)):
            if not tracks:
                continue
            prompts = self._reprompt(tracks, image_hw, all_cues=all_cues)
            low_res, iou = self._predictor.low_res(prompts)
            for track, three, scores in zip(tracks, low_res, iou, strict=True):
                found = self._judge(track, three, scores, image_rgb_u8)
                if found is not None:
                    now[found.number] = found
        return [self._conclude(track, now, image_hw) for track in self._tracks]

    def _begin(self, image_rgb_u8: ImageU8) -> list[SamObject]:
        low_res, iou = answers(self._predictor, self._prompts)
        image_hw = self._predictor.embedding.image_hw
        found = []
        for number, prompt in enumerate(self._prompts, 1):
            k = int(iou[number - 1].argmax())
            logits, score = low_res[number - 1, k], iou[number - 1, k]
            one = object_of(number, logits, score, image_hw, prompt=prompt, answer=k + 1)
            one = replace(one, lost=one.area == 0)
            colours = colours_of(one, image_rgb_u8)
            self._tracks.append(_Track(one, logits, colours, int(one.lost)))
            found.append(one)
        return found

    def _reprompt(
        self, tracks: Sequence[_Track], image_hw: tuple[int, int], *, all_cues: bool
    ) -> Prompts:
        """Prompts from the last masks: their boxes, and with `all_cues` points and logits too."""
        boxes = np.array([self._box(track.seen, image_hw) for track in tracks])
        if not all_cues:
            return Prompts(boxes_xyxy=boxes)
        return Prompts(
            np.array([[inner_point(track.seen)] for track in tracks]),
            np.full((len(tracks), 1), POSITIVE),
            boxes,
            np.stack([track.low_res for track in tracks]),
        )

    def _box(self, seen: SamObject, image_hw: tuple[int, int]) -> tuple[float, ...]:
        left, top, width, height = seen.box_xywh
        more_x, more_y = width * self.options.margin, height * self.options.margin
        return (
            max(0.0, left - more_x),
            max(0.0, top - more_y),
            min(float(image_hw[1]), left + width + more_x),
            min(float(image_hw[0]), top + height + more_y),
        )

    def _judge(
        self, track: _Track, low_res: Floats, scores: Floats, image_rgb_u8: ImageU8
    ) -> SamObject | None:
        """The answer that is most like the last mask, None if it is not the object."""
        before = track.low_res > MASK_THRESHOLD
        inside = low_res > MASK_THRESHOLD
        overlaps = mask_iou(inside, np.broadcast_to(before, inside.shape))
        k = int(np.argmax(overlaps * scores))
        if scores[k] < self.options.min_score or overlaps[k] < self.options.min_overlap:
            return None
        one = object_of(
            track.seen.number,
            low_res[k],
            scores[k],
            (image_rgb_u8.shape[0], image_rgb_u8.shape[1]),
            prompt=track.seen.prompt,
            answer=k + 1,
        )
        growth = one.area / track.seen.area
        if not 1 / self.options.max_growth <= growth <= self.options.max_growth:
            return None
        colours = colours_of(one, image_rgb_u8)
        if likeness(colours, track.colours) < self.options.min_likeness:
            return None
        track.low_res, track.colours = low_res[k], colours
        return one

    def _conclude(
        self, track: _Track, now: dict[int, SamObject], image_hw: tuple[int, int]
    ) -> SamObject:
        found = now.get(track.seen.number)
        if found is not None:
            track.seen, track.missing = found, 0
            return found
        track.missing += 1
        nothing = np.zeros((0, 0), np.bool_)
        return SamObject(
            track.seen.number,
            nothing,
            (0, 0),
            image_hw,
            score=0.0,
            stability=float("nan"),
            prompt=track.seen.prompt,
            lost=True,
        )


def inner_point(one: SamObject) -> tuple[float, float]:
    """The pixel of an object that is farthest from its border, (x, y)."""
    inside = depth(one.window)
    y, x = np.unravel_index(int(inside.argmax()), inside.shape)
    return float(x + one.offset_xy[0]), float(y + one.offset_xy[1])


def colours_of(one: SamObject, image_rgb_u8: ImageU8) -> Floats:
    """(3, 32) histograms of an object's red, green and blue, each with sum 1."""
    pixels = image_rgb_u8[one.place][one.window]
    counts = [np.bincount(pixels[:, c] // _PER_BIN, minlength=256 // _PER_BIN) for c in range(3)]
    # Blurred, so that a little more light is a little difference.
    blurred = [np.convolve(count, _BLUR, mode="same") for count in counts]
    total = np.maximum(np.sum(blurred, axis=1, keepdims=True), 1e-9)
    return np.asarray(np.array(blurred) / total, np.float32)


def likeness(first: Floats, second: Floats) -> float:
    """Overlap of histograms from `colours_of`, 0 to 1: that of the least alike of the three."""
    return float(np.minimum(first, second).sum(axis=1).min())
