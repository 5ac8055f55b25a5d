"""Comparing both halves of a SAM artifact together with their source: by the masks they draw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.export.verdict import Bar, Verdict, against
from evit_cli.export.verify import Tally, Verification
from evit_cli.inference.preprocess import ImageU8
from evit_cli.inference.sam_frame import FRAME_SIDE, LOW_SIDE, encoder_input, frame_hw
from evit_cli.runtime.sam import (
    LOWER_RIGHT,
    NEGATIVE,
    PADDING,
    POSITIVE,
    UPPER_LEFT,
    SamSession,
)
from evit_cli.types import NoProgress, Precision, Progress

Floats = npt.NDArray[np.float32]

IOU_BARS = {
    Precision.FP32: Bar(0.999, 0.99),
    Precision.FP16: Bar(0.99, 0.95),
    Precision.INT8: Bar(0.90, 0.75),
}
"""Mean IoU between the masks of the artifact and of its source, for the same prompts.

Of one mask of each prompt: the one of the three answers that the source thinks best."""

_POINTS = ((0.5, 0.5), (0.25, 0.3), (0.75, 0.7))
_TWO = ((0.5, 0.6), (0.1, 0.1))
"""On the object and beside it."""
_BOXES = ((0.25, 0.25, 0.75, 0.75), (0.05, 0.4, 0.5, 0.95))


@dataclass(frozen=True)
class PromptBatch:
    """Prompts of one kind in the frame: points_xy (P, N, 2) and labels (P, N), float32."""

    points_xy: Floats
    labels: Floats


def fixed_prompts(image_hw: tuple[int, int]) -> tuple[PromptBatch, ...]:
    """Three clicks, one with a second click beside the object, and two boxes, at set places."""
    size = np.array(frame_hw(image_hw)[::-1], np.float32)  # x, y
    origin = np.zeros((1, 2), np.float32)

    def batch(places: list[npt.NDArray[np.float32]], labels: tuple[int, ...]) -> PromptBatch:
        kinds = np.tile(np.array(labels, np.float32), (len(places), 1))
        return PromptBatch(np.stack(places).astype(np.float32), kinds)

    single = [np.concatenate([size * [point], origin]) for point in np.array(_POINTS, np.float32)]
    double = [np.concatenate([size * np.array(_TWO, np.float32), origin])]
    boxes = [size * np.array(box, np.float32).reshape(2, 2) for box in _BOXES]
    return (
        batch(single, (POSITIVE, PADDING)),
        batch(double, (POSITIVE, NEGATIVE, PADDING)),
        batch(boxes, (UPPER_LEFT, LOWER_RIGHT)),
    )


def verify_sam(
    artifact: SamSession,
    source: SamSession,
    images: Iterable[ImageU8],
    *,
    images_sha256: str = "",
    progress: Progress | None = None,
) -> Verification:
    """Run both on the same images and prompts, and judge by the masks.

    The second half gets what its own first half gives, as in use. In the result `cosine`, `max_abs`
    and `sqnr_db` are of the embeddings, `agreement` is the mean IoU of all four masks of each
    prompt, and `decided` that of the one that is shown, which decides.

    Args:
        artifact: what was made.
        source: what it was made from.
        images: (H, W, 3) uint8 RGB.
        images_sha256: of the set, for the record.
        progress: gets one step per image.

    Raises:
        EvitError: the artifact cannot run, or there is no image.
    """
    progress = progress or NoProgress()
    tally, ious, shown, count = Tally(), list[float](), list[float](), 0
    progress.start(None, "image")
    try:
        for image in images:
            given = encoder_input(image, source.input_side, source.info.preprocess.mean_rgb)
            found, expected = artifact.encode(given), source.encode(given)
            tally.add(found, expected)
            for each, best in _compared(artifact, source, (found, expected), image.shape[:2]):
                ious.extend(each)
                shown.append(best)
            count += 1
            progress.advance(1)
    finally:
        progress.close()
    if count == 0:
        raise EvitError("there is no image to compare the artifact on")
    finite = tally.finite and all(math.isfinite(iou) for iou in ious)
    agreement, decided = (float(np.mean(values)) if finite else 0.0 for values in (ious, shown))
    verdict, reason = Verdict.FAIL, "the artifact gives NaN or infinity"
    if finite:
        said = f"its masks have a mean IoU of {decided:.4f} with those of its source"
        verdict, reason = against(IOU_BARS[artifact.precision], decided, said, ".3f")
    return Verification(
        verdict=verdict,
        reason=reason,
        images=count,
        images_sha256=images_sha256,
        cosine=tally.cosine if finite else 0.0,
        max_abs=tally.max_abs if finite else math.inf,
        sqnr_db=tally.sqnr_db if finite else 0.0,
        agreement=agreement,
        decided=decided,
        runtime=artifact.backend.value,
    )


def _compared(
    artifact: SamSession,
    source: SamSession,
    embeddings: tuple[Floats, Floats],
    image_hw: tuple[int, int],
) -> Iterator[tuple[list[float], float]]:
    """For each prompt: the IoU of each mask, and of the one that the source would show.

    NaN where the artifact's logits are not finite.
    """
    rows, columns = (-(-side * LOW_SIDE // FRAME_SIDE) for side in frame_hw(image_hw))
    for prompts in fixed_prompts(image_hw):
        logits, _ = artifact.decode(embeddings[0], prompts.points_xy, prompts.labels)
        wanted, scores = source.decode(embeddings[1], prompts.points_xy, prompts.labels)
        for found, expected, score in zip(logits, wanted, scores, strict=True):
            pairs = zip(found[:, :rows, :columns], expected[:, :rows, :columns], strict=True)
            each = [mask_iou(a, b) for a, b in pairs]
            yield each, each[1 + int(score[1:].argmax())]


def mask_iou(found: Floats, expected: Floats) -> float:
    """IoU of two masks given as logits; 1 where both are empty, NaN where one is not finite."""
    if not np.isfinite(found).all():
        return math.nan
    a, b = found > 0, expected > 0
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0
