"""PSNR and SSIM of a super-resolution model, as papers report them, over any `Session`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evit_cli.data.bicubic import resize_bicubic_u8
from evit_cli.data.superres import Pairs
from evit_cli.inference.enlarge import enlarge, to_eight_bits
from evit_cli.inference.evaluate import Group, part_used, spread
from evit_cli.metrics.fidelity import Fidelity
from evit_cli.runtime.session import Session
from evit_cli.types import NoProgress, Progress

_FIXED = 1e9
"""Sums over processes are of integers."""


@dataclass(frozen=True)
class SuperresScore:
    """The result on a set of pairs; PSNR in dB, both on Y.

    `bicubic_psnr_db` and `bicubic_ssim` are what enlarging bicubically (a = -0.5) reaches.
    """

    psnr_db: float
    ssim: float
    bicubic_psnr_db: float
    bicubic_ssim: float
    images: int
    seconds: float
    protocol: str


def evaluate_superres(
    session: Session,
    pairs: Pairs,
    *,
    max_images: int | None = None,
    group: Group | None = None,
    progress: Progress | None = None,
) -> SuperresScore:
    """Mean PSNR and SSIM of whole images, in eight bits, without `scale` pixels at the border.

    Args:
        session: the model.
        pairs: small images and originals.
        max_images: use this many, spread over the whole set.
        group: processes that share the work; each gets the score of the whole.
        progress: gets one step per image.

    Raises:
        EvitError: an image cannot be read, or the two of a pair do not belong together.
    """
    progress = progress or NoProgress()
    items = spread(range(len(pairs)), max_images)
    mine = items if group is None else group.share(items)
    found, bicubic = Fidelity(pairs.scale), Fidelity(pairs.scale)
    started = time.perf_counter()
    progress.start(len(mine), "image")
    try:
        for index in mine:
            small, large = pairs.read(index)
            value = found.update(large, to_eight_bits(enlarge(session, small)))
            bicubic.update(large, resize_bicubic_u8(small, pairs.scale))
            progress.advance(1, psnr_db=round(value, 2))
    finally:
        progress.close()
    means = _means(found, bicubic, group)
    return SuperresScore(
        *means,
        images=len(items),
        seconds=time.perf_counter() - started,
        protocol=f"Y of BT.601, {pairs.scale} border pixels off, eight bits"
        + (", small images made by evit" if pairs.made else "")
        + part_used(len(items), len(pairs)),
    )


def _means(
    found: Fidelity, bicubic: Fidelity, group: Group | None
) -> tuple[float, float, float, float]:
    """PSNR and SSIM of both over all processes."""
    sums: npt.NDArray[np.float64] = np.concatenate([found.sums, bicubic.sums])
    count = found.count
    if group is not None:
        whole = np.round(np.append(sums, count) * _FIXED).astype(np.int64)
        *totals, counted = group.total(whole)
        sums, count = np.array(totals) / _FIXED, round(counted / _FIXED)
    psnr, ssim, bicubic_psnr, bicubic_ssim = (float(v) for v in sums / max(count, 1))
    return psnr, ssim, bicubic_psnr, bicubic_ssim
