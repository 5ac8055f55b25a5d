"""The choice among equal forms of a model; no torch is imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Attention = Literal["means", "sums", "tokens", "blocks"]


@dataclass(frozen=True)
class Form:
    """Which equal forms of the model's parts to take.

    Attributes:
        attention: "means" as in the model, whose every intermediate float16 can hold; "sums", the
            fewest operators; "tokens", the fewest passes (`TokenAttention`; float32, batch 1);
            "blocks", all heads in one product (`BlockAttention`; float32 or bfloat16).
        strips: wide blocks in strips that fit the cache; for runtimes that run operator by
            operator on a CPU.
        channels_last: the input is (B, H, W, 3), otherwise (B, 3, H, W).
        uint8: the input is uint8, otherwise float32; 0 to 255 in either.
        outputs_last: classes are the last dimension of the output.
        free_size: height and width are not fixed.
        whole_rows: the mean is subtracted from whole rows of channels-last input, since CPUs are
            slow over three channels at a time; delegates for phones expect images.
        scaled_norms: layer norms of a SAM model whose every intermediate float16 can hold.
    """

    attention: Attention = "means"
    strips: bool = False
    channels_last: bool = True
    uint8: bool = True
    outputs_last: bool = False
    free_size: bool = False
    whole_rows: bool = False
    scaled_norms: bool = False
