"""The inner transformer of TNT over the words of each patch (Han et al. 2021)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasplatform.spaces.vit.architecture import Inner
from nasplatform.spaces.vit.feed_forward import MLP
from nasplatform.spaces.vit.tokens import Grid, cut

RATIO = 4


class Words(nn.Module):
    """A 7x7 convolution makes words, w to a patch: (B, colours, h, w) -> (B, T, w, inner)."""

    def __init__(self, colours: int, inner: Inner, patch: int, grid: Grid) -> None:
        super().__init__()
        self.grid = grid
        self.beside = patch // inner.stride
        self.conv = nn.Conv2d(colours, inner.width, 7, inner.stride, 3)
        self.positions = nn.Parameter(torch.empty(self.beside**2, inner.width))
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the words."""
        places = self.conv(images).permute(0, 2, 3, 1)
        rows, columns = self.grid.height, self.grid.width
        places = places[:, : rows * self.beside, : columns * self.beside]
        words = cut(places, self.beside).flatten(3, 4).flatten(1, 2)
        return words + self.positions


class PatchOfWords(nn.Module):
    """What the words of a patch add to it: (B, T, w, inner) -> (B, T, width)."""

    def __init__(self, inner: int, words: int, width: int, bias: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(inner * words, 1e-6)
        self.linear = nn.Linear(inner * words, width, bias)
        self.after = nn.LayerNorm(width, 1e-6)

    def forward(self, words: Tensor) -> Tensor:
        """Compute the patches."""
        patches: Tensor = self.after(self.linear(self.norm(words.flatten(2))))
        return patches


class InnerLayer(nn.Module):
    """A transformer layer over the words of each patch: (B, T, w, inner) -> the same."""

    def __init__(self, attention: nn.Module, inner: Inner) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(inner.width, 1e-6)
        self.attention = attention
        self.mlp_norm = nn.LayerNorm(inner.width, 1e-6)
        self.mlp = MLP(inner.width, RATIO * inner.width)

    def forward(self, words: Tensor) -> Tensor:
        """Compute the layer."""
        words = words + self.attention(self.attention_norm(words))
        fed: Tensor = words + self.mlp(self.mlp_norm(words))
        return fed
