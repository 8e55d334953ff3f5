"""Tokens of a map: how a sequence (B, T, C) becomes a map (B, C, h, w) and the other way.

Class tokens stand before those of the map, which stand row by row. Channels stay last in memory,
so that turning one into the other moves nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Grid(NamedTuple):
    """Height and width of the map, and how many class tokens stand before it."""

    height: int
    width: int
    tokens: int = 0

    @property
    def places(self) -> int:
        """Tokens of the map."""
        return self.height * self.width


def as_map(sequence: Tensor, grid: Grid) -> Tensor:
    """(B, h w, C) -> (B, C, h, w)."""
    return torch.unflatten(sequence, 1, (grid.height, grid.width)).permute(0, 3, 1, 2)


def as_sequence(maps: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h w, C)."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)


def cut(places: Tensor, side: int) -> Tensor:
    """(B, h, w, C) -> (B, h / side, w / side, side, side, C): squares of a map, row by row."""
    rows = torch.unflatten(places, 1, (-1, side))
    return torch.unflatten(rows, 3, (-1, side)).transpose(2, 3)


def with_tokens(first: Tensor, sequence: Tensor) -> Tensor:
    """Put class tokens (1 or B, t, C) before a sequence (B, T, C)."""
    # expanded as a tensor is, not by its size, which tracing would write down as a number
    like = sequence[:, :1].expand(-1, first.shape[1], -1)
    return torch.cat((first.expand_as(like), sequence), 1)


class OnMap(nn.Module):
    """A layer of maps, applied to the tokens of a map; class tokens pass by.

    (B, t + h w, C) -> (B, t + h' w', C').
    """

    def __init__(self, layer: nn.Module, grid: Grid) -> None:
        super().__init__()
        self.layer = layer
        self.grid = grid

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the layer."""
        places = sequence[:, self.grid.tokens :]
        changed = as_sequence(self.layer(as_map(places, self.grid)))
        if not self.grid.tokens:
            return changed
        return torch.cat((sequence[:, : self.grid.tokens], changed), 1)


class ShortcutWindow(nn.Module):
    """A depthwise 3x3 convolution of a map, added to it: (B, C, h, w) -> (B, C, h, w).

    It is the conditional position of CPVT (PEG), the local perception unit of CMT and the middle
    of its feed-forward part.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the sum."""
        summed: Tensor = maps + self.conv(maps)
        return summed
