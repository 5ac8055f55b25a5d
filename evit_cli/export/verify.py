"""Comparing an artifact with its source on real images, before anybody relies on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.inference.class_map import class_map
from evit_cli.inference.preprocess import ImageU8, Placement, fit, resize_short_and_crop
from evit_cli.inference.segmenter import Segmenter
from evit_cli.runtime.session import Session
from evit_cli.types import ImageSize, NoProgress, Precision, Progress, Task

_SIDE = ImageSize(512, 1024)


class Verdict(str, Enum):
    """Whether an artifact may be used."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"


@dataclass(frozen=True)
class Bar:
    """Agreement that is asked for: `good` passes, below `least` fails, between them warns."""

    good: float
    least: float


BARS = {
    Precision.FP32: Bar(0.9995, 0.995),
    Precision.FP16: Bar(0.998, 0.98),
    Precision.INT8: Bar(0.95, 0.90),
}
"""Share of the decided pixels that keep their class (segmentation) by precision.

Int8 with plain minimum/maximum ranges keeps 25 %."""

TOP1_BARS = {
    Precision.FP32: Bar(1.0, 0.99),
    Precision.FP16: Bar(0.99, 0.9),
    Precision.INT8: Bar(0.9, 0.75),
}
"""Share of images that keep their most likely class (classification), the decided ones."""

MIOU_BAR = Bar(0.01, 0.03)
"""Largest loss of mean IoU against labels: that passes, that fails."""

TIE = 0.05
"""Where the source itself gives two classes probabilities less than this apart, either is taken.

Images unlike those that a model was trained on, as evit's own are to a street model, are full of
such places; float16 turns 2 % of a published model's pixels there, and nearly none that matter."""

_LEAST_SPREAD = 1e-12


@dataclass(frozen=True)
class Verification:
    """How an artifact compares with its source.

    Attributes:
        verdict: PASS, WARN or FAIL.
        reason: what decided it, one sentence.
        images: how many were compared.
        images_sha256: of the set.
        cosine: similarity of the outputs, 1 for equal; the worst image.
        max_abs: largest difference, in standard deviations of the source's output.
        sqnr_db: signal to quantisation noise ratio over all images, dB; 200 for equal.
        agreement: share of pixels, or images, that keep their class.
        decided: the same where a class that is as good as the source's own (`TIE`) counts too,
            of a segmentation model at the resolution of its logits.
        runtime: what ran the artifact.
        mean_iou: of the artifact against labels, None without labels.
        source_mean_iou: of the source against the same.
    """

    verdict: Verdict
    reason: str
    images: int
    images_sha256: str
    cosine: float
    max_abs: float
    sqnr_db: float
    agreement: float
    decided: float
    runtime: str
    mean_iou: float | None = None
    source_mean_iou: float | None = None

    def document(self) -> dict[str, Any]:
        """For JSON, which knows no infinity, and for the artifact."""
        plain = asdict(self) | {"verdict": self.verdict.value}
        return {k: _rounded(v) if isinstance(v, float) else v for k, v in plain.items()}


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


class _Tally:
    """Numeric differences over several outputs."""

    def __init__(self) -> None:
        self.signal = self.noise = self.max_abs = 0.0
        self.cosine = 1.0
        self.finite = True

    def add(self, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
        if found.shape != expected.shape:
            raise EvitError(
                f"the artifact's output is {found.shape}, the source's {expected.shape}"
            )
        a, b = found.astype(np.float64), expected.astype(np.float64)
        self.finite &= bool(np.isfinite(a).all())
        if not self.finite:
            return
        lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
        self.cosine = min(self.cosine, float((a * b).sum()) / max(lengths, _LEAST_SPREAD))
        spread = max(float(b.std()), _LEAST_SPREAD)
        self.max_abs = max(self.max_abs, float(np.abs(a - b).max()) / spread)
        self.signal += float((b * b).sum())
        self.noise += float(((a - b) ** 2).sum())

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0:
            return 200.0
        return min(200.0, 10 * math.log10(max(self.signal, _LEAST_SPREAD) / self.noise))


def verify(
    artifact: Session,
    source: Session,
    images: Iterable[ImageU8],
    *,
    images_sha256: str = "",
    sizes_hw: Sequence[ImageSize] = (),
    progress: Progress | None = None,
) -> Verification:
    """Run both on the same inputs and judge.

    Args:
        artifact: what was made.
        source: what it was made from.
        images: (H, W, 3) uint8 RGB.
        images_sha256: of the set, for the record.
        sizes_hw: of an artifact with free sizes: those to compare at, in turn; by default 512x1024.
        progress: gets one step per image.

    Raises:
        EvitError: the artifact cannot run, or there is no image.
    """
    progress = progress or NoProgress()
    tally, kept, decided, count = _Tally(), 0.0, 0.0, 0
    segment = source.info.task is Task.SEGMENT
    # It places images as `evit segment` would.
    segmenter = Segmenter(artifact) if segment else None
    sizes_hw = tuple(sizes_hw) or (_SIDE,)
    progress.start(None, "image")
    try:
        for image in images:
            canvas = _canvas(image, artifact, segmenter, sizes_hw[count % len(sizes_hw)])
            found = artifact.run({"image": canvas[None]})["logits"]
            expected = source.run({"image": canvas[None]})["logits"]
            tally.add(found, expected)
            count += 1
            if tally.finite:
                size = ImageSize(*canvas.shape[:2])
                kept += _agreement(found[0], expected[0], size if segment else None)
                decided += _decided(found[0], expected[0])
            progress.advance(1)
    finally:
        progress.close()
    if count == 0:
        raise EvitError("there is no image to compare the artifact on")
    bar = (BARS if segment else TOP1_BARS)[artifact.precision]
    kept, decided = (part / count if tally.finite else 0.0 for part in (kept, decided))
    verdict, reason = _judge(kept, decided, bar, "pixels" if segment else "images", tally.finite)
    return Verification(
        verdict=verdict,
        reason=reason,
        images=count,
        images_sha256=images_sha256,
        cosine=tally.cosine if tally.finite else 0.0,
        max_abs=tally.max_abs if tally.finite else math.inf,
        sqnr_db=tally.sqnr_db if tally.finite else 0.0,
        agreement=kept,
        decided=decided,
        runtime=artifact.backend.value,
    )


def with_labels(result: Verification, found: float, source: float) -> Verification:
    """Add mean IoU against labels, of the artifact and of its source; the worse verdict stays."""
    loss = source - found
    values = asdict(result) | {"mean_iou": found, "source_mean_iou": source}
    verdict = Verdict.PASS if loss <= MIOU_BAR.good else Verdict.WARN
    verdict = Verdict.FAIL if loss > MIOU_BAR.least else verdict
    order = [Verdict.PASS, Verdict.WARN, Verdict.FAIL]
    if order.index(verdict) > order.index(result.verdict):
        values["verdict"] = verdict
        values["reason"] = f"mean IoU falls from {source:.4f} to {found:.4f}"
    return Verification(**values)


def _canvas(
    image: ImageU8, artifact: Session, segmenter: Segmenter | None, size_hw: ImageSize
) -> ImageU8:
    """The input that the artifact would get for an image; where sizes are free, of this size."""
    preprocess = artifact.info.preprocess
    if segmenter is None:
        return resize_short_and_crop(image, preprocess)
    own = ImageSize(*image.shape[:2])
    free = segmenter.fixed_hw is None
    placement = Placement(own, size_hw, size_hw) if free else segmenter.placement(own)
    return fit(image, placement, interpolation=preprocess.interpolation)


def _agreement(
    found: npt.NDArray[Any], expected: npt.NDArray[Any], size_hw: ImageSize | None
) -> float:
    """Share of pixels with the same class at the input's size; of a classifier's image, 0 or 1."""
    if size_hw is None:
        return float(found.argmax() == expected.argmax())
    return float(np.mean(class_map(found, size_hw) == class_map(expected, size_hw)))


def _decided(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Share of the places (C, ...) whose class is, in the source's eyes, as good as its own."""
    exp = np.exp(expected.astype(np.float64) - expected.max(axis=0))
    probability = exp / exp.sum(axis=0)
    chosen = np.take_along_axis(probability, found.argmax(axis=0)[None], axis=0)[0]
    return float(np.mean(probability.max(axis=0) - chosen < TIE))


def _judge(
    agreement: float, decided: float, bar: Bar, of: str, finite: bool
) -> tuple[Verdict, str]:
    if not finite:
        return Verdict.FAIL, "the artifact gives NaN or infinity"
    said = f"{agreement:.3%} of the {of} keep their class, {decided:.3%} not counting near ties"
    if decided >= bar.good:
        return Verdict.PASS, said
    if decided >= bar.least:
        return Verdict.WARN, f"{said}; less than {bar.good:.2%}"
    return Verdict.FAIL, f"{said}; less than {bar.least:.2%}"
