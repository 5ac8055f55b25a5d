"""Comparing an artifact with its source on real images, before anybody relies on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.export.fidelity import PSNR_BARS, PSNR_LOSS_BARS, Likeness, centre_tile
from evit_cli.export.verdict import Bar, Verdict, against
from evit_cli.inference.class_map import class_map
from evit_cli.inference.enlarge import fixed_size
from evit_cli.inference.preprocess import ImageU8, Placement, fit, resize_short_and_crop
from evit_cli.inference.segmenter import Segmenter
from evit_cli.runtime.fixed_input import output_name
from evit_cli.runtime.session import Session
from evit_cli.types import ImageSize, NoProgress, Precision, Progress, Task

_SIDE = ImageSize(512, 1024)


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
        agreement: share of pixels, or images, that keep their class; of a model that makes
            images, share of the eight-bit values that stay the same.
        decided: the same where a class that is as good as the source's own (`TIE`) counts too,
            of a segmentation model at the resolution of its logits; or a value that is one off.
        runtime: what ran the artifact.
        mean_iou: of the artifact against labels, None without labels.
        source_mean_iou: of the source against the same.
        psnr_db: of the artifact's pictures against those of its source, dB; None without pictures.
        original_psnr_db: of the artifact's against originals, on Y; None without originals.
        source_original_psnr_db: of the source's against the same.
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
    psnr_db: float | None = None
    original_psnr_db: float | None = None
    source_original_psnr_db: float | None = None

    def document(self) -> dict[str, Any]:
        """For JSON, which knows no infinity, and for the artifact."""
        plain = asdict(self) | {"verdict": self.verdict.value}
        return {k: _rounded(v) if isinstance(v, float) else v for k, v in plain.items()}


def _rounded(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


class Tally:
    """Numeric differences over several outputs."""

    def __init__(self) -> None:
        self.signal = self.noise = self.max_abs = 0.0
        self.cosine = 1.0
        self.finite = True

    def add(self, found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
        """Count one output beside the one that was expected.

        Raises:
            EvitError: their shapes differ.
        """
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
        """Over all outputs, at most 200."""
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
    tally, kept, count = Tally(), _kept(source.info.task), 0
    # It places images as `evit segment` would.
    segmenter = Segmenter(artifact) if source.info.task is Task.SEGMENT else None
    output = output_name(source.info.task)
    sizes_hw = tuple(sizes_hw) or (_SIDE,)
    progress.start(None, "image")
    try:
        for image in images:
            canvas = _canvas(image, artifact, segmenter, sizes_hw[count % len(sizes_hw)])
            found = artifact.run({"image": canvas[None]})[output]
            expected = source.run({"image": canvas[None]})[output]
            tally.add(found, expected)
            count += 1
            if tally.finite:
                kept.add(found[0], expected[0], ImageSize(*canvas.shape[:2]))
            progress.advance(1)
    finally:
        progress.close()
    if count == 0:
        raise EvitError("there is no image to compare the artifact on")
    verdict, reason = Verdict.FAIL, "the artifact gives NaN or infinity"
    if tally.finite:
        verdict, reason = kept.judge(artifact.precision)
    return Verification(
        verdict=verdict,
        reason=reason,
        images=count,
        images_sha256=images_sha256,
        cosine=tally.cosine if tally.finite else 0.0,
        max_abs=tally.max_abs if tally.finite else math.inf,
        sqnr_db=tally.sqnr_db if tally.finite else 0.0,
        agreement=kept.agreement if tally.finite else 0.0,
        decided=kept.decided if tally.finite else 0.0,
        runtime=artifact.backend.value,
        psnr_db=kept.psnr_db if isinstance(kept, _KeptPixels) and tally.finite else None,
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


def with_originals(
    result: Verification, precision: Precision, psnr_db: float, source_db: float
) -> Verification:
    """Add PSNR against originals, of the artifact and of its source, which then decides."""
    values = asdict(result) | {"original_psnr_db": psnr_db, "source_original_psnr_db": source_db}
    if math.isfinite(result.max_abs):
        loss, bar = source_db - psnr_db, PSNR_LOSS_BARS[precision]
        verdict = Verdict.PASS if loss <= bar.good else Verdict.WARN
        values["verdict"] = Verdict.FAIL if loss > bar.least else verdict
        values["reason"] = (
            f"{psnr_db:.2f} dB against the originals, {loss:.3f} dB less than its source"
        )
    return Verification(**values)


def _canvas(
    image: ImageU8, artifact: Session, segmenter: Segmenter | None, size_hw: ImageSize
) -> ImageU8:
    """The input that the artifact would get for an image; where sizes are free, of this size."""
    preprocess = artifact.info.preprocess
    if artifact.info.task is Task.SUPERRES:
        return centre_tile(image, fixed_size(artifact) or size_hw)
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


def _kept(task: Task) -> _KeptClasses | _KeptPixels:
    return _KeptPixels() if task is Task.SUPERRES else _KeptClasses(task is Task.SEGMENT)


class _KeptClasses:
    """The shares of pixels, or of images, that keep their class."""

    def __init__(self, segment: bool) -> None:
        self.segment = segment
        self.kept = self.near = 0.0
        self.count = 0

    def add(self, found: npt.NDArray[Any], expected: npt.NDArray[Any], size_hw: ImageSize) -> None:
        self.kept += _agreement(found, expected, size_hw if self.segment else None)
        self.near += _decided(found, expected)
        self.count += 1

    @property
    def agreement(self) -> float:
        return self.kept / self.count

    @property
    def decided(self) -> float:
        return self.near / self.count

    def judge(self, precision: Precision) -> tuple[Verdict, str]:
        bar = (BARS if self.segment else TOP1_BARS)[precision]
        of = "pixels" if self.segment else "images"
        said = (
            f"{self.agreement:.3%} of the {of} keep their class, "
            f"{self.decided:.3%} not counting near ties"
        )
        return against(bar, self.decided, said, ".2%")


class _KeptPixels(Likeness):
    """How near the pixels of two pictures are."""

    def add(
        self,
        found: npt.NDArray[Any],
        expected: npt.NDArray[Any],
        size_hw: ImageSize | None = None,
    ) -> None:
        super().add(found, expected)

    @property
    def agreement(self) -> float:
        return self.equal / self.count

    @property
    def decided(self) -> float:
        return self.near / self.count

    def judge(self, precision: Precision) -> tuple[Verdict, str]:
        said = (
            f"its pictures are {self.psnr_db:.1f} dB from those of its source, "
            f"{self.decided:.2%} of the values at most one off"
        )
        return against(PSNR_BARS[precision], self.psnr_db, said, ".1f")
