"""The published B0 checkpoint on a real street frame: labels, and float16 attention."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from evit_cli.models import attention
from evit_cli.models.attention import MultiScaleLinearAttention, relu_linear_attention
from evit_cli.weights.load import load_model
from tests.helpers.paths import shared_dir

pytestmark = [pytest.mark.shared, pytest.mark.slow]
Labels = np.ndarray


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return load_model(
        None, weights=shared_dir("data", "weights", "efficientvit_seg_b0_cityscapes.pt")
    ).model


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    path = shared_dir("data", "frames", "cityscapes_frankfurt_000294.png")
    rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return (x - mean) / std


def labels(model: torch.nn.Module, image: torch.Tensor) -> Labels:
    with torch.inference_mode():
        logits = model(image)
        assert torch.isfinite(logits).all()
        full = F.interpolate(logits, size=image.shape[-2:], mode="bicubic", align_corners=False)
        return full.argmax(1)[0].numpy()


@pytest.fixture(scope="module")
def float32_labels(model: torch.nn.Module, image: torch.Tensor) -> Labels:
    return labels(model, image)


@pytest.fixture
def half_attention(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """Runs every attention in float16 and collects how far the naive form is from float32."""
    largest: list[float] = []

    def half(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = relu_linear_attention(q.half(), k.half(), v.half())
        assert torch.isfinite(out).all()
        largest.append(float(v.abs().max()))
        return out.to(q.dtype)

    monkeypatch.setattr(attention, "relu_linear_attention", half)
    yield largest


def test_label_map_equals_the_published_one(float32_labels: Labels) -> None:
    path = shared_dir("parity", "fixtures", "seg-b0-cityscapes_frankfurt_trainids.png")
    assert (float32_labels == cv2.imread(str(path), cv2.IMREAD_UNCHANGED)).mean() >= 0.9999


@pytest.mark.parametrize("scale", [1, 20])
def test_float16_attention_keeps_the_classes(
    model: torch.nn.Module,
    image: torch.Tensor,
    float32_labels: Labels,
    half_attention: list[float],
    scale: int,
) -> None:
    """Queries, keys and values `scale` times larger, undone behind the attention."""
    scaled = copy.deepcopy(model)
    for module in scaled.modules():
        if isinstance(module, MultiScaleLinearAttention):
            module.qkv.weight.data *= scale
            module.proj.conv.weight.data /= scale
    kept = (labels(scaled, image) == float32_labels).mean()
    assert len(half_attention) == 4
    assert max(half_attention) > 5 * scale  # the activations really are of that size
    assert kept >= 0.9999


def test_real_activations_agree_with_the_naive_oracle(
    model: torch.nn.Module, image: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The O(N^2) float64 form on what the attention layers really see, at 512x1024."""
    errors: list[float] = []

    def checked(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = relu_linear_attention(q, k, v)
        pairs = torch.relu(q.double()).transpose(-1, -2) @ torch.relu(k.double())
        total = pairs.sum(-1, keepdim=True)
        expected = torch.where(total > 0, pairs / total, total) @ v.double().transpose(-1, -2)
        error = (expected.transpose(-1, -2) - out).abs().max()
        errors.append(float(error / v.abs().max()))
        return out

    monkeypatch.setattr(attention, "relu_linear_attention", checked)
    with torch.inference_mode():
        model(F.interpolate(image, scale_factor=0.5, mode="bilinear"))
    assert len(errors) == 4
    assert max(errors) <= 1e-5
