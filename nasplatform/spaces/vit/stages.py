"""A stage: its tokens, their positions, its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasplatform.spaces.vit.architecture import Attention, Inner, Stage, VisionTransformer
from nasplatform.spaces.vit.attention import GlobalAttention
from nasplatform.spaces.vit.blocks import Block
from nasplatform.spaces.vit.embedding import make_entry
from nasplatform.spaces.vit.positions import Learned, Sinusoid
from nasplatform.spaces.vit.tokens import Grid, OnMap, ShortcutWindow, with_tokens
from nasplatform.spaces.vit.words import InnerLayer, PatchOfWords, Words


@dataclass(frozen=True)
class Before:
    """What enters a stage: channels and size of the map, and the class tokens beside it."""

    channels: int
    side: tuple[int, int]
    tokens: int = 0


class StageLayers(nn.Module):
    """Maps (B, c, h, w), class tokens (B, t, c) before, if any -> (B, T, width).

    grid:  map and class tokens of the stage.
    drops: share of dropped branches of each layer.
    """

    def __init__(
        self,
        stage: Stage,
        whole: VisionTransformer,
        before: Before,
        grid: Grid,
        drops: Sequence[float],
    ) -> None:
        super().__init__()
        width = stage.width
        self.grid = grid
        self.entry = self._entry(stage, before)
        self.carry = nn.Linear(before.channels, width) if before.tokens else None
        self.first = None
        if grid.tokens and not before.tokens:
            self.first = nn.Parameter(torch.empty(1, grid.tokens, width))
            nn.init.trunc_normal_(self.first, std=0.02)
        self.positions: nn.Module = nn.Identity()
        if stage.positions == "learned-map":
            self.positions = Learned(grid.places, width, grid.tokens)
        elif stage.positions in ("learned", "sinusoid"):
            kind = Learned if stage.positions == "learned" else Sinusoid
            self.positions = kind(grid.tokens + grid.places, width)
        self.conditional: nn.Module = nn.Identity()
        if stage.positions == "conditional":
            self.conditional = OnMap(ShortcutWindow(width), grid)
        self.table = None
        if stage.relative == "table":
            self.table = nn.Parameter(torch.empty(_table_shape(stage, grid)))
            nn.init.trunc_normal_(self.table, std=0.02)
        self.blocks = nn.ModuleList(
            Block(layer, stage, grid, whole, drop)
            for layer, drop in zip(stage.layers, drops, strict=True)
        )

    def _entry(self, stage: Stage, before: Before) -> nn.Module:
        return make_entry(stage, before.channels, before.side)

    def forward(self, maps: Tensor, first: Tensor | None) -> Tensor:
        """Compute the stage."""
        sequence = self._placed(self.entry(maps), first)
        for number, block in enumerate(self.blocks):
            sequence = block(sequence, self.table)
            if number == 0:
                sequence = self.conditional(sequence)
        return sequence

    def _placed(self, sequence: Tensor, first: Tensor | None) -> Tensor:
        """Put class tokens before the others, and add positions."""
        if self.carry is not None and first is not None:
            sequence = with_tokens(self.carry(first), sequence)
        elif self.first is not None:
            sequence = with_tokens(self.first, sequence)
        placed: Tensor = self.positions(sequence)
        return placed


class WordStage(StageLayers):
    """A stage of TNT: before each layer the words of a patch attend, and are added to it."""

    def __init__(
        self,
        stage: Stage,
        whole: VisionTransformer,
        before: Before,
        grid: Grid,
        drops: Sequence[float],
        inner: Inner,
    ) -> None:
        super().__init__(stage, whole, before, grid, drops)
        words, bias = (stage.entry.stride // inner.stride) ** 2, whole.qkv_bias
        self.words = Words(before.channels, inner, stage.entry.stride, grid)
        self.inner = nn.ModuleList(
            InnerLayer(_inner_attention(inner, bias), inner) for _ in stage.layers
        )
        self.entry = PatchOfWords(inner.width, words, stage.width, bias=True)
        self.patches = nn.ModuleList(
            PatchOfWords(inner.width, words, stage.width, bias=False) for _ in stage.layers
        )

    def _entry(self, stage: Stage, before: Before) -> nn.Module:
        return nn.Identity()

    def forward(self, maps: Tensor, first: Tensor | None) -> Tensor:
        """Compute the stage."""
        words = self.words(maps)
        sequence = self._placed(self.entry(words), first)
        for number, block in enumerate(self.blocks):
            words = self.inner[number](words)
            sequence = block(self._added(sequence, self.patches[number](words)), self.table)
            if number == 0:
                sequence = self.conditional(sequence)
        return sequence

    def _added(self, sequence: Tensor, patches: Tensor) -> Tensor:
        tokens = self.grid.tokens
        if not tokens:
            return sequence + patches
        return torch.cat((sequence[:, :tokens], sequence[:, tokens:] + patches), 1)


def _inner_attention(inner: Inner, bias: bool) -> GlobalAttention:
    """Make attention over words (B, T, w, inner): the patches stand with the batch."""
    attention = Attention(inner.heads, inner.width)
    return GlobalAttention(attention, Stage(inner.width, ()), Grid(1, 1), bias)


def _table_shape(stage: Stage, grid: Grid) -> tuple[int, int, int]:
    """Return heads, queries and keys."""
    attention = stage.layers[0].attention
    ratio = attention.reduction
    return attention.heads, grid.places, (grid.height // ratio) * (grid.width // ratio)
