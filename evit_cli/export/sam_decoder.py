"""The mask decoder as a converter gets it: the model's own, with the parts that graphs dislike.

- The places of the embedding's pixels are a constant.
- Norms take the form that float16 can hold, where it may be computed in.
- Points with label -2 are absent, so that arrays of a fixed length can be filled up. Label -1, with
  which that is usually done, is a learnt token that changes the masks.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from evit_cli.export.sam_norms import replace_norms
from evit_cli.models.precision import to_half
from evit_cli.models.sam.decoder import SamDecoder
from evit_cli.models.sam.prompts import PointPlaces, PromptEncoder
from evit_cli.runtime.sam_part import SamPart


class GridPlaces(nn.Module):
    """`PointPlaces.of_grid` as a constant.

    Args:
        source: the model's.
    """

    grid: Tensor

    def __init__(self, source: PointPlaces) -> None:
        super().__init__()
        with torch.no_grad():
            self.register_buffer("grid", source.of_grid().detach().clone())

    def of_grid(self, _side: int) -> Tensor:
        """(1, dim, 64, 64)."""
        return self.grid


class LoweredPrompts(nn.Module):
    """A `PromptEncoder` that gives what the decoder computes in.

    Args:
        source: the model's; its places may become float32 among float16.
        dtype: of what is given.
    """

    def __init__(self, source: PromptEncoder, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.source, self.places = source, GridPlaces(source.places)

    def tokens(self, points_xy: Tensor, labels: Tensor) -> Tensor:
        """(P, N, 2) and (P, N) float32 -> (P, N, dim)."""
        return self.source.tokens(points_xy, labels).to(self.dtype)

    def map(self, mask_input: Tensor, has_mask: Tensor) -> Tensor:
        """(P, 1, 256, 256) and (P,) float32 -> (P, dim, 64, 64)."""
        return self.source.map(mask_input.to(self.dtype), has_mask)


class DecoderGraph(nn.Module):
    """A decoder for a converter, float32 in and out.

    Args:
        source: the model's; it is copied, not changed.
        dtype: of the arithmetic.
        scaled_norms: take the norms that float16 can hold.

    Attributes:
        islands: names of the layers that stay float32.
    """

    def __init__(
        self, source: SamDecoder, *, dtype: torch.dtype = torch.float32, scaled_norms: bool = False
    ) -> None:
        super().__init__()
        self.dtype = dtype
        decoder = copy.deepcopy(source).float().eval().requires_grad_(False)
        decoder.takes_absent = True
        if scaled_norms:
            replace_norms(decoder)
        decoder.add_module("prompts", LoweredPrompts(decoder.prompts, dtype))
        self.islands = to_half(decoder) if dtype is torch.float16 else ()
        self.decoder = decoder

    def forward(
        self,
        embedding: Tensor,
        points_xy: Tensor,
        labels: Tensor,
        mask_input: Tensor,
        has_mask: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """As `SamDecoder.forward`, with one embedding and any number of prompts."""
        image = embedding.to(self.dtype)
        masks, iou = self.decoder(image, points_xy, labels, mask_input, has_mask)
        return masks.float(), iou.float()


def sample_prompts(part: SamPart) -> tuple[Tensor, ...]:
    """Inputs of a decoder for tracing: at least two of what is free, since one would be fixed."""
    prompts, points = (
        low if low == high else max(low, 2) for low, high in (part.prompts, part.points)
    )
    return tuple(torch.zeros(shape) for shape in part.shapes_at(prompts, points).values())


def free_sides(part: SamPart) -> dict[str, dict[int, torch.export.Dim]]:
    """By input, the axes of a decoder that are not fixed."""
    free = {
        axis: torch.export.Dim(name, min=low, max=high)
        for axis, (name, (low, high)) in enumerate(
            (("prompts", part.prompts), ("points", part.points))
        )
        if low != high
    }
    only_prompts = {axis: dim for axis, dim in free.items() if axis == 0}
    return {
        "embedding": {},
        "points_xy": free,
        "labels": free,
        "mask_input": only_prompts,
        "has_mask": only_prompts,
    }
