"""`evit upscale` by artifacts of every backend gives the picture that PyTorch gives."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from evit_cli.media.images import read_image
from tests.helpers.cli import evit
from tests.helpers.tensorrt_standin import install

MODEL = "sr-xs-res-x2"
SUFFIXES = {"onnx": ".onnx", "tflite": ".tflite", "openvino": ".xml", "tensorrt": ".engine"}


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Blobs of all sizes, larger than a tile and no multiple of one."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (90, 130, 3)).astype(np.float32)
    blurred = sum(cv2.GaussianBlur(noise, (0, 0), sigma) * sigma for sigma in (1.0, 3.0, 9.0))
    spread = cv2.normalize(blurred, None, 0, 255, cv2.NORM_MINMAX)
    cv2.imwrite(str(tmp_path / "photo.png"), spread.astype(np.uint8))
    return tmp_path / "photo.png"


@pytest.mark.slow
@pytest.mark.parametrize("target", SUFFIXES)
def test_every_backend_enlarges_alike(
    target: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if target == "tensorrt":  # the stand-in's engine runs what the file says
        install(monkeypatch, "10.3.0")
    artifact = tmp_path / f"sr{SUFFIXES[target]}"
    export = ("export", "--model", MODEL, "--target", target, "--size", "64x64", "--offline")
    made = evit(*export, "--precision", "fp32", "--out", artifact, "--no-verify")
    assert made.exit_code == 0, made.output
    pictures = []
    for name, model in (("theirs", artifact), ("ours", MODEL)):
        how = ("--backend", "torch", "--tile", "64") if model is MODEL else ()
        out = tmp_path / f"{name}.png"
        command = ("upscale", photo, "--model", model, "--out", out, "--threads", 1, "--offline")
        done = evit(*command, "--json", *how)
        assert done.exit_code == 0, done.output
        row = json.loads(done.stdout.splitlines()[0])
        assert max(row["tile_hw"]) <= 64 and row["tiles"] > 1
        pictures.append(read_image(out)[0].astype(int))
    assert pictures[0].shape == (180, 260, 3)
    apart = np.abs(pictures[0] - pictures[1])  # tiles of other sizes show the model other things
    assert apart.mean() < 0.05 and apart.max() <= 1
