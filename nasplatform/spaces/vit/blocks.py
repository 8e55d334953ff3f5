"""One layer: local perception, attention and feed-forward part around the residual stream."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nasplatform.spaces.vit.architecture import Layer, Stage, VisionTransformer
from nasplatform.spaces.vit.attention import make_attention
from nasplatform.spaces.vit.feed_forward import make_feed_forward
from nasplatform.spaces.vit.tokens import Grid, OnMap, ShortcutWindow

INITIAL_SCALE = 1e-4


class Block(nn.Module):
    """(B, T, C) -> (B, T, C); ``table`` is the attention bias that a stage shares."""

    def __init__(
        self, layer: Layer, stage: Stage, grid: Grid, whole: VisionTransformer, drop: float
    ) -> None:
        super().__init__()
        width = stage.width
        self.perception: nn.Module = nn.Identity()
        if layer.perception:
            self.perception = OnMap(ShortcutWindow(width), grid)
        attention = make_attention(layer.attention, stage, grid, whole.qkv_bias)
        feed_forward = make_feed_forward(layer.feed_forward, width, grid)
        self.post = whole.norm == "post"
        self.attention_norm, self.attention = nn.LayerNorm(width, 1e-6), attention
        self.feed_forward_norm, self.feed_forward = nn.LayerNorm(width, 1e-6), feed_forward
        self.attention_end = branch_end(width, whole.layer_scale, drop)
        self.feed_forward_end = branch_end(width, whole.layer_scale, drop)

    def forward(self, sequence: Tensor, table: Tensor | None = None) -> Tensor:
        """Compute the layer."""
        stream: Tensor = self.perception(sequence)
        if self.post:
            mixed = self.attention_end(self.attention(stream, table))
            stream = self.attention_norm(stream + mixed)
            fed = self.feed_forward_end(self.feed_forward(stream))
            stream = self.feed_forward_norm(stream + fed)
        else:
            mixed = self.attention(self.attention_norm(stream), table)
            stream = stream + self.attention_end(mixed)
            fed = self.feed_forward(self.feed_forward_norm(stream))
            stream = stream + self.feed_forward_end(fed)
        return stream


def branch_end(width: int, scaled: bool, drop: float) -> nn.Module:
    """Make what a residual branch passes before it is added."""
    layers: list[nn.Module] = [LayerScale(width)] if scaled else []
    layers += [DropPath(drop)] if drop else []
    return nn.Sequential(*layers) if layers else nn.Identity()


class LayerScale(nn.Module):
    """A learned factor for each channel (CaiT, Touvron et al. 2021, section 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.full((width,), INITIAL_SCALE))

    def forward(self, branch: Tensor) -> Tensor:
        """Scale the branch."""
        return branch * self.factor


class DropPath(nn.Module):
    """Leaves out the branch for a share of the images in training (Huang et al. 2016)."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """Drop the branch of some images."""
        if not self.training:
            return branch
        kept = 1 - self.share
        shape = (branch.shape[0],) + (1,) * (branch.dim() - 1)
        return branch * branch.new_empty(shape).bernoulli_(kept) / kept
