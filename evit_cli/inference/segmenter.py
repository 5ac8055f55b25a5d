"""Semantic segmentation of images: numpy in, numpy out, over any `Session`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError
from evit_cli.inference.class_map import class_map
from evit_cli.inference.preprocess import ImageU8, Placement, fit, place
from evit_cli.runtime.open import open_session
from evit_cli.runtime.session import Session
from evit_cli.types import ClassSet, ImageSize, Task

LARGEST_STRETCH = 1.4
"""Measured with seg-b0-street on CamVid val: 480x360 frames stretched to 544x960 give mIoU 0.717,
padded to it 0.665 (the attention sees the padding), and 0.698 unstretched at 736x960."""


@dataclass(frozen=True)
class Segmentation:
    """The result for one image.

    Attributes:
        class_map: (H, W) class index per pixel, at the image's own size.
        shares: share of the pixels per class, in [0, 1], summing to 1.
        input_hw: the size the model ran at.
        model_ms: time of the model alone, milliseconds.
    """

    class_map: npt.NDArray[np.unsignedinteger[Any]]
    shares: npt.NDArray[np.float64]
    input_hw: ImageSize
    model_ms: float


def class_shares(labels: npt.NDArray[Any], num_classes: int) -> npt.NDArray[np.float64]:
    """Share of the pixels of each class: (H, W) labels -> (num_classes,) in [0, 1]."""
    if labels.dtype == np.uint8:  # OpenCV's histogram is ten times faster than bincount
        counts = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()[:num_classes]
    else:
        counts = np.bincount(labels.ravel(), minlength=num_classes)
    return np.asarray(counts, dtype=np.float64) / max(labels.size, 1)


def _fixed_size(session: Session) -> ImageSize | None:
    """The only input size of an artifact, None where it is free."""
    _, height, width, _ = session.inputs[0].shape
    return None if height is None or width is None else ImageSize(height, width)


class Segmenter:
    """Gives every pixel of an image a class.

    Args:
        session: a segmentation model.
        size_hw: fit images into this size; by default they keep theirs within the model's range
            (`evit_cli.inference.preprocess.place`).

    Raises:
        EvitError: the session's model does something else.
    """

    def __init__(self, session: Session, *, size_hw: ImageSize | None = None) -> None:
        if session.info.task is not Task.SEGMENT or session.info.classes is None:
            raise EvitError(
                f"{session.info.name} is a {session.info.task.value} model, not for segmentation",
                hint="`evit models ls --task segment` lists the ones that are",
            )
        self.session = session
        self.fixed_hw = _fixed_size(session)
        if size_hw is not None and self.fixed_hw not in (None, size_hw):
            raise UsageError(
                f"{session.info.name} runs at {self.fixed_hw} only on {session.backend.value}",
                hint="leave --size away, or use --backend torch",
            )
        self.size_hw = self.fixed_hw or size_hw
        self.range_hw: tuple[ImageSize, ImageSize] | None = getattr(session, "range_hw", None)
        self.classes: ClassSet = session.info.classes

    @classmethod
    def load(
        cls, model: str | None, *, weights: Path | None = None, size_hw: ImageSize | None = None
    ) -> Segmenter:
        """A segmenter for a catalog name, a file or an hf:// address."""
        session = open_session(model, weights=weights, size_hw=size_hw)
        return cls(session, size_hw=size_hw)

    def __call__(self, image_rgb_u8: ImageU8) -> Segmentation:
        """Segment one image.

        Args:
            image_rgb_u8: (H, W, 3) uint8 RGB.

        Returns:
            The class map at the image's size, and what it took.

        Raises:
            ValueError: the array is not such an image.
        """
        if image_rgb_u8.ndim != 3 or image_rgb_u8.shape[2] != 3 or image_rgb_u8.size == 0:
            raise ValueError(f"an image must be (H, W, 3), got shape {image_rgb_u8.shape}")
        return self.segment_at(image_rgb_u8, self.placement(ImageSize(*image_rgb_u8.shape[:2])))

    def placement(self, image_hw: ImageSize) -> Placement:
        """Where an image of that size lies in the model's input.

        Its aspect is kept, except in an artifact with one input size: there the image is stretched
        by up to `LARGEST_STRETCH` before any of the input is left to padding.
        """
        placed = place(image_hw, self.session.info.preprocess, size_hw=self.size_hw)
        if self.range_hw is not None:
            return self._within(placed, *self.range_hw)
        if self.fixed_hw is None:
            return placed
        sides = zip(placed.content_hw, self.fixed_hw, strict=True)
        content = (min(limit, round(side * LARGEST_STRETCH)) for side, limit in sides)
        return replace(placed, content_hw=ImageSize(*content), canvas_hw=self.fixed_hw)

    def _within(self, placed: Placement, smallest: ImageSize, largest: ImageSize) -> Placement:
        """The same picture in an input that an artifact with free sizes takes."""
        if any(a > b for a, b in zip(placed.canvas_hw, largest, strict=True)):
            placed = place(placed.image_hw, self.session.info.preprocess, size_hw=largest)
        sides = zip(placed.canvas_hw, smallest, largest, strict=True)
        canvas = ImageSize(*(min(max(side, low), high) for side, low, high in sides))
        return replace(placed, canvas_hw=canvas)

    def segment_at(
        self, image_rgb_u8: ImageU8, placement: Placement, *, antialias: bool = True
    ) -> Segmentation:
        """Segment one (H, W, 3) image laid into the model's input as `placement` says.

        `antialias` False resizes by the model's interpolation only, as the published evaluation.
        """
        method = self.session.info.preprocess.interpolation
        height, width = image_rgb_u8.shape[:2]
        canvas = fit(image_rgb_u8, placement, interpolation=method, antialias=antialias)
        started = time.perf_counter()
        logits = self.session.run({"image": canvas[None]})["logits"][0]
        model_ms = (time.perf_counter() - started) * 1e3
        if not np.isfinite(logits).all():
            backend = self.session.backend.value
            raise EvitError(
                f"{self.session.info.name} gave NaN or infinity on the {backend} backend",
                hint="use --precision fp32, and report the model and the device",
            )
        rows, columns = logits.shape[-2:]
        step_y = placement.content_hw.height * rows / placement.canvas_hw.height / height
        step_x = placement.content_hw.width * columns / placement.canvas_hw.width / width
        labels = class_map(logits, (height, width), step_yx=(step_y, step_x))
        shares = class_shares(labels, len(self.classes))
        return Segmentation(labels, shares, placement.canvas_hw, model_ms)
