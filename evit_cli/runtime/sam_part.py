"""What half of a SAM model, as an artifact, says of itself: which half, and what both agree on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evit_cli.types import TensorSpec

ENCODER, DECODER = "encoder", "decoder"
DECODER_INPUTS = ("embedding", "points_xy", "labels", "mask_input", "has_mask")
DECODER_OUTPUTS = ("masks", "iou")
_MASKS = 4
_PARTS = (ENCODER, DECODER)


@dataclass(frozen=True)
class SamPart:
    """One half of a promptable segmentation model.

    Attributes:
        part: "encoder" or "decoder".
        embedding: shape of one image's embedding, (C, h, w).
        frame: side in pixels of the square that prompts are given in.
        mask_side: of the masks, which cover the frame; those that come out and those that go in.
        mask_threshold: a mask is where its logits are above this.
        prompts: of a decoder: fewest and most prompts per run; equal where one number is taken.
        points: of a decoder: fewest and most points per prompt. Label -2 fills up what is missing.
    """

    part: str
    embedding: tuple[int, int, int]
    frame: int = 1024
    mask_side: int = 256
    mask_threshold: float = 0.0
    prompts: tuple[int, int] = (1, 1)
    points: tuple[int, int] = (1, 1)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Of a decoder: names, shapes (None where free) and dtypes, in order."""
        p, n = _fixed(self.prompts), _fixed(self.points)
        side = self.mask_side
        shapes = ((1, *self.embedding), (p, n, 2), (p, n), (p, 1, side, side), (p,))
        named = zip(DECODER_INPUTS, shapes, strict=True)
        return tuple(TensorSpec(name, shape, "float32") for name, shape in named)

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Of either half."""
        if self.part == ENCODER:
            return (TensorSpec("embedding", (1, *self.embedding), "float32"),)
        p = _fixed(self.prompts)
        shapes = ((p, _MASKS, self.mask_side, self.mask_side), (p, _MASKS))
        named = zip(DECODER_OUTPUTS, shapes, strict=True)
        return tuple(TensorSpec(name, shape, "float32") for name, shape in named)

    def shapes_at(self, prompts: int, points: int) -> dict[str, tuple[int, ...]]:
        """The shapes of a decoder's inputs for so many prompts and points."""
        side = self.mask_side
        free = {"points_xy": (prompts, points, 2), "labels": (prompts, points)}
        free |= {"mask_input": (prompts, 1, side, side), "has_mask": (prompts,)}
        return {"embedding": (1, *self.embedding), **free}

    def document(self) -> dict[str, Any]:
        """For the artifact."""
        common = {
            "part": self.part,
            "embedding": list(self.embedding),
            "frame": self.frame,
            "mask_side": self.mask_side,
            "mask_threshold": self.mask_threshold,
        }
        if self.part == ENCODER:
            return common
        return {**common, "prompts": list(self.prompts), "points": list(self.points)}


def read_part(raw: Mapping[str, Any]) -> SamPart:
    """From `SamPart.document`.

    Raises:
        ValueError: there is no such part.
        KeyError: something is missing; TypeError where it is garbled.
    """
    part = str(raw["part"])
    if part not in _PARTS:
        raise ValueError(f"the part '{part}'")
    channels, height, width = raw["embedding"]
    return SamPart(
        part,
        (int(channels), int(height), int(width)),
        frame=int(raw["frame"]),
        mask_side=int(raw["mask_side"]),
        mask_threshold=float(raw["mask_threshold"]),
        prompts=_range(raw.get("prompts", (1, 1))),
        points=_range(raw.get("points", (1, 1))),
    )


def _range(raw: Any) -> tuple[int, int]:
    low, high = raw
    return int(low), int(high)


def _fixed(limits: tuple[int, int]) -> int | None:
    return limits[0] if limits[0] == limits[1] else None
