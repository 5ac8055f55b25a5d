"""The section of a recipe for promptable segmentation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from evit_cli.config.recipe_parts import Amount, ColorPart, Positive, Share
from evit_cli.config.strict import Strict


class MaskSetPart(Strict):
    """Images with masks of no class.

    Attributes:
        kind: their layout: "sa1b" (JPEG and JSON), "coco" (instances; crowds are left out), "bsds"
            (several people's region maps in .mat files) or "regions" (`images/` and `masks/`).
        folder: in the folder of the data.
        images: folder of the images, where it is another one ("bsds").
        part: "train" leaves 7 of every 32 images out, "kept_out" has these alone.
        weight: how often its images are seen, beside those of the other sets.
        area: masks whose share of the image is outside these limits are left out.
    """

    kind: Literal["sa1b", "coco", "bsds", "regions"]
    folder: str = "."
    images: str | None = None
    part: Literal["all", "train", "kept_out"] = "all"
    weight: Annotated[float, Field(gt=0)] = 1.0
    area: tuple[Share, Share] = (0.0, 1.0)


class SamPart(Strict):
    """Examples and loss of promptable segmentation; the defaults are what was published.

    Attributes:
        sets: what to learn from.
        val: what to measure on.
        sides: of the encoder's square in training, multiples of 32; of several, one is drawn per
            step. Empty is the model's own. Half of it costs about a fifth; good for a start.
        masks_per_image: masks of one example; where an image has fewer, some are there twice.
        scale: range of the longest side over the encoder's, drawn evenly in its logarithm.
        flip: probability of a mirror image.
        color: random colour changes.
        boxes: probability that an image's masks are prompted with boxes, else with points.
        box_noise: deviation of a corner as a share of the box's sides, at most 20 of 1024 pixels.
        most_points: from one to so many points are drawn, the same number for all masks.
        negatives: probability that a point, but for the first, is outside the mask and near it.
        multimask: probability that the best of the three masks learns, else it is the one of the
            single token; "both" teaches both from every prompt.
        rounds: each prompt is answered so many times; after each answer, a click is added where it
            is wrong.
        clicks: "random" clicks anywhere in what is wrong, "centre" in the middle of the largest
            wrong region.
        mask_prompts: probability that an answer is given back as a mask with the next click.
        points: the loss is taken at so many points of each mask.
        oversample: so many times the points are drawn, and the doubtful ones kept.
        doubtful: share of the points that are kept for doubt.
        bce: weight of the cross-entropy.
        dice: weight of the Dice loss.
        focal: exponent of the focal loss in place of the cross-entropy; 0 is plain.
        iou: weight of the error of the IoU that the model expects, squared.
        val_clicks: validation measures the IoU after so many clicks, beside that with boxes.
    """

    sets: tuple[MaskSetPart, ...] = ()
    val: MaskSetPart | None = None
    sides: tuple[Positive, ...] = ()
    masks_per_image: Positive = 64
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (1.0, 1.0)
    flip: Share = 0.5
    color: ColorPart = ColorPart()
    boxes: Share = 0.5
    box_noise: Share = 0.1
    most_points: Positive = 10
    negatives: Share = 0.0
    multimask: Share | Literal["both"] = 0.5
    rounds: Positive = 1
    clicks: Literal["random", "centre"] = "random"
    mask_prompts: Share = 0.0
    points: Positive = 112 * 112
    oversample: Positive = 3
    doubtful: Share = 0.75
    bce: Amount = 20.0
    dice: Amount = 1.0
    focal: Amount = 0.0
    iou: Amount = 0.0
    val_clicks: tuple[Positive, ...] = (1, 3, 5)

    @model_validator(mode="after")
    def _fits_the_strides(self) -> SamPart:
        for side in self.sides:
            if side % 32:
                raise ValueError(f"sides has {side}, which is no multiple of 32")
        return self
