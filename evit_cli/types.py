"""Plain value types shared by every room. Nothing heavy is imported here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol


class Task(str, Enum):
    """What a model does."""

    CLASSIFY = "classify"
    SEGMENT = "segment"
    SUPERRES = "superres"
    SAM = "sam"


class Backend(str, Enum):
    """What runs a model."""

    TORCH = "torch"
    ONNX = "onnx"
    TFLITE = "tflite"
    TENSORRT = "tensorrt"
    OPENVINO = "openvino"


class Precision(str, Enum):
    """The number format of a model's arithmetic."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    """Torch only; runtimes that compute float16 files in bfloat16 say so themselves."""
    INT8 = "int8"


EXPORTED = (Precision.FP32, Precision.FP16, Precision.INT8)
"""The precisions of artifacts."""


class ImageSize(NamedTuple):
    """Height and width in pixels, in that order."""

    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> ImageSize:
        """Read "HxW" or one number for a square; both sides 1 to 65535.

        >>> ImageSize.parse("512x1024")
        ImageSize(height=512, width=1024)
        """
        match = re.fullmatch(r"\s*(\d{1,5})(?:\s*[xX]\s*(\d{1,5}))?\s*", text)
        if match:
            height = int(match[1])
            width = int(match[2] or match[1])
            if 1 <= height <= 65535 and 1 <= width <= 65535:
                return cls(height, width)
        raise ValueError(f"'{text}' is not a size: write HEIGHTxWIDTH, for example 512x1024")

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True)
class TensorSpec:
    """Name, shape (None where free) and numpy dtype name of an input or output."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True)
class ClassSet:
    """Class names and their display colours, index by index.

    `colors_rgb` holds one (red, green, blue) triple of 0..255 per class.
    """

    name: str
    classes: tuple[str, ...]
    colors_rgb: tuple[tuple[int, int, int], ...]

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True)
class Preprocess:
    """How an RGB image becomes a model's input.

    Attributes:
        size_hw: the size the model was trained and measured at.
        mean_rgb: subtracted from RGB in 0..1.
        std_rgb: divides what is left.
        interpolation: resize method, "cubic" or "linear".
        crop_ratio: classification only: the centre crop's share of the resized short side.
        stride: the sides of the input are padded to a multiple of this.
    """

    size_hw: ImageSize
    mean_rgb: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std_rgb: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "cubic"
    crop_ratio: float = 1.0
    stride: int = 32


@dataclass(frozen=True)
class ModelInfo:
    """What a model or an artifact says about itself.

    Attributes:
        name: catalog or variant name.
        task: what it does.
        preprocess: how an image becomes its input.
        classes: names and colours of the outputs, None where there are none (SAM).
        licence: SPDX identifier of the weights, empty when unknown.
        source: where the weights came from (file, hub address).
        sha256: of the weights file, empty when there is none.
    """

    name: str
    task: Task
    preprocess: Preprocess
    classes: ClassSet | None = None
    licence: str = ""
    source: str = ""
    sha256: str = ""


class Progress(Protocol):
    """How the library reports what it is doing; `evit_cli.ui.progress` shows it."""

    def start(self, total: int | None, unit: str) -> None:
        """Work begins: `total` units, None if that cannot be known."""

    def advance(self, done: int, **fields: object) -> None:
        """`done` more units are finished; `fields` are values worth showing beside the bar."""

    def close(self) -> None:
        """Work has ended, for whatever reason."""


class NoProgress:
    """A `Progress` that shows nothing."""

    def start(self, total: int | None, unit: str) -> None:
        """Nothing."""

    def advance(self, done: int, **fields: object) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
