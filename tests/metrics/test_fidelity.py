"""PSNR and SSIM on Y: the published convention, and torchmetrics."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from evit_cli.data.bicubic import resize_bicubic_u8
from evit_cli.data.superres import Pairs
from evit_cli.metrics.fidelity import Fidelity, luma_bt601, psnr, ssim
from tests.helpers.paths import shared_dir


def pictures(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A smooth picture and the same with noise, uint8 RGB."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (6, 8, 3)).astype(np.float32)
    smooth = cv2.resize(low, (48, 40), interpolation=cv2.INTER_CUBIC)
    noisy = smooth + rng.normal(0, 8, smooth.shape)
    first, second = (np.clip(p, 0, 255).round().astype(np.uint8) for p in (smooth, noisy))
    return first, second


@pytest.mark.shared
@pytest.mark.parametrize(("name", "db"), [("set5", 33.67), ("set14", 30.33)])
def test_bicubic_is_where_it_is_published(name: str, db: float) -> None:
    pairs = Pairs(shared_dir("data", "sr", name), 2)
    score = Fidelity(2)
    for index in range(len(pairs)):
        small, large = pairs.read(index)
        score.update(large, resize_bicubic_u8(small, 2))
    assert score.psnr_db == pytest.approx(db, abs=0.02)
    if name == "set5":
        # Published: 0.9299, of the luma alone enlarged and rounded to eight bits.
        assert score.ssim == pytest.approx(0.9299, abs=1e-3)


def test_luma_is_that_of_video() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]])
    found = luma_bt601(colours.astype(np.uint8))[0]
    assert found == pytest.approx([16, 235, 81.481, 144.553, 40.966])


def test_equals_torchmetrics_inside_the_border() -> None:
    torchmetrics = pytest.importorskip("torchmetrics.functional.image")
    truth, found = pictures()
    a, t = (torch.from_numpy(luma_bt601(p)[2:-2, 2:-2])[None, None] for p in (found, truth))
    score = Fidelity(2)
    value = score.update(truth, found)
    theirs = torchmetrics.peak_signal_noise_ratio(a, t, data_range=255.0)
    assert value == pytest.approx(float(theirs), abs=1e-4)  # they compute in float32
    # Its own mean has the windows over mirrored edges in it, which the definition has not.
    _, everywhere = torchmetrics.structural_similarity_index_measure(
        a, t, sigma=1.5, kernel_size=11, data_range=255.0, return_full_image=True
    )
    inside = everywhere[..., 5:-5, 5:-5].mean()
    assert score.ssim == pytest.approx(float(inside), abs=1e-6)


def test_streams_means_over_images() -> None:
    score, values = Fidelity(0), []
    for seed in range(3):
        truth, found = pictures(seed)
        values.append(score.update(truth, found))
    assert score.psnr_db == pytest.approx(np.mean(values))
    assert score.count == 3


def test_border_does_not_count() -> None:
    truth, _ = pictures()
    found = truth.copy()
    found[:2], found[:, -2:] = 0, 255
    assert Fidelity(2).update(truth, found) == float("inf")
    assert Fidelity(1).update(truth, found) < 40


def test_extremes() -> None:
    black, white = np.zeros((16, 16)), np.full((16, 16), 255.0)
    assert psnr(black, white) == 0
    assert ssim(white, white) == pytest.approx(1)
    assert np.isnan(Fidelity(2).psnr_db) and np.isnan(Fidelity(2).ssim)


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\(20, 20, 3\).*\(20, 21, 3\)"):
        Fidelity(2).update(np.zeros((20, 20, 3), np.uint8), np.zeros((20, 21, 3), np.uint8))
    with pytest.raises(ValueError, match="11 pixels"):
        ssim(np.zeros((10, 30)), np.zeros((10, 30)))
