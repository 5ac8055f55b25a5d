"""Linear attention against the naive quadratic form, and its behaviour in float16."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evit_cli.models.attention import (
    FLOOR,
    MultiScaleLinearAttention,
    relu_linear_attention,
)


def naive_attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Paper Eq. (2), O(N^2), float64: similarities first, then the normalised sum."""
    q, k, v = q.double(), k.double(), v.double()
    similarity = torch.relu(q).transpose(-1, -2) @ torch.relu(k)  # (..., N queries, N keys)
    total = similarity.sum(-1, keepdim=True)
    weights = torch.where(total > 0, similarity / total, torch.zeros(()).double())
    return (weights @ v.transpose(-1, -2)).transpose(-1, -2)


def qkv(*shape: int, seed: int = 0, scale: float = 1.0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(scale * torch.randn(*shape, generator=generator) for _ in range(3))


@pytest.mark.parametrize("n", [1, 7, 16, 64, 1000])
@pytest.mark.parametrize("dim", [16, 32])
def test_equals_the_naive_form(n: int, dim: int) -> None:
    q, k, v = qkv(2, 3, dim, n)
    out = relu_linear_attention(q, k, v)
    assert (out.double() - naive_attention(q, k, v)).abs().max() <= 1e-5


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 80),
    dim=st.sampled_from([4, 16, 32]),
    scale=st.floats(1e-2, 1e3),
    seed=st.integers(0, 10_000),
)
def test_equals_the_naive_form_at_any_scale(n: int, dim: int, scale: float, seed: int) -> None:
    q, k, v = qkv(1, 2, dim, n, seed=seed, scale=scale)
    # A query that hardly agrees with any key is cut off by the floor of the denominator.
    relative = torch.relu(k).mean(-1, keepdim=True)
    relative = relative / relative.amax(-2, keepdim=True).clamp(min=1e-30)
    agree = (torch.relu(q) * relative).sum(-2, keepdim=True) > 2 * FLOOR
    error = (relu_linear_attention(q, k, v).double() - naive_attention(q, k, v)).abs()
    assert (error * agree).max() <= 1e-5 * float(v.abs().max())


@pytest.mark.parametrize("scale", [1.0, 20.0, 1000.0])
@pytest.mark.parametrize("n", [64, 32768])
def test_float16_is_finite_and_close_whatever_the_scale(scale: float, n: int) -> None:
    q, k, v = qkv(1, 4, 16, n, scale=scale)
    exact = relu_linear_attention(q.double(), k.double(), v.double())
    half = relu_linear_attention(q.half(), k.half(), v.half())
    assert half.dtype == torch.float16
    assert torch.isfinite(half).all()
    # Neighbouring float16 numbers differ by 2^-10 of their size; a few roundings add up.
    assert (half.double() - exact).abs().max() <= 0.01 * v.abs().max()


def test_the_naive_float16_sums_would_overflow() -> None:
    """The reason for the form in use: Eq. (3) literally, on the same numbers, is not finite."""
    q, k, v = (tensor.half() for tensor in qkv(1, 4, 16, 32768, scale=20.0))
    context = v @ torch.relu(k).transpose(-1, -2)
    assert not torch.isfinite(context @ torch.relu(q)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_silent_queries_and_keys_give_zero_not_nan(dtype: torch.dtype) -> None:
    q, k, v = (tensor.to(dtype) for tensor in qkv(1, 1, 16, 9))
    q[..., 3] = -1
    out = relu_linear_attention(q, k, v)
    assert torch.isfinite(out).all()
    assert (out[..., 3] == 0).all()
    assert (relu_linear_attention(q, -k.abs(), v) == 0).all()


def test_output_is_bounded_by_the_values() -> None:
    q, k, v = qkv(1, 2, 16, 500, scale=50.0)
    assert relu_linear_attention(q, k, v).abs().max() <= v.abs().max() * 1.0001


def test_gradients_reach_queries_keys_and_values() -> None:
    q, k, v = (tensor.double().requires_grad_() for tensor in qkv(1, 1, 4, 6))
    assert torch.autograd.gradcheck(relu_linear_attention, (q, k, v))


def test_module_keeps_the_shape_and_checks_its_heads() -> None:
    module = MultiScaleLinearAttention(32, 16, (5,), 1e-5)
    assert module(torch.randn(2, 32, 5, 7)).shape == (2, 32, 5, 7)
    with pytest.raises(ValueError, match="30 channels"):
        MultiScaleLinearAttention(30, 16, (5,), 1e-5)
