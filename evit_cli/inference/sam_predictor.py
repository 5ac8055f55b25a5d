"""Promptable segmentation of one image: encode it once, then ask with points, boxes and masks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.inference.sam_embedding import Embedding, EmbeddingCache, runtime_of
from evit_cli.inference.sam_frame import (
    LOW_SIDE,
    MASK_THRESHOLD,
    Floats,
    check_image,
    encoder_input,
    full_size,
    to_frame,
)
from evit_cli.media.frame import ImageU8
from evit_cli.runtime.sam import (
    LOWER_RIGHT,
    NEGATIVE,
    PADDING,
    POSITIVE,
    UPPER_LEFT,
    SamSession,
    open_sam,
)

__all__ = ["Embedding", "Masks", "Prompts", "SamPredictor"]

_TOGETHER = 64
"""Prompts per run of the decoder."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Prompts:
    """P prompts on one image, all of one kind. Pixels of the image, x before y.

    Attributes:
        points_xy: (P, N, 2), None for no points.
        labels: (P, N), 1 on the object and 0 beside it.
        boxes_xyxy: (P, 4) x0, y0, x1, y1, None for no boxes.
        mask_inputs: (P, 256, 256) logits of an earlier answer, None for none.

    Raises:
        ValueError: shapes do not fit together, there is neither a point nor a box, or a number is
            not finite.
    """

    points_xy: Array | None = None
    labels: Array | None = None
    boxes_xyxy: Array | None = None
    mask_inputs: Array | None = None

    def __post_init__(self) -> None:
        points, boxes, masks = self.points_xy, self.boxes_xyxy, self.mask_inputs
        if points is None and boxes is None:
            raise ValueError("a prompt needs a point or a box")
        _check_points(points, self.labels)
        if boxes is not None and (boxes.ndim != 2 or boxes.shape[1] != 4):
            raise ValueError(f"boxes must be (prompts, 4), got {boxes.shape}")
        if masks is not None and masks.shape[1:] != (LOW_SIDE, LOW_SIDE):
            raise ValueError(f"mask inputs must be (prompts, 256, 256), got {masks.shape}")
        given = [a for a in (points, boxes, masks) if a is not None]
        if len({len(a) for a in given}) != 1:
            raise ValueError(f"different numbers of prompts: {[len(a) for a in given]}")
        if not all(np.isfinite(a).all() for a in given):
            raise ValueError("a prompt holds numbers that are not finite")

    def __len__(self) -> int:
        given = self.boxes_xyxy if self.points_xy is None else self.points_xy
        return 0 if given is None else len(given)

    def check_inside(self, image_hw: tuple[int, int]) -> None:
        """Make sure that all prompts can mean something in an image.

        Raises:
            ValueError: a point is outside of it, or a box is reversed or wholly outside.
        """
        height, width = image_hw
        if self.points_xy is not None:
            outside = ((self.points_xy < 0) | (self.points_xy > (width, height))).any(axis=2)
            if outside.any():
                x, y = self.points_xy[outside][0].tolist()
                raise ValueError(
                    f"the point {x:g},{y:g} is outside of the image, which is {width} wide and "
                    f"{height} high"
                )
        for x0, y0, x1, y1 in () if self.boxes_xyxy is None else self.boxes_xyxy.tolist():
            box = f"the box {x0:g},{y0:g},{x1:g},{y1:g}"
            if x0 > x1 or y0 > y1:
                raise ValueError(f"{box} is reversed: write left, top, right, bottom")
            if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
                raise ValueError(
                    f"{box} is outside of the image, which is {width} wide and {height} high"
                )

    def in_frame(self, image_hw: tuple[int, int]) -> tuple[Floats, Floats]:
        """Points (P, M, 2) in the frame of 1024 and their labels (P, M), as the decoder wants them.

        A box is two points. A prompt without one ends in a padding point, as published.
        """
        points: list[Array] = []
        labels: list[Array] = []
        count = len(self)
        if self.points_xy is not None and self.labels is not None:
            points.append(to_frame(self.points_xy, image_hw))
            labels.append(self.labels)
        if self.boxes_xyxy is not None:
            points.append(to_frame(self.boxes_xyxy.reshape(count, 2, 2), image_hw))
            labels.append(np.tile((UPPER_LEFT, LOWER_RIGHT), (count, 1)))
        else:
            points.append(np.zeros((count, 1, 2)))
            labels.append(np.full((count, 1), PADDING))
        joined = np.concatenate(points, axis=1), np.concatenate(labels, axis=1)
        return joined[0].astype(np.float32), joined[1].astype(np.float32)


def _check_points(points: Array | None, labels: Array | None) -> None:
    if (points is None) != (labels is None):
        raise ValueError("points and labels belong together: give both or neither")
    if points is None or labels is None:
        return
    if points.ndim != 3 or points.shape[2] != 2 or points.shape[1] == 0:
        raise ValueError(f"points must be (prompts, points, 2), got {points.shape}")
    if labels.shape != points.shape[:2]:
        raise ValueError(f"labels of shape {labels.shape} for points of {points.shape}")
    if not np.isin(labels, (NEGATIVE, POSITIVE)).all():
        raise ValueError("a label is 1 (on the object) or 0 (beside it)")


@dataclass(frozen=True)
class Masks:
    """Answers to one prompt, or with a leading P to many.

    Attributes:
        masks: (K, H, W) bool at the image's size.
        iou: (K,) float32, what the model expects each mask's IoU to be.
        low_res: (K, 256, 256) float32 logits over the frame, which can be a later mask input.
    """

    masks: npt.NDArray[np.bool_]
    iou: Floats
    low_res: Floats


class SamPredictor:
    """Masks for prompts on one image after another.

    Args:
        session: the model.
        cache: embeddings of images seen before.

    Attributes:
        session: as given.
    """

    def __init__(self, session: SamSession, cache: EmbeddingCache | None = None) -> None:
        self.session = session
        self._cache = cache
        self._embedding: Embedding | None = None

    @classmethod
    def load(cls, model: str | None, *, weights: Path | None = None) -> SamPredictor:
        """A predictor for a catalog name, a file or an hf:// address."""
        return cls(open_sam(model, weights=weights))

    @cached_property
    def _runtime(self) -> str:
        # Reading the whole file of an artifact is worth it only for embeddings that are kept.
        return runtime_of(self.session, by_file=self._cache is not None)

    @property
    def notes(self) -> list[str]:
        """What was wrong with the cache, each thing once."""
        return [] if self._cache is None else self._cache.notes

    @property
    def embedding(self) -> Embedding:
        """Of the image that was set last.

        Raises:
            ValueError: none was set.
        """
        if self._embedding is None:
            raise ValueError("no image was set: call set_image or set_embedding first")
        return self._embedding

    @property
    def caches(self) -> bool:
        """Whether embeddings are kept."""
        return self._cache is not None

    def set_image(self, image_rgb_u8: ImageU8, *, keep: bool = True) -> None:
        """Encode an image; the prompts that follow are for it.

        Args:
            image_rgb_u8: (H, W, 3).
            keep: use the cache, if there is one; not for images that do not come again.

        Raises:
            ValueError: the array is not such an image.
            EvitError: the runtime failed.
        """
        check_image(image_rgb_u8)
        session = self.session
        info = session.info

        def encode() -> Floats:
            mean = info.preprocess.mean_rgb
            return session.encode(encoder_input(image_rgb_u8, session.input_side, mean))

        if keep and self._cache is not None:
            shape = tuple(session.embedding_shape)
            self._embedding = self._cache.get(image_rgb_u8, info, self._runtime, shape, encode)
            return
        height, width = image_rgb_u8.shape[:2]
        self._embedding = Embedding(
            encode(), (height, width), info.name, info.sha256, runtime=self._runtime
        )

    def set_embedding(self, embedding: Embedding) -> None:
        """Take an embedding that this model made before.

        Raises:
            ValueError: another model made it.
        """
        info, shape = self.session.info, tuple(self.session.embedding_shape)
        if (embedding.model, embedding.weights_sha256) != (info.name, info.sha256):
            raise ValueError(
                f"the embedding is by {embedding.model} {embedding.weights_sha256[:12]}, "
                f"not by {info.name} {info.sha256[:12]}"
            )
        if embedding.values.shape != shape:
            raise ValueError(f"an embedding must be {shape}, got {embedding.values.shape}")
        self._embedding = embedding

    def predict(
        self,
        points_xy: Array | None = None,
        labels: Array | None = None,
        *,
        box_xyxy: Array | None = None,
        mask_input: Array | None = None,
        multimask: bool = True,
    ) -> Masks:
        """Masks for one prompt.

        Args:
            points_xy: (N, 2) pixels of the image.
            labels: (N,) 1 on the object, 0 beside it.
            box_xyxy: (4,) pixels of the image.
            mask_input: (256, 256) logits, one of an earlier answer's `low_res`.
            multimask: three answers for an ambiguous prompt, one otherwise.

        Raises:
            ValueError: shapes are wrong, or the prompt is not on the image.
        """
        one = [
            None if a is None else np.asarray(a)[None]
            for a in (points_xy, labels, box_xyxy, mask_input)
        ]
        found = self.predict_batch(Prompts(*one), multimask=multimask)
        return Masks(found.masks[0], found.iou[0], found.low_res[0])

    def predict_batch(self, prompts: Prompts, *, multimask: bool = True) -> Masks:
        """Masks for P prompts: those of `predict` with a leading P.

        They take P x K x H x W bytes; `low_res` gives less for many prompts on a large image.

        Raises:
            ValueError: a prompt is not on the image.
        """
        low_res, iou = self.low_res(prompts, multimask=multimask)
        image_hw = self.embedding.image_hw
        masks = np.empty((*low_res.shape[:2], *image_hw), np.bool_)
        for place, logits in zip(masks, low_res, strict=True):
            for k in range(len(logits)):  # one by one: the logits of all would be four times more
                place[k] = full_size(logits[k : k + 1], image_hw)[0] > MASK_THRESHOLD
        return Masks(masks, iou, low_res)

    def low_res(self, prompts: Prompts, *, multimask: bool = True) -> tuple[Floats, Floats]:
        """The decoder's answers for P prompts as they are.

        Returns:
            (P, K, 256, 256) float32 logits over the frame, and (P, K) expected IoU. K is 3 with
            `multimask`, else 1.

        Raises:
            ValueError: a prompt is not on the image.
            EvitError: the runtime failed, or gave NaN.
        """
        embedding = self.embedding
        prompts.check_inside(embedding.image_hw)
        points, labels = prompts.in_frame(embedding.image_hw)
        inputs = prompts.mask_inputs
        if inputs is not None:
            inputs = np.asarray(inputs, np.float32)[:, None]
        tokens = slice(1, None) if multimask else slice(0, 1)
        side = (LOW_SIDE, LOW_SIDE)
        masks = np.empty((len(prompts), 3 if multimask else 1, *side), np.float32)
        iou = np.empty(masks.shape[:2], np.float32)
        for start in range(0, len(prompts), _TOGETHER):
            some = slice(start, start + _TOGETHER)
            given = None if inputs is None else inputs[some]
            found = self.session.decode(embedding.values, points[some], labels[some], given)
            masks[some], iou[some] = found[0][:, tokens], found[1][:, tokens]
        if not (np.isfinite(iou).all() and np.isfinite(masks).all()):
            raise EvitError(
                f"{self.session.info.name} gave NaN or infinity on {self.session.backend.value}",
                hint="use --precision fp32, and report the model and the device",
            )
        return masks, iou
