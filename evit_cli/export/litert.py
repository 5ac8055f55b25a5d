"""From a PyTorch model to a .tflite file, through litert-torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from evit_cli.errors import EXIT_VERIFICATION, EvitError, require
from evit_cli.models.fuse import fuse
from evit_cli.runtime.description import Description, description_path, encode_description
from evit_cli.runtime.litert_session import LitertSession
from evit_cli.types import ImageSize, ModelInfo, Precision, Preprocess

TOLERANCE = 1e-3
"""Largest difference from PyTorch that is accepted, in standard deviations of the output."""


class ImageModel(nn.Module):
    """A model with its normalisation: uint8 NHWC in, float32 channels-last out.

    Args:
        model: fused, in evaluation mode.
        preprocess: mean and deviation.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, preprocess: Preprocess) -> None:
        super().__init__()
        self.model = model
        scale = 1 / (255 * torch.tensor(preprocess.std_rgb))
        self.register_buffer("scale", scale)
        self.register_buffer("shift", -255 * scale * torch.tensor(preprocess.mean_rgb))

    def forward(self, image: Tensor) -> Tensor:
        """(1, H, W, 3) uint8 RGB -> (1, h, w, classes) or (1, classes) float32."""
        x = (image.float() * self.scale + self.shift).permute(0, 3, 1, 2)
        out: Tensor = self.model(x)
        return out.permute(0, 2, 3, 1) if out.ndim == 4 else out


def export_litert(model: nn.Module, info: ModelInfo, path: Path, *, size_hw: ImageSize) -> float:
    """Write `path` (.tflite, float32) and its description beside it, and compare with PyTorch.

    Args:
        model: maps normalised RGB (B, 3, H, W) to logits.
        info: its description.
        path: of the artifact.
        size_hw: the artifact's input size.

    Returns:
        The largest difference from PyTorch on random images, in standard deviations of the output.

    Raises:
        EvitError: the artifact's output differs (exit code 3); nothing is left behind.
        MissingDependency: litert-torch is not installed.
    """
    litert = require("litert_torch", extra="export", why="writing a .tflite file")
    wrapped = ImageModel(fuse(model), info.preprocess).eval()
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (1, *size_hw, 3), dtype=np.uint8)
    sample = torch.from_numpy(image)
    temporary = path.with_name(f".{path.stem}.partial.tflite")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        litert.convert(wrapped, (sample,)).export(str(temporary))
        text = encode_description(Description(info, size_hw, Precision.FP32))
        description_path(temporary).write_text(text, "utf-8")
        with torch.inference_mode():
            expected = np.moveaxis(wrapped(sample).numpy(), -1, 1)
        found = LitertSession(temporary).run({"image": image})["logits"]
        difference = float(np.abs(found - expected).max() / expected.std())
        if not difference <= TOLERANCE:
            raise EvitError(
                f"the .tflite file differs from PyTorch by {difference:.2g} deviations",
                exit_code=EXIT_VERIFICATION,
            )
        description_path(temporary).replace(description_path(path))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        description_path(temporary).unlink(missing_ok=True)
    return difference
