"""Image classification: numpy in, the most likely classes out, over any `Session`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evit_cli.errors import EvitError
from evit_cli.inference.preprocess import ImageU8, resize_short_and_crop
from evit_cli.runtime.open import open_session
from evit_cli.runtime.session import Session
from evit_cli.types import ClassSet, Task


@dataclass(frozen=True)
class Prediction:
    """One class and its probability (softmax over all classes, in [0, 1])."""

    index: int
    name: str
    probability: float


@dataclass(frozen=True)
class Classification:
    """The most likely classes of one image, best first, and the model's time in milliseconds."""

    top: tuple[Prediction, ...]
    model_ms: float


class ImageClassifier:
    """Names what an image shows.

    Args:
        session: a classification model.

    Raises:
        EvitError: the session's model does something else.
    """

    def __init__(self, session: Session) -> None:
        if session.info.task is not Task.CLASSIFY or session.info.classes is None:
            raise EvitError(
                f"{session.info.name} is a {session.info.task.value} model, not a classifier",
                hint="`evit models ls --task classify` lists the ones that are",
            )
        self.session = session
        self.classes: ClassSet = session.info.classes

    @classmethod
    def load(cls, model: str | None, *, weights: Path | None = None) -> ImageClassifier:
        """A classifier for a catalog name, a file or an hf:// address."""
        return cls(open_session(model, weights=weights))

    def __call__(self, image_rgb_u8: ImageU8, *, topk: int = 5) -> Classification:
        """Classify one (H, W, 3) uint8 RGB image by the published single-crop protocol.

        Raises:
            ValueError: the array is not such an image, or `topk` is not positive.
        """
        if image_rgb_u8.ndim != 3 or image_rgb_u8.shape[2] != 3 or image_rgb_u8.size == 0:
            raise ValueError(f"an image must be (H, W, 3), got shape {image_rgb_u8.shape}")
        if topk < 1:
            raise ValueError(f"topk must be at least 1, got {topk}")
        crop = resize_short_and_crop(image_rgb_u8, self.session.info.preprocess)
        started = time.perf_counter()
        logits = self.session.run({"image": crop[None]})["logits"][0].astype(np.float64)
        model_ms = (time.perf_counter() - started) * 1e3
        exp = np.exp(logits - logits.max())
        probabilities = exp / exp.sum()
        order = np.argsort(-probabilities)[:topk]
        top = tuple(
            Prediction(int(i), self.classes.classes[i], float(probabilities[i])) for i in order
        )
        return Classification(top, model_ms)
