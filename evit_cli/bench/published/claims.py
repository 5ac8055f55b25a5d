"""The speed-ups that the paper states in words, each with the two lines that it compares."""

from __future__ import annotations

from dataclasses import dataclass

from evit_cli.bench.published.entry import A100, NANO, ORIN
from evit_cli.types import ImageSize


@dataclass(frozen=True)
class Claim:
    """One stated speed-up.

    Attributes:
        table: where its numbers stand.
        device: profile of the device it holds for.
        slower: a peer.
        faster: a model of ours.
        times: the stated ratio of their latencies, or of throughputs.
        size_hw: of the lines, where a table has more than one size.
    """

    table: str
    device: str
    slower: str
    faster: str
    times: float
    size_hw: ImageSize | None = None


CLAIMS = (
    Claim("table2", A100, "efficientnetv2-l", "cls-l2-r384", 2.6),
    Claim("table3", ORIN, "segformer-b5", "seg-l1-cityscapes", 13.9),
    Claim("table3", ORIN, "segnext-l", "seg-l2-cityscapes", 6.2),
    Claim("table3", ORIN, "segformer-b3", "seg-b2-cityscapes", 8.8),
    Claim("table3", ORIN, "segnext-t", "seg-b1-cityscapes", 3.8),
    Claim("table3", A100, "segformer-b5", "seg-l1-cityscapes", 10.2),
    Claim("table3", A100, "segnext-l", "seg-l2-cityscapes", 3.9),
    Claim("table4", NANO, "segformer-b1-ade20k", "seg-b1-ade20k", 3.5),
    Claim("table4", ORIN, "segnext-s-ade20k", "seg-b2-ade20k", 2.4),
    Claim("table5", A100, "restormer", "efficientvit-sr-w075", 6.4, ImageSize(512, 512)),
    Claim("table5", A100, "restormer", "efficientvit-sr-w075", 5.4, ImageSize(160, 240)),
    Claim("sam", A100, "sam-vit-h", "sam-l2", 48.9),
    Claim("sam", A100, "sam-vit-h", "sam-xl1", 16.5),
)
"""Every stated speed-up whose two lines can be told."""
