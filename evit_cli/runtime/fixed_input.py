"""What sessions over artifacts share: the input as the file wants it, and outputs as NCHW."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.runtime.description import Description
from evit_cli.types import ImageSize, Task, TensorSpec

Array = npt.NDArray[Any]


def image_spec(description: Description) -> TensorSpec:
    """What a session over this artifact takes: uint8 (B, H, W, 3), whatever the file takes.

    Fewer images than B are taken too; the rest of the batch is filled up.
    """
    space = (None, None) if description.largest_hw else tuple(description.size_hw)
    return TensorSpec("image", (description.batch, *space, 3), "uint8")


def output_name(task: Task) -> str:
    """What a session, and the graph in an artifact, call their one output."""
    return "upscaled" if task is Task.SUPERRES else "logits"


def size_range(description: Description) -> tuple[ImageSize, ImageSize] | None:
    """Smallest and largest input size of an artifact with free sizes, None of any other."""
    largest = description.largest_hw
    return None if largest is None else (description.size_hw, largest)


def check_image(image: Array, description: Description) -> None:
    """Refuse an image that the artifact cannot take.

    Raises:
        ValueError: shape or dtype is not that of `image_spec`.
        EvitError: the size is out of the artifact's range.
    """
    spec = image_spec(description)
    fits = (
        image.ndim == 4
        and 1 <= image.shape[0] <= description.batch
        and all(a in (None, b) for a, b in zip(spec.shape[1:], image.shape[1:], strict=True))
    )
    if not fits or image.dtype != np.uint8:
        raise ValueError(f"image must be {spec.shape} uint8, got {image.shape} {image.dtype}")
    largest, smallest = description.largest_hw, description.size_hw
    if largest is None:
        return
    stride = description.info.preprocess.stride
    for side, low, high in zip(image.shape[1:3], smallest, largest, strict=True):
        if not low <= side <= high or side % stride:
            raise EvitError(
                f"this artifact takes {smallest} to {largest} in steps of {stride}, not "
                f"{image.shape[1]}x{image.shape[2]}",
                hint="choose another --size, or export again with a larger --max-size",
            )


def as_stored(image: Array, description: Description) -> Array:
    """A checked uint8 (B, H, W, 3) image as the artifact's whole batch, layout and dtype."""
    missing = description.batch - len(image)
    if missing:
        image = np.concatenate([image, np.repeat(image[-1:], missing, axis=0)])
    if description.layout == "NCHW":
        image = image.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(image, dtype=np.dtype(description.dtype))


def expect_input(spec: TensorSpec, description: Description, path: object) -> None:
    """Compare a file's input with what its description says.

    Raises:
        EvitError: they differ.
    """
    expected = description.input_shape
    same = len(spec.shape) == len(expected) and all(
        None in (a, b) or a == b for a, b in zip(spec.shape, expected, strict=True)
    )
    if not same or spec.dtype != description.dtype:
        raise EvitError(
            f"{path} takes {spec.dtype} {spec.shape}, and its description says "
            f"{description.dtype} {expected}",
            hint="export it again",
        )
