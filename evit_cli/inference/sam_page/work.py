"""What the page lets a model do: encode images once, find masks, make files of them."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from evit_cli.data.rle import encode_rle
from evit_cli.errors import EvitError
from evit_cli.inference.preprocess import ImageU8
from evit_cli.inference.sam_frame import MASK_THRESHOLD, Floats, full_size
from evit_cli.inference.sam_page.asks import OpenAsk, PredictAsk, Prompt, SaveAsk
from evit_cli.inference.sam_page.files import PNG, Found, Mask, coco_document, cut_out, encoded
from evit_cli.inference.sam_predictor import Embedding, Prompts, SamPredictor
from evit_cli.media.images import ImageSource, read_image

KEPT_EMBEDDINGS = 4
"""4 MB each."""
LONGEST_SHOWN = 2048
"""Larger images are shown smaller, with their masks; files are made at full size."""
_JPEG_QUALITY = 92


def shown_hw(image_hw: tuple[int, int]) -> tuple[int, int]:
    """The size at which the page shows an image of that size."""
    scale = min(1.0, LONGEST_SHOWN / max(image_hw))
    height, width = (max(int(side * scale + 0.5), 1) for side in image_hw)
    return height, width


class PageWork:
    """One model and a list of images, shared by all tabs.

    Args:
        predictor: used by one request at a time.
        paths: the images.

    Attributes:
        names: of the images, no two the same.

    Raises:
        EvitError: there is no image.
    """

    def __init__(self, predictor: SamPredictor, paths: Sequence[Path]) -> None:
        if not paths:
            raise EvitError("there is no image to show", hint="name an image, or a folder of them")
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
        source = ImageSource(paths, name="page", root=Path(os.path.commonpath(folders)))
        self._paths, self.names = source.paths, source.names
        self._predictor = predictor
        self._kept: OrderedDict[int, Embedding] = OrderedDict()
        self._current: int | None = None
        self._lock = threading.Lock()
        self._closed = False

    def listing(self) -> dict[str, Any]:
        """The model and the names of the images."""
        session = self._predictor.session
        return {
            "model": session.info.name,
            "backend": session.backend.value,
            "precision": session.precision.value,
            "images": self.names,
        }

    def picture(self, index: int) -> bytes:
        """An image as a JPEG of at most `LONGEST_SHOWN` pixels a side.

        Raises:
            EvitError: there is no such image, or it cannot be read.
        """
        image = self._read(index)[0]
        height, width = shown_hw((image.shape[0], image.shape[1]))
        if image.shape[:2] != (height, width):
            image = np.asarray(
                cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        return encoded(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)

    def open(self, ask: OpenAsk) -> dict[str, Any]:
        """Encode an image; its sizes, and the time in milliseconds.

        Raises:
            EvitError: there is no such image, or it cannot be read.
        """
        started = time.perf_counter()
        with self._turn():
            image_hw = self._ready(ask.image)
        return {
            "name": self.names[ask.image],
            "size": list(image_hw),
            "shown": list(shown_hw(image_hw)),
            "ms": _since(started),
        }

    def predict(self, ask: PredictAsk) -> dict[str, Any]:
        """The three masks of a prompt at the shown size, as COCO run lengths with their IoU.

        Raises:
            EvitError: the image cannot be read, or the prompt lies outside of it.
        """
        started = time.perf_counter()
        with self._turn():
            size = shown_hw(self._ready(ask.image))
            logits, ious = self._answers(ask)
        # Straight to the shown size: of a large image that is several times faster.
        rows = [
            {**encode_rle(full_size(one[None], size)[0] > MASK_THRESHOLD), "iou": round(iou, 4)}
            for one, iou in zip(logits, ious, strict=True)
        ]
        return {"size": list(size), "masks": rows, "ms": _since(started)}

    def save(self, ask: SaveAsk) -> tuple[str, bytes]:
        """A file of objects at the image's own size: its media type and its bytes.

        Raises:
            EvitError: the image cannot be read, or a prompt lies outside of it.
        """
        if ask.what == "coco":
            document = coco_document(self.names[ask.image], self._found(ask))
            return "application/json", json.dumps(document, ensure_ascii=False).encode()
        union: Mask = functools.reduce(np.logical_or, (one.mask for one in self._found(ask)))
        if ask.what == "mask":
            return "image/png", encoded(".png", union.astype(np.uint8) * 255, PNG)
        return "image/png", encoded(".png", cut_out(*self._read(ask.image), union), PNG)

    def _found(self, ask: SaveAsk) -> Iterator[Found]:
        """The objects with their masks, one by one: all of them may not fit into memory."""
        for item in ask.objects:
            with self._turn():  # other tabs need not wait for all of them
                image_hw = self._ready(ask.image)
                logits, ious = self._answers(item)
            mask = full_size(logits[item.candidate, None], image_hw)[0] > MASK_THRESHOLD
            yield Found(item, mask, ious[item.candidate])

    def close(self) -> None:
        """Refuse what waits, and return when the model rests."""
        self._closed = True
        with self._lock:
            self._kept.clear()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise EvitError("evit has ended")
            yield

    def _read(self, index: int) -> tuple[ImageU8, ImageU8 | None]:
        if not 0 <= index < len(self._paths):
            raise EvitError(f"there is no image {index}; there are {len(self._paths)}")
        return read_image(self._paths[index])

    def _ready(self, index: int) -> tuple[int, int]:
        """Have the predictor hold the image; its (height, width)."""
        kept = self._kept.get(index)
        if kept is None:
            image = self._read(index)[0]
            self._current = None
            self._predictor.set_image(image)
            kept = self._kept[index] = self._predictor.embedding
            while len(self._kept) > KEPT_EMBEDDINGS:
                self._kept.popitem(last=False)
        elif self._current != index:
            self._predictor.set_embedding(kept)
        self._kept.move_to_end(index)
        self._current = index
        return int(kept.image_hw[0]), int(kept.image_hw[1])

    def _answers(self, prompt: Prompt) -> tuple[Floats, list[float]]:
        """Three masks as (3, 256, 256) logits, and their expected IoU."""
        points, labels = np.array([prompt.points], np.float32), np.array([prompt.labels])
        prompts = Prompts(
            points if prompt.points else None,
            labels if prompt.points else None,
            None if prompt.box is None else np.array([prompt.box], np.float32),
        )
        try:
            prompts.check_inside(self._predictor.embedding.image_hw)
        except ValueError as error:
            raise EvitError(str(error)) from error
        logits, ious = self._predictor.low_res(prompts)
        return logits[0], [float(iou) for iou in ious[0]]


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1e3, 1)
