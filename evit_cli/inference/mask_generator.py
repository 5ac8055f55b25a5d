"""Everything mode: all masks of an image, without a prompt.

The algorithm is that of segment-anything's `SamAutomaticMaskGenerator` (section 5 of "Segment
Anything", https://arxiv.org/abs/2304.02643): a grid of points, three masks for each, and what is
doubtful, unstable, cut off or there twice is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.data.rle import counts_of_mask, encode_counts, read_rle
from evit_cli.errors import EvitError
from evit_cli.inference.everything.boxes import cut_off
from evit_cli.inference.everything.candidates import (
    Candidate,
    box_of,
    cleaned,
    distinct,
    distinct_across_crops,
)
from evit_cli.inference.everything.grid import Crop, crops, point_grid
from evit_cli.inference.everything.options import GeneratorOptions
from evit_cli.inference.everything.windows import Enlarger, Logits, stability
from evit_cli.inference.sam_frame import MASK_THRESHOLD, encoder_input, to_frame
from evit_cli.media.frame import ImageU8
from evit_cli.runtime.sam import SamSession
from evit_cli.types import NoProgress, Progress

_MASKS_PER_POINT = slice(1, 4)
"""Of the decoder's four masks, those for a prompt that may mean several things."""
_PADDING, _INSIDE = -1.0, 1.0

__all__ = ["Generated", "GeneratedMask", "GeneratorOptions", "MaskGenerator", "StageCounts"]


@dataclass(frozen=True)
class GeneratedMask:
    """One mask of an image.

    Attributes:
        rle: {"size": [H, W], "counts": string}, COCO's compressed run lengths.
        box_xyxy: its outermost pixels; x1 and y1 are the last ones inside.
        area: pixels.
        predicted_iou: the model's own rating.
        stability: IoU of the mask cut above and below the threshold.
        point_xy: the prompt that gave it, pixels of the image.
        crop_box_xyxy: the part of the image it was found in, ends not inside.
    """

    rle: dict[str, Any]
    box_xyxy: tuple[float, float, float, float]
    area: int
    predicted_iou: float
    stability: float
    point_xy: tuple[float, float]
    crop_box_xyxy: tuple[int, int, int, int]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool, unpacked at each call."""
        return read_rle(self.rle)


@dataclass
class StageCounts:
    """How many masks each stage left.

    Attributes:
        points: prompts.
        predicted: masks that the model gave, three per point.
        rated: with a predicted IoU above the limit.
        stable: with enough stability.
        whole: not cut off by a crop's edge.
        distinct: after dropping duplicates within each crop.
        across_crops: after dropping duplicates between crops.
        kept: after the clean-up of small regions: the result.
    """

    points: int = 0
    predicted: int = 0
    rated: int = 0
    stable: int = 0
    whole: int = 0
    distinct: int = 0
    across_crops: int = 0
    kept: int = 0

    def emptied_by(self) -> str:
        """The first stage that left nothing, "" if masks were kept."""
        return next((one.name for one in fields(self) if not getattr(self, one.name)), "")


@dataclass(frozen=True)
class Generated:
    """What was found in an image.

    Attributes:
        masks: with one crop best rated first; with more, those of small crops first; after a
            clean-up, those first that needed none.
        counts: how many were left by each stage.
    """

    masks: tuple[GeneratedMask, ...]
    counts: StageCounts


class MaskGenerator:
    """Finds all masks of an image.

    Only the masks of one batch of points exist at full size at any time, one by one; all others are
    kept as run lengths.

    Args:
        session: a SAM model.
        options: how to look.

    Example:
        generator = MaskGenerator(open_sam("sam-l0"), GeneratorOptions(min_region_px=100))
        for found in generator.generate(image).masks:
            print(found.area, found.box_xyxy)
    """

    def __init__(self, session: SamSession, options: GeneratorOptions | None = None) -> None:
        self.session = session
        self.options = options or GeneratorOptions()

    def generate(self, image_rgb_u8: ImageU8, *, progress: Progress | None = None) -> Generated:
        """All masks of an image.

        Args:
            image_rgb_u8: (H, W, 3).
            progress: gets one step per point.

        Raises:
            EvitError: the model gives NaN or infinity.
            ValueError: it is not such an image.
        """
        options, progress = self.options, progress or NoProgress()
        image_hw = (image_rgb_u8.shape[0], image_rgb_u8.shape[1])
        parts = crops(image_hw, options.crop_layers, options.crop_overlap_share)
        counts, found = StageCounts(), list[Candidate]()
        progress.start(sum(options.points_on_layer(part.layer) ** 2 for part in parts), "point")
        try:
            for part in parts:
                here = list(self._in_crop(image_rgb_u8, part, counts, progress))
                found += distinct(here, options.max_box_iou)
        finally:
            progress.close()
        counts.distinct = len(found)
        if len(parts) > 1:
            found = distinct_across_crops(found, options.max_crop_box_iou)
        counts.across_crops = len(found)
        if options.min_region_px:
            max_iou = max(options.max_box_iou, options.max_crop_box_iou)
            found = cleaned(found, image_hw, min_px=options.min_region_px, max_iou=max_iou)
        counts.kept = len(found)
        return Generated(tuple(_result(one, image_hw) for one in found), counts)

    def _in_crop(
        self, image_rgb_u8: ImageU8, crop: Crop, counts: StageCounts, progress: Progress
    ) -> Iterator[Candidate]:
        """Masks of one crop that pass the stages which look at one mask alone."""
        left, top, right, bottom = crop.box_xyxy
        mean_rgb, side = self.session.info.preprocess.mean_rgb, self.session.input_side
        square = encoder_input(image_rgb_u8[top:bottom, left:right], side, mean_rgb)
        embedding = self.session.encode(square)
        sift = _Sift(self.options, crop, image_rgb_u8.shape[:2], counts)
        points = point_grid(self.options.points_on_layer(crop.layer), crop.size_hw)
        for start in range(0, len(points), self.options.points_per_batch):
            batch = points[start : start + self.options.points_per_batch]
            low_res, iou = self._predict(embedding, batch, crop.size_hw)
            for point_xy, masks, ratings in zip(batch, low_res, iou, strict=True):
                yield from sift.masks_of(point_xy, masks, ratings)
            progress.advance(len(batch), masks=counts.whole)

    def _predict(
        self, embedding: Logits, points_xy: npt.NDArray[np.float64], size_hw: tuple[int, int]
    ) -> tuple[Logits, Logits]:
        """(P, 3, 256, 256) logits and their (P, 3) ratings for P points on their own."""
        prompts = np.zeros((len(points_xy), 2, 2), np.float32)
        prompts[:, 0] = to_frame(points_xy, size_hw)
        labels = np.full((len(points_xy), 2), (_INSIDE, _PADDING), np.float32)
        low_res, iou = self.session.decode(embedding, prompts, labels, None)
        low_res, iou = low_res[:, _MASKS_PER_POINT], iou[:, _MASKS_PER_POINT]
        # Of the logits only those that will be looked at; a sum is as finite as its terms.
        with np.errstate(invalid="ignore"):
            sums = low_res.sum(axis=(2, 3))[iou > self.options.min_predicted_iou]
        if not (np.isfinite(iou).all() and np.isfinite(sums).all()):
            raise EvitError(
                f"{self.session.info.name} gave NaN or infinity on {self.session.backend.value}",
                hint="use --precision fp32, and report the model and the device",
            )
        return low_res, iou


class _Sift:
    """The stages that look at one mask alone, for the masks of one crop."""

    def __init__(
        self,
        options: GeneratorOptions,
        crop: Crop,
        image_hw: tuple[int, int],
        counts: StageCounts,
    ) -> None:
        self._options, self._crop, self._counts = options, crop, counts
        self._image_hw = image_hw
        self._enlarger = Enlarger(crop.size_hw)
        # In float32, as the ratings are.
        self._least_rating = np.float32(options.min_predicted_iou)
        self._least_stability = np.float32(options.min_stability)

    def masks_of(
        self, point_xy: npt.NDArray[np.float64], low_res: Logits, ratings: Logits
    ) -> Iterator[Candidate]:
        """Those of a point's (3, 256, 256) masks that pass."""
        self._counts.points += 1
        self._counts.predicted += len(low_res)
        for logits, rating in zip(low_res, ratings, strict=True):
            # The rating costs nothing, so no mask is enlarged before.
            if self._least_rating and not rating > self._least_rating:
                continue
            self._counts.rated += 1
            one = self._judge(point_xy, logits, float(rating))
            if one is not None:
                yield one

    def _judge(
        self, point_xy: npt.NDArray[np.float64], low_res: Logits, rating: float
    ) -> Candidate | None:
        """The mask of (256, 256) logits, None if it is unstable or cut off."""
        offset, (left, top, _, _) = self._options.stability_offset, self._crop.box_xyxy
        window = self._enlarger.window(low_res, MASK_THRESHOLD - offset)
        stable = stability(window.logits, MASK_THRESHOLD, offset)
        if self._least_stability and not stable >= self._least_stability:
            return None
        self._counts.stable += 1
        mask = window.logits > MASK_THRESHOLD
        box = box_of(mask)
        if box is None:
            mask, box_xyxy = mask[:1, :1], (left, top, left, top)
        else:
            mask = mask[box[1] : box[3] + 1, box[0] : box[2] + 1]
            x, y = left + window.left, top + window.top
            box_xyxy = (box[0] + x, box[1] + y, box[2] + x, box[3] + y)
        if cut_off(box_xyxy, self._crop.box_xyxy, self._image_hw):
            return None
        self._counts.whole += 1
        return Candidate(
            counts=counts_of_mask(mask, self._image_hw, offset_xy=box_xyxy[:2]),
            box_xyxy=box_xyxy,
            area=int(np.count_nonzero(mask)),
            predicted_iou=rating,
            stability=stable,
            point_xy=(float(point_xy[0]) + left, float(point_xy[1]) + top),
            crop=self._crop,
        )


def _result(one: Candidate, image_hw: tuple[int, int]) -> GeneratedMask:
    x0, y0, x1, y1 = one.box_xyxy
    return GeneratedMask(
        rle={"size": list(image_hw), "counts": encode_counts(one.counts)},
        box_xyxy=(float(x0), float(y0), float(x1), float(y1)),
        area=one.area,
        predicted_iou=one.predicted_iou,
        stability=one.stability,
        point_xy=one.point_xy,
        crop_box_xyxy=one.crop.box_xyxy,
    )
