"""Attention as people write it, in one layer of a transformer."""

from __future__ import annotations

import torch
from network_parts import CLASSES
from torch import Tensor, nn
from torch.nn import functional

WIDTH, HEADS = 12, 3


class Attention(nn.Module):
    """Queries, keys and values of layers of their own; subclasses lay them out and mix them."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = HEADS, (WIDTH // HEADS) ** -0.5
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.heads(layer(x)) for layer in (self.q, self.k, self.v))
        return self.out(self.mixed(q, k, v).transpose(1, 2).flatten(2))

    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.num_heads, -1)).transpose(1, 2)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, scale=self.scale)


class ByProducts(Attention):
    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return (self.scale * q @ k.transpose(-2, -1)).softmax(-1) @ v


class ByEinsum(Attention):
    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.einsum("bhtd,bhsd->bhts", q, k) * self.scale
        return torch.einsum("bhts,bhsd->bhtd", weights.softmax(-1), v)


class OfHeadWidth(ByProducts):
    """The width of a head is an attribute, too."""

    def __init__(self) -> None:
        super().__init__()
        self.head_dim = WIDTH // HEADS

    def heads(self, x: Tensor) -> Tensor:
        shape = (x.shape[0], x.shape[1], self.num_heads, self.head_dim)
        return x.view(shape).transpose(1, 2)


class NormalisedHeads(ByProducts):
    """Queries and keys are normalised in every head."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH // HEADS)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return super().mixed(self.norm(q), self.norm(k), v)


class Temperature(ByProducts):
    """A factor and a table of biases for every head."""

    def __init__(self) -> None:
        super().__init__()
        self.factor, self.table = nn.Parameter(torch.ones(HEADS, 1, 1)), nn.Embedding(31, HEADS)
        places = torch.arange(16)
        self.register_buffer("offsets", places[:, None] - places[None] + 15)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        bias = self.table.weight[self.offsets].permute(2, 0, 1)
        return (q @ k.transpose(-2, -1) * self.factor + bias).softmax(-1) @ v


class Fused(ByProducts):
    """One layer for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        del self.q, self.k, self.v

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(x).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self.mixed(*parts).transpose(1, 2).flatten(2))


class OneKey(ByProducts):
    """All heads share their keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.k, self.v = nn.Linear(WIDTH, WIDTH // HEADS), nn.Linear(WIDTH, WIDTH // HEADS)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.heads(self.q(x)), self.k(x)[:, None], self.v(x)[:, None]
        return self.out(self.mixed(q, k, v).transpose(1, 2).flatten(2))


class UnscaledWidth(Attention):
    """The factor of the products follows the width of the queries."""

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v)


class HeadsInCode(Attention):
    def heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (3, -1)).transpose(1, 2)


def of_torch() -> nn.Module:
    """Return torch's own, which is asked for weights that nobody reads."""
    return nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)


class Layer(nn.Module):
    """Patches as tokens, a layer with an attention, the mean of the tokens."""

    def __init__(self, attention: nn.Module, colours: int = 3) -> None:
        super().__init__()
        self.patch = nn.Conv2d(colours, WIDTH, 2, 2)
        self.place = nn.Parameter(torch.rand(1, 16, WIDTH))
        self.norm, self.attention = nn.LayerNorm(WIDTH), attention
        self.given = 3 if isinstance(attention, nn.MultiheadAttention) else 1
        self.up, self.down = nn.Linear(WIDTH, 20), nn.Linear(20, WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.place
        inner = self.norm(tokens)
        mixed = self.attention(*self.given * (inner,))
        tokens = tokens + (mixed[0] if isinstance(mixed, tuple) else mixed)
        return self.head((tokens + self.down(functional.gelu(self.up(tokens)))).mean(1))
