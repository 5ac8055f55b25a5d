"""Objects that were found in an image, and finding them by prompts."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.data.rle import counts_of_mask, encode_counts, read_rle
from evit_cli.inference.everything.windows import stability
from evit_cli.inference.mask_generator import GeneratedMask
from evit_cli.inference.sam_frame import MASK_THRESHOLD, Floats, full_size
from evit_cli.inference.sam_predictor import SamPredictor
from evit_cli.inference.sam_prompts import ObjectPrompt, together

Mask = npt.NDArray[np.bool_]

STABILITY_OFFSET = 1.0
"""Published: how far above and below the threshold a stable mask stays the same."""
_TOGETHER = 64
"""Prompts whose answers, 0.8 MB each, are in memory at the same time."""
_GOLDEN = 0.618034
"""Steps of the hue by this share never come close to each other soon."""


@dataclass(frozen=True)
class SamObject:
    """One object in one image.

    Attributes:
        number: from 1 on, within its image or video.
        window: (h, w) bool, the mask cut to its box; (0, 0) where it is empty.
        offset_xy: where in the image the window's upper left pixel lies.
        image_hw: height and width of the image.
        score: what the model expects the mask's IoU to be.
        stability: IoU of the mask cut above and below the threshold; NaN where both are empty.
        prompt: what was asked, None if nobody asked.
        answer: 1 to 3, which of the model's three answers it is.
        lost: a followed object that is not seen in this frame.
    """

    number: int
    window: Mask
    offset_xy: tuple[int, int]
    image_hw: tuple[int, int]
    score: float
    stability: float
    prompt: ObjectPrompt | None = None
    answer: int | None = None
    lost: bool = False

    @property
    def area(self) -> int:
        """Pixels."""
        return int(np.count_nonzero(self.window))

    @property
    def box_xywh(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in pixels, as COCO has it; zeros where the mask is empty."""
        return (*self.offset_xy, self.window.shape[1], self.window.shape[0])

    @property
    def mask(self) -> Mask:
        """(H, W) bool over the whole image."""
        mask = np.zeros(self.image_hw, np.bool_)
        mask[self.place] = self.window
        return mask

    @property
    def place(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the window covers."""
        left, top, width, height = self.box_xywh
        return slice(top, top + height), slice(left, left + width)

    @property
    def id(self) -> str:
        """The name that its prompt has, "" for none."""
        return "" if self.prompt is None else self.prompt.id

    @property
    def color_rgb(self) -> tuple[int, int, int]:
        """A colour of its own, by its number."""
        red, green, blue = colorsys.hsv_to_rgb((self.number - 1) * _GOLDEN % 1, 0.85, 1.0)
        return round(red * 255), round(green * 255), round(blue * 255)

    def rle(self) -> dict[str, Any]:
        """COCO's compressed run lengths."""
        counts = counts_of_mask(self.window, self.image_hw, offset_xy=self.offset_xy)
        return {"size": list(self.image_hw), "counts": encode_counts(counts)}

    def row(self) -> dict[str, Any]:
        """What is told of it, as plain values; the mask is not among them."""
        row: dict[str, Any] = {"object": self.number}
        if self.id:
            row["id"] = self.id
        if self.answer is not None:
            row["answer"] = self.answer
        return row | {
            "bbox": list(self.box_xywh),
            "area": self.area,
            "score": round(self.score, 6),
            "stability": round(self.stability, 6) if np.isfinite(self.stability) else None,
        }


@dataclass(frozen=True)
class SamResult:
    """What was found in one image.

    Attributes:
        objects: in the order of their prompts; of everything mode, as the generator gives them.
        image_hw: height and width of the image.
        model_ms: time of encoder and decoder, masks included.
        notes: what the user should hear, such as that nothing was found.
    """

    objects: Sequence[SamObject]
    image_hw: tuple[int, int]
    model_ms: float
    notes: Sequence[str] = field(default=())


def cut(mask: Mask) -> tuple[Mask, tuple[int, int]]:
    """A mask cut to its box, and the box's upper left pixel; (0, 0) pixels of an empty one."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return np.zeros((0, 0), np.bool_), (0, 0)
    top, left = int(rows[0]), int(columns[0])
    window = mask[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return window.copy(), (left, top)  # not to keep the whole mask in memory


def object_of(
    number: int,
    low_res: Floats,
    score: float,
    image_hw: tuple[int, int],
    *,
    prompt: ObjectPrompt | None,
    answer: int | None = None,
) -> SamObject:
    """An object from the decoder's (256, 256) logits."""
    logits = full_size(low_res[None], image_hw)[0]
    window, offset_xy = cut(logits > MASK_THRESHOLD)
    stable = stability(logits, MASK_THRESHOLD, STABILITY_OFFSET)
    return SamObject(number, window, offset_xy, image_hw, float(score), stable, prompt, answer)


def answers(predictor: SamPredictor, prompts: Sequence[ObjectPrompt]) -> tuple[Floats, Floats]:
    """The model's three answers to each prompt on the predictor's image.

    Prompts of one kind are asked together.

    Returns:
        (P, 3, 256, 256) float32 logits and (P, 3) expected IoU.
    """
    low_res = np.empty((len(prompts), 3, 256, 256), np.float32)
    iou = np.empty((len(prompts), 3), np.float32)
    for kind in dict.fromkeys(prompt.kind for prompt in prompts):
        some = [n for n, prompt in enumerate(prompts) if prompt.kind == kind]
        low_res[some], iou[some] = predictor.low_res(together([prompts[n] for n in some]))
    return low_res, iou


def find_objects(
    predictor: SamPredictor, prompts: Sequence[ObjectPrompt], *, every_answer: bool = False
) -> list[SamObject]:
    """The objects that prompts mean, on the predictor's image.

    Args:
        predictor: holds the image.
        prompts: on the image.
        every_answer: all three answers of each, not just the one that the model trusts most.
    """
    image_hw = predictor.embedding.image_hw
    found: list[SamObject] = []
    for start in range(0, len(prompts), _TOGETHER):
        some = prompts[start : start + _TOGETHER]
        for prompt, three, scores in zip(some, *answers(predictor, some), strict=True):
            for k in range(3) if every_answer else [int(scores.argmax())]:
                number = len(found) + 1
                found.append(
                    object_of(number, three[k], scores[k], image_hw, prompt=prompt, answer=k + 1)
                )
    return found


def generated_objects(masks: Sequence[GeneratedMask], image_hw: tuple[int, int]) -> list[SamObject]:
    """What everything mode found."""
    found = []
    for number, one in enumerate(masks, 1):
        window, offset_xy = cut(read_rle(one.rle))
        found.append(
            SamObject(number, window, offset_xy, image_hw, one.predicted_iou, one.stability)
        )
    return found
