"""Where a token stands: added to tokens, to the products of attention, or to keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasplatform.spaces.vit.tokens import Grid

DISTANCE = 14
"""Rows or columns beyond which AutoFormer's relative vectors stay the same."""


class Learned(nn.Module):
    """A vector for each place (ViT, Dosovitskiy et al. 2021).

    without: tokens at the beginning that have none.
    """

    def __init__(self, places: int, width: int, without: int = 0) -> None:
        super().__init__()
        self.without = without
        self.vectors = nn.Parameter(torch.empty(1, places, width))
        nn.init.trunc_normal_(self.vectors, std=0.02)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        if not self.without:
            return sequence + self.vectors
        first, rest = sequence[:, : self.without], sequence[:, self.without :]
        return torch.cat((first, rest + self.vectors), 1)


class Sinusoid(nn.Module):
    """Sines and cosines of the place, which are not trained (Vaswani et al. 2017, section 3.5)."""

    vectors: Tensor

    def __init__(self, places: int, width: int) -> None:
        super().__init__()
        rates = 10000.0 ** (-torch.arange(0, width, 2) / width)
        angles = torch.arange(places)[:, None] * rates
        vectors = torch.stack((angles.sin(), angles.cos()), -1).flatten(1)
        self.register_buffer("vectors", vectors[None], persistent=False)

    def forward(self, sequence: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        return sequence + self.vectors


class RelativeBias(nn.Module):
    """A number for each head and offset between tokens of a map (Swin, section 3.2)."""

    index: Tensor

    def __init__(self, heads: int, height: int, width: int) -> None:
        super().__init__()
        offsets = (2 * height - 1) * (2 * width - 1)
        self.table = nn.Parameter(torch.empty(offsets, heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        rows = _offsets(height) + height - 1
        columns = _offsets(width) + width - 1
        index = rows[:, None, :, None] * (2 * width - 1) + columns[None, :, None, :]
        self.places = height * width
        self.register_buffer("index", index.flatten(), persistent=False)

    def forward(self) -> Tensor:
        """Return (heads, T, T), T = height width."""
        return self.table[self.index].view(self.places, self.places, -1).permute(2, 0, 1)


class RelativeVectors(nn.Module):
    """A vector for the row and one for the column offset, of all heads (AutoFormer, section 3.3).

    Row 0 of the tables is for pairs with a class token. What is summed over rows or columns is
    summed first, so that no vector is laid out for each pair.
    """

    rows_index: Tensor
    columns_index: Tensor

    def __init__(self, head_width: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.rows = nn.Parameter(torch.empty(2 * DISTANCE + 2, head_width))
        self.columns = nn.Parameter(torch.empty(2 * DISTANCE + 2, head_width))
        for table in (self.rows, self.columns):
            nn.init.trunc_normal_(table, std=0.02)
        for name, side in (("rows_index", grid.height), ("columns_index", grid.width)):
            index = _offsets(side).T.clamp(-DISTANCE, DISTANCE) + DISTANCE + 1
            self.register_buffer(name, index, persistent=False)

    def products(self, queries: Tensor) -> Tensor:
        """Return (B, heads, T, T): queries (B, heads, T, c) times the vectors of their offsets."""
        t, side = self.grid.tokens, (self.grid.height, self.grid.width)
        places = torch.unflatten(queries[:, :, t:], 2, side)
        rows = torch.einsum("bhrcd,rjd->bhrcj", places, self.rows[self.rows_index])
        columns = torch.einsum("bhrcd,ckd->bhrck", places, self.columns[self.columns_index])
        pairs = (rows[..., :, None] + columns[..., None, :]).flatten(4).flatten(2, 3)
        if not t:
            return pairs
        apart = queries @ (self.rows[0] + self.columns[0])[:, None]  # (B, heads, T, 1)
        above = apart[:, :, :t].expand(-1, -1, -1, self.grid.places)
        beside = apart.expand(-1, -1, -1, t)
        return torch.cat((beside, torch.cat((above, pairs), 2)), 3)

    def mixed(self, weights: Tensor) -> Tensor:
        """Return (B, heads, T, c): vectors of all offsets, mixed by weights (B, heads, T, T)."""
        t, side = self.grid.tokens, (self.grid.height, self.grid.width)
        pairs = torch.unflatten(torch.unflatten(weights[:, :, t:, t:], 3, side), 2, side)
        rows = torch.einsum("bhrcj,rjd->bhrcd", pairs.sum(5), self.rows[self.rows_index])
        columns = torch.einsum("bhrck,ckd->bhrcd", pairs.sum(4), self.columns[self.columns_index])
        places = (rows + columns).flatten(2, 3)
        if not t:
            return places
        apart = self.rows[0] + self.columns[0]
        above = weights[:, :, :t].sum(-1, keepdim=True) * apart
        return torch.cat((above, places + weights[:, :, t:, :t].sum(-1, keepdim=True) * apart), 2)


def _offsets(side: int) -> Tensor:
    """Return (side, side): place of the row minus place of the column."""
    places = torch.arange(side)
    return places[:, None] - places[None, :]
