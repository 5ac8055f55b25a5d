"""EfficientViT on edge devices. Importing this package imports nothing heavy.

>>> import evit_cli
>>> segmenter = evit_cli.Segmenter.load("seg-b0-cityscapes")  # doctest: +SKIP
>>> result = segmenter(image_rgb_u8)                          # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from evit_cli.inference.classifier import ImageClassifier
    from evit_cli.inference.sam_predictor import SamPredictor
    from evit_cli.inference.segmenter import Segmenter
    from evit_cli.inference.upscaler import Upscaler
    from evit_cli.runtime.open import open_session
    from evit_cli.weights.load import load_model

_HOMES = {
    "ImageClassifier": "evit_cli.inference.classifier",
    "SamPredictor": "evit_cli.inference.sam_predictor",
    "Segmenter": "evit_cli.inference.segmenter",
    "Upscaler": "evit_cli.inference.upscaler",
    "load_model": "evit_cli.weights.load",
    "open_session": "evit_cli.runtime.open",
}

__all__ = [
    "ImageClassifier",
    "SamPredictor",
    "Segmenter",
    "Upscaler",
    "__version__",
    "load_model",
    "open_session",
]


def __getattr__(name: str) -> Any:
    """Import the public names on first use (PEP 562)."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'evit_cli' has no attribute '{name}'")
