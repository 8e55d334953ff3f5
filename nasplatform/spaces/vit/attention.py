"""Multi-head attention of every kind; queries, keys and values are layers of their own.

Sequences are (B, T, C). ``table`` is the bias (heads, T, keys) that the layers of a stage share.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplatform.spaces.vit.architecture import Attention, Stage
from nasplatform.spaces.vit.positions import RelativeBias, RelativeVectors
from nasplatform.spaces.vit.tokens import Grid, OnMap
from nasplatform.spaces.vit.windows import Windows


def make_attention(attention: Attention, stage: Stage, grid: Grid, bias: bool) -> MultiHead:
    """Make the attention of a layer; ``bias`` is that of queries, keys and values."""
    kinds: dict[str, type[MultiHead]] = {
        "global": GlobalAttention,
        "window": WindowAttention,
        "reduction": ReducedAttention,
        "depthwise-reduction": ReducedAttention,
        "projection": ProjectedAttention,
    }
    kind = kinds[attention.kind]
    if attention.local:
        kind = LocalAttention
    elif stage.relative == "keys-values":
        kind = RelativeAttention
    return kind(attention, stage, grid, bias)


class MultiHead(nn.Module):
    """Scaled dot-product attention; subclasses say of what keys and values are made."""

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__()
        self.heads = attention.heads - attention.local
        self.scale = attention.head_width**-0.5
        seen = self.heads * attention.head_width
        if self.heads:
            self.query = nn.Linear(stage.width, seen, bias)
            self.key = nn.Linear(stage.width, seen, bias)
        self.value = nn.Linear(stage.width, attention.width, bias)
        self.project = nn.Linear(attention.width, stage.width)

    def attend(
        self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Let tokens (..., T, C) look at others (..., S, C); bias: (..., heads, T, S)."""
        mixed = self.mix(self.query(queries), self.key(keys), self.value(values), bias)
        projected: Tensor = self.project(mixed)
        return projected

    def mix(
        self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None
    ) -> Tensor:
        """Mean values (..., S, C) by queries (..., T, C) and keys (..., S, C)."""
        heads = F.scaled_dot_product_attention(
            self.split(queries),
            self.split(keys),
            self.split(values),
            attn_mask=bias,
            scale=self.scale,
        )
        return self.joined(heads)

    def split(self, channels: Tensor) -> Tensor:
        """(..., T, C) -> (..., heads, T, C / heads)."""
        return torch.unflatten(channels, -1, (self.heads, -1)).transpose(-3, -2)

    def joined(self, heads: Tensor) -> Tensor:
        """(..., heads, T, C / heads) -> (..., T, C)."""
        return heads.transpose(-3, -2).flatten(-2)


class GlobalAttention(MultiHead):
    """All tokens see all (Vaswani et al. 2017; ViT, Dosovitskiy et al. 2021)."""

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__(attention, stage, grid, bias)
        side = (grid.height, grid.width)
        biased = stage.relative == "bias"
        self.offsets = RelativeBias(self.heads, *side) if biased else None

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the attention."""
        bias = table if self.offsets is None else self.offsets()
        return self.attend(sequence, sequence, sequence, bias)


class WindowAttention(MultiHead):
    """Tokens see those of their window (Swin, Liu et al. 2021; Twins, Chu et al. 2021)."""

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__(attention, stage, grid, bias)
        side = attention.window
        self.windows = Windows(grid.height, grid.width, side, attention.shifted)
        biased = stage.relative == "bias"
        self.offsets = RelativeBias(self.heads, side, side) if biased else None

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the attention."""
        inside = self.windows.cut(sequence)
        bias = self.windows.mask
        if self.offsets is not None:
            bias = self.offsets() if bias is None else self.offsets() + bias
        return self.windows.joined(self.attend(inside, inside, inside, bias))


class ReducedAttention(MultiHead):
    """Keys and values of a smaller map: PVT (Wang et al. 2021), or depthwise CMT (Guo et al. 2022).

    Class tokens, where there are any, are keys and values as they are.
    """

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__(attention, stage, grid, bias)
        ratio, width = attention.reduction, stage.width
        depthwise = attention.kind == "depthwise-reduction"
        groups = width if depthwise else 1
        shrink: nn.Module = nn.Conv2d(width, width, ratio, ratio, groups=groups)
        if depthwise:
            shrink = nn.Sequential(shrink, nn.BatchNorm2d(width))
        self.reduce = OnMap(shrink, grid)
        self.norm = nn.Identity() if depthwise else nn.LayerNorm(width, 1e-6)

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the attention."""
        reduced = self.norm(self.reduce(sequence))
        return self.attend(sequence, reduced, reduced, table)


class ProjectedAttention(MultiHead):
    """Depthwise convolutions before queries, keys and values (CvT, Wu et al. 2021, section 3.2).

    Products are divided by the root of the whole width, not of a head's, as its authors' code does.
    """

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__(attention, stage, grid, bias)
        self.scale = attention.width**-0.5

        def window(stride: int) -> OnMap:
            width, kernel = stage.width, attention.kernel
            conv = nn.Conv2d(width, width, kernel, stride, kernel // 2, groups=width, bias=False)
            return OnMap(nn.Sequential(conv, nn.BatchNorm2d(width)), grid)

        self.before_query = window(1)
        self.before_key = window(attention.reduction)
        self.before_value = window(attention.reduction)

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the attention."""
        return self.attend(
            self.before_query(sequence), self.before_key(sequence), self.before_value(sequence)
        )


class LocalAttention(MultiHead):
    """Some heads see all, the others convolve their values (after GLiT, Chen et al. 2021)."""

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__(attention, stage, grid, bias)
        width = attention.local * attention.head_width
        kernel = attention.kernel
        conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.local = OnMap(conv, grid)
        self.local_width, self.seen_width = width, self.heads * attention.head_width

    def fit_widths(self, kept: Mapping[str, Mapping[str, Any]]) -> None:
        """Set the numbers by which channels are cut to what was left of the layers."""
        if "local.layer" in kept:
            self.local_width = len(kept["local.layer"]["outputs"])
        if "query" in kept:
            width = self.seen_width // self.heads
            self.heads = len({channel // width for channel in kept["query"]["outputs"]})
            self.seen_width = len(kept["query"]["outputs"])

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the attention."""
        values = self.value(sequence)
        seen = values.shape[-1] - self.local_width
        parts = [self.local(values[..., seen:])]
        if self.heads:
            mixed = self.mix(self.query(sequence), self.key(sequence), values[..., :seen])
            parts.insert(0, mixed)
        projected: Tensor = self.project(torch.cat(parts, -1))
        return projected


class RelativeAttention(MultiHead):
    """Vectors of the offset between tokens beside keys and values (AutoFormer, section 3.3)."""

    def __init__(self, attention: Attention, stage: Stage, grid: Grid, bias: bool) -> None:
        super().__init__(attention, stage, grid, bias)
        self.beside_keys = RelativeVectors(attention.head_width, grid)
        self.beside_values = RelativeVectors(attention.head_width, grid)

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the attention."""
        queries = self.split(self.query(sequence)) * self.scale
        keys, values = self.split(self.key(sequence)), self.split(self.value(sequence))
        products = queries @ keys.transpose(-2, -1) + self.beside_keys.products(queries)
        weights = products.softmax(-1)
        mixed = weights @ values + self.beside_values.mixed(weights)
        projected: Tensor = self.project(self.joined(mixed))
        return projected
