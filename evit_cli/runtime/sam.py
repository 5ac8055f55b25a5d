"""A promptable segmentation model as two sessions: the encoder once per image, then the decoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError, UsageError
from evit_cli.runtime.description import read_description
from evit_cli.runtime.open import backend_of, open_artifact
from evit_cli.runtime.sam_part import DECODER, ENCODER, SamPart
from evit_cli.runtime.session import Session
from evit_cli.types import Backend, ModelInfo, Precision, Progress, Task

ArrayF32 = npt.NDArray[np.float32]

ABSENT, PADDING, NEGATIVE, POSITIVE, UPPER_LEFT, LOWER_RIGHT = -2, -1, 0, 1, 2, 3
"""Labels of points. The published model sees `PADDING` in place of a box; nothing sees `ABSENT`."""


class PartSession(Session, Protocol):
    """A `Session` over one half of a SAM model.

    Attributes:
        sam: which half, and the shapes that it takes.
    """

    @property
    def sam(self) -> SamPart | None: ...  # noqa: D102


class SamSession:
    """Both halves of one model.

    Args:
        encoder: takes "image", float32 RGB (1, S, S, 3) of 0..255; gives "embedding".
        decoder: takes "embedding", "points_xy", "labels", "mask_input" and "has_mask"; gives
            "masks" and "iou".

    Raises:
        EvitError: they are not the two halves of one model.
    """

    def __init__(self, encoder: PartSession, decoder: PartSession) -> None:
        first, second = encoder.sam, decoder.sam
        if first is None or second is None or (first.part, second.part) != (ENCODER, DECODER):
            raise EvitError(
                f"{encoder.info.name} and {decoder.info.name} are not an encoder and a decoder"
            )
        ours, theirs = encoder.info, decoder.info
        if first.embedding != second.embedding or (ours.name, ours.sha256) != (
            theirs.name,
            theirs.sha256,
        ):
            raise EvitError(
                f"the encoder is of {ours.name}, and the decoder beside it of other weights"
                f" ({theirs.name})",
                hint="export both again",
            )
        self.encoder, self.decoder = encoder, decoder
        self.info: ModelInfo = ours
        self.backend: Backend = encoder.backend
        self.precision: Precision = encoder.precision
        self.part = second
        self.input_side = int(ours.preprocess.size_hw.height)
        self.embedding_shape = (1, *second.embedding)
        self.encoder_file: Path | None = None
        """Of an artifact: what tells its embeddings from those of another export."""

    def encode(self, image: ArrayF32) -> ArrayF32:
        """The embedding of one image.

        Args:
            image: float32 RGB (1, S, S, 3) of 0..255, S being `input_side`; right of and below the
                image it has the mean colour.

        Returns:
            float32 (1, C, 64, 64).

        Raises:
            EvitError: the runtime failed, for example out of memory.
        """
        return self.encoder.run({"image": image})["embedding"]

    def decode(
        self,
        embedding: ArrayF32,
        points_xy: ArrayF32,
        labels: ArrayF32,
        mask_input: ArrayF32 | None = None,
    ) -> tuple[ArrayF32, ArrayF32]:
        """Masks for a batch of prompts on one image.

        Args:
            embedding: (1, C, 64, 64).
            points_xy: (P, N, 2) in pixels of the 1024x1024 frame.
            labels: (P, N), see above.
            mask_input: logits (P, 1, 256, 256) of masks to start from, None for none.

        Returns:
            Logits (P, 4, 256, 256), above 0 inside, and the IoU that is expected of each, (P, 4).

        Raises:
            EvitError: more points than an artifact with a fixed number takes, or the runtime
                failed.
        """
        count, points = labels.shape
        least, most = self.part.points
        if points > most:
            raise EvitError(
                f"{self.info.name} was exported for {most} points per prompt, got {points}",
                hint="export it with more, or run it with --backend torch",
            )
        missing = max(least - points, 0)
        points_xy = np.pad(points_xy, ((0, 0), (0, missing), (0, 0)))
        labels = np.pad(labels, ((0, 0), (0, missing)), constant_values=ABSENT)
        found = [
            self._run(embedding, points_xy[i:j], labels[i:j], mask_input, slice(i, j))
            for i, j in _pieces(count, self.part.prompts[1])
        ]
        masks, iou = zip(*found, strict=True)
        return np.concatenate(masks), np.concatenate(iou)

    def _run(
        self,
        embedding: ArrayF32,
        points_xy: ArrayF32,
        labels: ArrayF32,
        mask_input: ArrayF32 | None,
        rows: slice,
    ) -> tuple[ArrayF32, ArrayF32]:
        """One run of the decoder, filled up to the prompts that it takes."""
        count = len(labels)
        fill = max(self.part.prompts[0] - count, 0)
        side, total = self.part.mask_side, count + fill
        inputs: dict[str, npt.NDArray[Any]] = {
            "embedding": embedding,
            "points_xy": _repeat_last(points_xy, fill),
            "labels": _repeat_last(labels, fill),
        }
        if mask_input is not None:
            inputs["mask_input"] = _repeat_last(mask_input[rows], fill)
            inputs["has_mask"] = np.ones(total, np.float32)
        else:
            inputs["mask_input"] = np.zeros((total, 1, side, side), np.float32)
            inputs["has_mask"] = np.zeros(total, np.float32)
        out = self.decoder.run(inputs)
        return out["masks"][:count], out["iou"][:count]

    def close(self) -> None:
        """Free what the sessions hold; they cannot run afterwards."""
        self.encoder.close()
        self.decoder.close()


def _pieces(count: int, most: int) -> list[tuple[int, int]]:
    return [(i, min(i + most, count)) for i in range(0, count, most)]


def _repeat_last(array: ArrayF32, times: int) -> ArrayF32:
    whole = np.concatenate([array, *([array[-1:]] * times)]) if times else array
    return np.ascontiguousarray(whole, np.float32)


def open_sam(
    model: str | None,
    *,
    weights: Path | None = None,
    backend: Backend | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> SamSession:
    """A promptable model for a catalog name, an artifact, a file, a folder or an hf:// address.

    Args:
        model: the name, or either of the two artifacts; the other one lies beside it.
        weights: weights to put in place of the published ones.
        backend: what shall run it; None chooses by the file.
        precision: of the encoder; None means float32.
        threads: CPU threads, None for the runtime's choice.
        offline: make no network request.
        progress: told how much of a download has arrived.

    Raises:
        EvitError: the model cannot be found, read or run by that backend, or is no SAM model.
        MissingDependency: the backend's library is not installed.
    """
    kind = backend_of(model)
    if kind is not None and model is not None:
        return _open_pair(Path(model), kind, backend, precision, threads)
    embedded = _embedded_pair(model, backend, precision) if weights is None else None
    if embedded is not None:
        return _open_pair(embedded, Backend.TFLITE, None, None, threads)
    if backend not in (None, Backend.TORCH):
        raise UsageError(
            f"{model or weights} has no {backend.value} artifacts that fit",
            hint=f"make them: evit export --target {backend.value}; or use --backend torch",
        )
    from evit_cli.runtime.torch_sam import load_torch_sam

    return SamSession(
        *load_torch_sam(
            model,
            weights=weights,
            precision=precision or Precision.FP32,
            threads=threads,
            offline=offline,
            progress=progress,
        )
    )


def other_half(path: Path) -> Path:
    """The decoder's file beside an encoder's, or the other way round.

    Raises:
        EvitError: the name does not say which half it is.
    """
    for own, other in ((ENCODER, DECODER), (DECODER, ENCODER)):
        head, found, tail = path.name.rpartition(own)
        if found:
            return path.with_name(f"{head}{other}{tail}")
    raise EvitError(
        f"the name of {path} says neither 'encoder' nor 'decoder', so that the other half of the"
        " model cannot be found",
        hint="keep the names that `evit export` gives",
    )


def _open_pair(
    path: Path,
    kind: Backend,
    backend: Backend | None,
    precision: Precision | None,
    threads: int | None,
) -> SamSession:
    if backend not in (None, kind):
        raise UsageError(f"'{path}' is for {kind.value}, which {backend.value} cannot run")
    if not path.is_file():
        raise EvitError(f"there is no file {path}")
    sessions: list[PartSession] = []
    try:
        for file in (path, other_half(path)):
            if not file.is_file():
                raise EvitError(
                    f"{path.name} needs {file.name} beside it, which is missing",
                    hint="copy both halves, or export again",
                )
            session: Any = open_artifact(file, threads=threads)
            if session.info.task is not Task.SAM:
                session.close()
                raise not_sam(session.info)
            sessions.append(session)
        named = sessions[0].sam
        sessions.sort(key=lambda s: s.sam is not None and s.sam.part == DECODER)
        whole = SamSession(*sessions)
        encoder_named = named is not None and named.part == ENCODER
        whole.encoder_file = path if encoder_named else other_half(path)
        if precision not in (None, whole.precision):
            raise UsageError(f"'{path}' is {whole.precision.value}, not {precision.value}")
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return whole


def not_sam(info: ModelInfo) -> EvitError:
    """The error for a model of another task."""
    return EvitError(
        f"{info.name} is a {info.task.value} model, and has no prompts",
        hint="`evit models ls --task sam` lists the ones that have",
    )


def _embedded_pair(
    model: str | None, backend: Backend | None, precision: Precision | None
) -> Path | None:
    """The encoder's artifact of a model that travels with evit, where it is what was asked for."""
    from evit_cli.runtime.litert_session import litert_available
    from evit_cli.weights.embedded import EMBEDDED

    if model not in EMBEDDED or EMBEDDED[model].task is not Task.SAM:
        return None
    path = EMBEDDED[model].artifact
    if backend not in (None, Backend.TFLITE) or precision not in (
        None,
        read_description(path).precision,
    ):
        return None
    return path if backend is not None or litert_available() else None
