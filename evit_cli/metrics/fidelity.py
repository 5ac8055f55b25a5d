"""PSNR and SSIM on luma, as super-resolution papers report them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Luma = npt.NDArray[np.float64]

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma_bt601(image_rgb: npt.NDArray[Any]) -> Luma:
    """RGB (H, W, 3) in 0..255 -> Y (H, W) in 16..235 (ITU-R BT.601, as MATLAB's `rgb2ycbcr`)."""
    weights = np.array([65.481, 128.553, 24.966]) / 255
    return np.asarray(image_rgb.astype(np.float64) @ weights + 16)


def psnr(found: Luma, truth: Luma) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 255; infinite for equal images."""
    error = float(np.mean(np.square(found - truth)))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def ssim(found: Luma, truth: Luma) -> float:
    """Mean structural similarity (Wang et al. 2004): Gaussian 11x11 windows that fit inside.

    Raises:
        ValueError: the images are smaller than a window.
    """
    if min(truth.shape) < _WINDOW:
        raise ValueError(f"SSIM needs at least {_WINDOW} pixels a side, got {truth.shape}")
    edge = _WINDOW // 2

    def blur(x: Luma) -> Luma:
        smooth = cv2.GaussianBlur(x, (_WINDOW, _WINDOW), _SIGMA)
        return np.asarray(smooth[edge:-edge, edge:-edge], np.float64)

    mean_a, mean_b = blur(found), blur(truth)
    var_a = blur(found * found) - mean_a**2
    var_b = blur(truth * truth) - mean_b**2
    both = blur(found * truth) - mean_a * mean_b
    numerator = (2 * mean_a * mean_b + _C1) * (2 * both + _C2)
    denominator = (mean_a**2 + mean_b**2 + _C1) * (var_a + var_b + _C2)
    return float(np.mean(numerator / denominator))


class Fidelity:
    """PSNR and SSIM on Y, averaged over images; `border` pixels on every side do not count.

    Args:
        border: by convention the scale of the enlargement.
    """

    def __init__(self, border: int) -> None:
        self.border = border
        self.sums = np.zeros(2)
        self.count = 0

    def update(self, truth: npt.NDArray[np.uint8], found: npt.NDArray[np.uint8]) -> float:
        """Add one image; returns its PSNR in dB.

        Args:
            truth: (H, W, 3) RGB.
            found: likewise.

        Raises:
            ValueError: the shapes differ, or nothing is left inside the border.
        """
        if truth.shape != found.shape:
            raise ValueError(f"the original is {truth.shape}, the result {found.shape}")
        b = self.border
        inner = (slice(b, truth.shape[0] - b), slice(b, truth.shape[1] - b))
        a, t = luma_bt601(found[inner]), luma_bt601(truth[inner])
        value = psnr(a, t)
        self.sums += value, ssim(a, t)
        self.count += 1
        return value

    @property
    def psnr_db(self) -> float:
        """Mean over the images; NaN before the first."""
        return float(self.sums[0] / self.count) if self.count else float("nan")

    @property
    def ssim(self) -> float:
        """Mean over the images; NaN before the first."""
        return float(self.sums[1] / self.count) if self.count else float("nan")
