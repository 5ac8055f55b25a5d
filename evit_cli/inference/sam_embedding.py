"""An image's embedding: what the encoder makes of it, for any number of prompts, now or later."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as read_safetensors
from safetensors.numpy import save as to_safetensors

from evit_cli import __version__
from evit_cli.errors import EvitError
from evit_cli.inference.sam_frame import Floats
from evit_cli.media.disk import writing
from evit_cli.media.frame import ImageU8
from evit_cli.runtime.sam import SamSession
from evit_cli.types import ModelInfo

SUFFIXES = (".safetensors", ".npz")
_FORMAT = "1"
"""Changes when the same image and model would give other values."""
_VALUES, _ABOUT = "embedding", "about"
_UNREADABLE = (
    OSError, SafetensorError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile
)  # fmt: skip


@dataclass(frozen=True)
class Embedding:
    """What an encoder makes of one image.

    Attributes:
        values: (1, C, 64, 64) float32.
        image_hw: height and width of the image, pixels.
        model: name of the model.
        weights_sha256: of the model's weights or artifact, "" if they have none.
        image_sha256: of the pixels, "" where nobody asked for it.
        runtime: backend and precision that computed it, for example "torch fp32"; of an artifact
            with the beginning of its sha256.
        evit_version: that wrote it.
    """

    values: Floats
    image_hw: tuple[int, int]
    model: str
    weights_sha256: str
    image_sha256: str = ""
    runtime: str = ""
    evit_version: str = __version__


def image_sha256(image_rgb_u8: ImageU8) -> str:
    """The sha256 of an image's shape and pixels."""
    digest = hashlib.sha256(str(image_rgb_u8.shape).encode())
    digest.update(np.ascontiguousarray(image_rgb_u8).data)
    return digest.hexdigest()


def runtime_of(session: SamSession, *, by_file: bool) -> str:
    """What runs a model: backend and precision, and with `by_file` which artifact it is."""
    words = f"{session.backend.value} {session.precision.value}"
    if session.encoder_file is None or not by_file:
        return words
    digest = hashlib.sha256()
    with session.encoder_file.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{words} {digest.hexdigest()[:16]}"


def save_embedding(path: Path, embedding: Embedding) -> None:
    """Write an embedding as .safetensors or .npz; the file appears when it is complete.

    Raises:
        EvitError: the suffix is another, or the file cannot be written.
    """
    about = {
        "format": _FORMAT,
        "evit_version": embedding.evit_version,
        "model": embedding.model,
        "weights_sha256": embedding.weights_sha256,
        "image_sha256": embedding.image_sha256,
        "image_hw": "{}x{}".format(*embedding.image_hw),
        "runtime": embedding.runtime,
        "values_sha256": _values_sha256(embedding.values),
    }
    values = np.ascontiguousarray(embedding.values, np.float32)
    if path.suffix == ".safetensors":
        data = to_safetensors({_VALUES: values}, metadata=about)
    elif path.suffix == ".npz":
        file = io.BytesIO()
        arrays: dict[str, Any] = {_VALUES: values, _ABOUT: np.array(json.dumps(about))}
        np.savez(file, **arrays)
        data = file.getvalue()
    else:
        raise EvitError(
            f"an embedding cannot be written as '{path.suffix}'",
            hint=f"use {' or '.join(SUFFIXES)}",
        )
    # A name of its own: another run may be writing the same embedding.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.evit-partial")
    with writing(path):
        try:
            partial.write_bytes(data)
            os.replace(partial, path)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def load_embedding(path: Path) -> Embedding:
    """Read what `save_embedding` wrote.

    Raises:
        EvitError: the file is missing, damaged or something else.
    """
    try:
        data = path.read_bytes()
        about, values = _parts(data, path.suffix)
        height, width = (int(side) for side in about["image_hw"].split("x"))
        if about["format"] != _FORMAT:
            raise ValueError(f"it has format {about['format']}, not {_FORMAT}")
        if about["values_sha256"] != _values_sha256(values):
            raise ValueError("its values are damaged")
        return Embedding(
            values,
            (height, width),
            about["model"],
            about["weights_sha256"],
            about["image_sha256"],
            about["runtime"],
            about["evit_version"],
        )
    except _UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise EvitError(
            f"{path} is no embedding that can be read: {reason.lower()}", hint="make it again"
        ) from error


def _parts(data: bytes, suffix: str) -> tuple[dict[str, str], Floats]:
    """What a file says of itself, and its values."""
    if suffix == ".npz":
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            about = json.loads(str(archive[_ABOUT]))
            values: npt.NDArray[Any] = archive[_VALUES]
    else:
        values = read_safetensors(data)[_VALUES]
        size = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + size])["__metadata__"]
    if values.dtype != np.float32 or values.ndim != 4 or len(values) != 1:
        raise ValueError(f"its values are {values.dtype} {values.shape}")
    return about, values


def _identity(embedding: Embedding) -> tuple[object, ...]:
    """What two embeddings must share to be of the same image by the same model."""
    by = (embedding.model, embedding.weights_sha256, embedding.runtime)
    return (embedding.image_sha256, embedding.image_hw, *by, embedding.values.shape)


def _values_sha256(values: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).data).hexdigest()


class EmbeddingCache:
    """Embeddings in a folder, by image and model; a file that does not fit is never used.

    Args:
        folder: made where it is missing.

    Attributes:
        hits: how many embeddings were found.
        notes: what was wrong with files in the folder, each thing once.

    Raises:
        EvitError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hits = 0
        self.notes: list[str] = []
        if folder.exists() and not folder.is_dir():
            raise EvitError(f"{folder.resolve()} is a file, not a folder")
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def path_for(self, wanted: Embedding) -> Path:
        """Where the embedding of that image by that model is."""
        about = (_FORMAT, wanted.model, wanted.weights_sha256, wanted.runtime, wanted.values.shape)
        by_model = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        return self.folder / f"{wanted.image_sha256[:32]}-{by_model[:16]}.safetensors"

    def get(
        self,
        image_rgb_u8: ImageU8,
        info: ModelInfo,
        runtime: str,
        shape: tuple[int, ...],
        compute: Callable[[], Floats],
    ) -> Embedding:
        """The embedding of an image, computed and kept if it is not there.

        Args:
            image_rgb_u8: (H, W, 3).
            info: of the model; without the sha256 of its weights nothing is kept.
            runtime: backend and precision.
            shape: of the embedding.
            compute: gives the values.
        """
        wanted = Embedding(
            np.empty(shape, np.float32),
            (image_rgb_u8.shape[0], image_rgb_u8.shape[1]),
            info.name,
            info.sha256,
            image_sha256(image_rgb_u8),
            runtime,
        )
        if not info.sha256:
            self._note(f"{info.name} has no file that identifies it, so no embedding is kept")
            return replace(wanted, values=compute())
        path = self.path_for(wanted)
        found = self._read(path, wanted) if path.exists() else None
        if found is not None:
            self.hits += 1
            return found
        made = replace(wanted, values=compute())
        try:
            save_embedding(path, made)
        except EvitError as error:  # the masks are worth more than the cache
            self._note(error.message)
        return made

    def _read(self, path: Path, wanted: Embedding) -> Embedding | None:
        try:
            found = load_embedding(path)
        except EvitError as error:
            self._note(f"{error.message}; it was computed again")
            return None
        if _identity(found) != _identity(wanted):
            self._note(f"{path} is of another image or model; it was computed again")
            return None
        if not np.isfinite(found.values).all():
            self._note(f"{path} holds numbers that are not finite; it was computed again")
            return None
        return found

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
