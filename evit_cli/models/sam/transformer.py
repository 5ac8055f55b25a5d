"""The two-way transformer between tokens and pixels (arXiv 2304.02643, Fig. 14)."""

from __future__ import annotations

from torch import Tensor, nn

_NORM_EPS = 1e-6  # of every norm in the published models


class Attention(nn.Module):
    """Attention with separate projections, computed in fewer channels if asked for.

    Args:
        dim: channels of queries, keys and values.
        heads: how many share the inner channels.
        downsample: the inner channels are `dim / downsample`.
    """

    def __init__(self, dim: int, heads: int, *, downsample: int = 1) -> None:
        super().__init__()
        inner = dim // downsample
        if inner % heads:
            raise ValueError(f"{inner} channels do not divide into {heads} heads")
        self.heads = heads
        self.query = nn.Linear(dim, inner)
        self.key = nn.Linear(dim, inner)
        self.value = nn.Linear(dim, inner)
        self.out = nn.Linear(inner, dim)

    def _split(self, x: Tensor) -> Tensor:
        """(P, N, inner) -> (P, heads, N, inner / heads)."""
        p, n, inner = x.shape
        return x.reshape(p, n, self.heads, inner // self.heads).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Queries (P, Nq, dim), keys and values (P or 1, Nk, dim) -> (P, Nq, dim).

        `bias`, (P, 1, 1, Nk), is added to what goes into the softmax.
        """
        q, k = self._split(self.query(query)), self._split(self.key(key))
        v = self._split(self.value(value))
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1) @ v
        p, _, n, _ = mixed.shape
        return self.out(mixed.transpose(1, 2).reshape(p, n, -1))  # type: ignore[no-any-return]


class TwoWayLayer(nn.Module):
    """Tokens attend to themselves, to the pixels, pass an MLP, and the pixels attend to them.

    Args:
        dim: channels.
        heads: of each attention.
        mlp_width: hidden channels of the MLP.
        downsample: of the attention between tokens and pixels.
        first: the first layer's self-attention replaces the tokens, without places added.
    """

    def __init__(
        self, dim: int, heads: int, *, mlp_width: int, downsample: int, first: bool
    ) -> None:
        super().__init__()
        self.first = first
        self.self_attention = Attention(dim, heads)
        self.norm_self = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.to_pixels = Attention(dim, heads, downsample=downsample)
        self.norm_to_pixels = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_width), nn.ReLU(), nn.Linear(mlp_width, dim))
        self.norm_mlp = nn.LayerNorm(dim, eps=_NORM_EPS)
        self.to_tokens = Attention(dim, heads, downsample=downsample)
        self.norm_to_tokens = nn.LayerNorm(dim, eps=_NORM_EPS)

    def forward(
        self, tokens: Tensor, pixels: Tensor, given: Tensor, places: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """One exchange.

        Args:
            tokens: (P, T, dim).
            pixels: (P or 1, 4096, dim).
            given: the tokens as they came in, added wherever tokens are compared.
            places: (1, 4096, dim), added wherever pixels are compared.
            bias: (P, 1, 1, T), very negative where a token is absent.
        """
        if self.first:
            tokens = self.self_attention(tokens, tokens, tokens, bias)
        else:
            placed = tokens + given
            tokens = tokens + self.self_attention(placed, placed, tokens, bias)
        tokens = self.norm_self(tokens)
        found = self.to_pixels(tokens + given, pixels + places, pixels, None)
        tokens = self.norm_to_pixels(tokens + found)
        tokens = self.norm_mlp(tokens + self.mlp(tokens))
        found = self.to_tokens(pixels + places, tokens + given, tokens, bias)
        return tokens, self.norm_to_tokens(pixels + found)


class TwoWayTransformer(nn.Module):
    """Some two-way layers, then the tokens look at the pixels once more."""

    def __init__(
        self, dim: int, heads: int, *, mlp_width: int, depth: int, downsample: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayLayer(dim, heads, mlp_width=mlp_width, downsample=downsample, first=i == 0)
            for i in range(depth)
        )
        self.last = Attention(dim, heads, downsample=downsample)
        self.norm = nn.LayerNorm(dim, eps=_NORM_EPS)

    def forward(
        self, tokens: Tensor, pixels: Tensor, places: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (P, T, dim) and pixels (P or 1, 4096, dim) -> both after the exchange."""
        given = tokens
        for layer in self.layers:
            tokens, pixels = layer(tokens, pixels, given, places, bias)
        found = self.last(tokens + given, pixels + places, pixels, None)
        return self.norm(tokens + found), pixels
