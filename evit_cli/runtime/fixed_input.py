"""What sessions over artifacts share: inputs as the file wants them, and outputs as NCHW."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evit_cli.errors import EvitError
from evit_cli.runtime.description import Description
from evit_cli.runtime.sam_part import DECODER, SamPart
from evit_cli.types import ImageSize, Task, TensorSpec

Array = npt.NDArray[Any]


def image_spec(description: Description) -> TensorSpec:
    """What a session over this artifact takes: uint8 (B, H, W, 3), whatever the file takes.

    Fewer images than B are taken too; the rest of the batch is filled up. A SAM encoder takes
    float32: its padding has the mean colour, which is no whole number.
    """
    space = (None, None) if description.largest_hw else tuple(description.size_hw)
    dtype = "uint8" if description.sam is None else "float32"
    return TensorSpec("image", (description.batch, *space, 3), dtype)


def decoder_of(description: Description) -> SamPart | None:
    """The part that an artifact is, where that is a SAM decoder, which takes no image."""
    sam = description.sam
    return sam if sam is not None and sam.part == DECODER else None


def input_specs(description: Description) -> tuple[TensorSpec, ...]:
    """What a session over this artifact takes."""
    decoder = decoder_of(description)
    return (image_spec(description),) if decoder is None else decoder.inputs


def output_names(description: Description) -> tuple[str, ...]:
    """What a session over this artifact gives, in the order of the graph."""
    if description.sam is not None:
        return tuple(spec.name for spec in description.sam.outputs)
    return (output_name(description.info.task),)


def stored_inputs(inputs: Mapping[str, Array], description: Description) -> dict[str, Array]:
    """A session's inputs, checked, in the artifact's batch, layout and dtypes.

    Raises:
        ValueError: a shape or dtype is not that of `input_specs`.
        EvitError: an image's size, or the number of prompts or points, is out of range.
    """
    decoder = decoder_of(description)
    if decoder is None:
        image = inputs["image"]
        check_image(image, description)
        return {"image": as_stored(image, description)}
    prompts, points = _prompts(inputs, decoder)
    shapes = decoder.shapes_at(prompts, points)
    for name, shape in shapes.items():
        found = inputs[name]
        if found.shape != shape or found.dtype != np.float32:
            raise ValueError(f"{name} must be {shape} float32, got {found.shape} {found.dtype}")
    return {name: np.ascontiguousarray(inputs[name]) for name in shapes}


def rows_of(inputs: Mapping[str, Array]) -> int:
    """How many images, or prompts, there are: that many rows of an output mean something."""
    return len(inputs["image"] if "image" in inputs else inputs["points_xy"])


def _prompts(inputs: Mapping[str, Array], decoder: SamPart) -> tuple[int, int]:
    """How many prompts there are, and points of each; refused where the decoder takes others."""
    labels = inputs["labels"]
    if labels.ndim != 2:
        raise ValueError(f"labels must be (prompts, points), got {labels.shape}")
    limits = (("prompts", decoder.prompts), ("points per prompt", decoder.points))
    for count, (what, (low, high)) in zip(labels.shape, limits, strict=True):
        if not low <= count <= high:
            several = f"{low} to {high}" if low != high else f"{low}"
            raise EvitError(
                f"this decoder takes {several} {what}, not {count}",
                hint="export it again with other --prompts or --points",
            )
    return labels.shape[0], labels.shape[1]


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
    if not fits or image.dtype != spec.dtype:
        raise ValueError(
            f"image must be {spec.shape} {spec.dtype}, got {image.shape} {image.dtype}"
        )
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
    """A checked (B, H, W, 3) image as the artifact's whole batch, layout and dtype."""
    missing = description.batch - len(image)
    if missing:
        image = np.concatenate([image, np.repeat(image[-1:], missing, axis=0)])
    if description.layout == "NCHW":
        image = image.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(image, dtype=np.dtype(description.dtype))


def expect_inputs(found: Sequence[TensorSpec], description: Description, path: object) -> None:
    """Compare a file's inputs with what its description says.

    Raises:
        EvitError: they differ.
    """
    decoder = decoder_of(description)
    expected = (
        {"image": TensorSpec("image", description.input_shape, description.dtype)}
        if decoder is None
        else {spec.name: spec for spec in decoder.inputs}
    )
    own = (
        {"image": found[0]}
        if decoder is None and len(found) == 1
        else {spec.name: spec for spec in found}
    )
    if set(own) != set(expected):
        raise EvitError(
            f"{path} takes {_listed(own)}, and its description says {_listed(expected)}",
            hint="export it again",
        )
    for name, spec in own.items():
        wanted = expected[name]
        same = len(spec.shape) == len(wanted.shape) and all(
            None in (a, b) or a == b for a, b in zip(spec.shape, wanted.shape, strict=True)
        )
        if not same or spec.dtype != wanted.dtype:
            raise EvitError(
                f"{path} takes {spec.dtype} {spec.shape}, and its description says "
                f"{wanted.dtype} {wanted.shape}",
                hint="export it again",
            )


def _listed(specs: Mapping[str, TensorSpec]) -> str:
    return ", ".join(specs) or "nothing"
