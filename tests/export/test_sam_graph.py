"""The forms that a SAM model takes in a graph: norms for float16, the decoder for converters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from evit_cli.export.sam_decoder import DecoderGraph
from evit_cli.export.sam_norms import ScaledLayerNorm, replace_norms
from evit_cli.models.build import build_model
from evit_cli.models.layers import LayerNorm2d
from evit_cli.models.sam.model import Sam
from evit_cli.models.sam.prompts import ABSENT, LOWER_RIGHT, PADDING, POSITIVE, UPPER_LEFT
from evit_cli.models.variants import get_variant


def norm_of(channels: int) -> LayerNorm2d:
    norm = LayerNorm2d(channels)
    generator = torch.Generator().manual_seed(0)
    norm.weight.data = torch.rand(channels, generator=generator) + 0.5
    norm.bias.data = torch.randn(channels, generator=generator)
    return norm.eval()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0, 5e3, 6e4])
def test_the_norm_holds_in_float16_where_the_published_one_overflows(scale: float) -> None:
    norm = norm_of(256)
    x = torch.randn(2, 256, 8, 8, generator=torch.Generator().manual_seed(1))
    x = (x * (scale / x.abs().max())).half()
    with torch.no_grad():
        expected = norm(x.float())
        found = ScaledLayerNorm(norm).half()(x).float()
        plain = norm.half()(x).float()
    assert torch.isfinite(found).all()
    cosine = nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.9999
    if scale >= 5e3:
        assert not torch.isfinite(plain).all() or (plain - expected).abs().max() > 0.1


@pytest.mark.parametrize("kind", ["2d", "last"])
def test_the_norm_is_the_same_in_float32(kind: str) -> None:
    norm: nn.Module = norm_of(32) if kind == "2d" else nn.LayerNorm(32, eps=1e-6)
    x = torch.randn(2, 32, 5, 5) if kind == "2d" else torch.randn(2, 7, 32)
    holder = nn.Sequential(norm)
    with torch.no_grad():
        expected = norm(x)
        replace_norms(holder)
        assert isinstance(holder[0], ScaledLayerNorm)
        assert torch.allclose(holder(x), expected, atol=1e-5)
        silent = holder(torch.zeros_like(x))
    assert torch.isfinite(silent).all()


@pytest.fixture(scope="module")
def small() -> Sam:
    torch.manual_seed(0)
    model = build_model(get_variant("sam-b0")).eval()
    assert isinstance(model, Sam)
    return model


@pytest.mark.parametrize("scaled_norms", [False, True])
def test_the_graph_is_the_decoder(small: Sam, scaled_norms: bool) -> None:
    graph = DecoderGraph(small.decoder, scaled_norms=scaled_norms)
    embedding = torch.randn(1, 128, 64, 64)
    points = torch.tensor([[[100.0, 150], [800, 900], [0, 0]], [[500, 300], [0, 0], [9, 9]]])
    labels = torch.tensor(
        [[UPPER_LEFT, LOWER_RIGHT, ABSENT], [POSITIVE, PADDING, ABSENT]], dtype=torch.float32
    )
    nothing, zero = torch.zeros(2, 1, 256, 256), torch.zeros(2)
    with torch.inference_mode():
        masks, iou = graph(embedding, points, labels, nothing, zero)
        for row in range(2):
            alone = small.decoder(embedding, points[row : row + 1, :2], labels[row : row + 1, :2])
            assert torch.allclose(masks[row], alone[0][0], atol=1e-4)
            assert torch.allclose(iou[row], alone[1][0], atol=1e-4)
    assert not small.decoder.takes_absent  # it is copied, not changed


def test_float16_keeps_places_in_float32(small: Sam) -> None:
    graph = DecoderGraph(small.decoder, dtype=torch.float16, scaled_norms=True)
    exact = DecoderGraph(small.decoder)
    embedding = torch.randn(1, 128, 64, 64)
    points = torch.tensor([[[1001.0, 999.0], [1023.0, 1.0]]])
    labels = torch.tensor([[1.0, 0.0]])
    inputs = (embedding, points, labels, torch.zeros(1, 1, 256, 256), torch.zeros(1))
    with torch.inference_mode():
        found, expected = graph(*inputs)[0], exact(*inputs)[0]
    assert found.dtype == torch.float32
    cosine = nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0)
    assert cosine > 0.999
