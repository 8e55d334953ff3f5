"""Entries: how the tokens of a stage are made of the image, or of the map before.

Each takes maps (B, C, h, w) and returns a sequence (B, h' w', width) of the map that
``validation.sides`` tells.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nasplatform.spaces.vit.architecture import Stage
from nasplatform.spaces.vit.tokens import as_sequence, cut
from nasplatform.spaces.vit.validation import soft_splits, unfolded

TOKEN_WIDTH = 64
"""Channels between the steps of tokens-to-token."""


def make_entry(stage: Stage, incoming: int, side: tuple[int, int]) -> nn.Module:
    """Make the entry of a stage for maps of ``incoming`` channels, height and width ``side``."""
    entry = stage.entry
    if entry.kind == "merging":
        return Merging(incoming, stage.width, entry.stride, side)
    if entry.kind in ("performer", "transformer"):
        return TokensToToken(incoming, stage.width, entry.stride, side, entry.kind)
    groups = incoming if entry.kind == "pooling" else 1
    conv = nn.Conv2d(
        incoming, stage.width, entry.kernel, entry.stride, entry.padding, groups=groups
    )
    return Patches(conv, stage.width, entry.norm)


class Stem(nn.Sequential):
    """Three 3x3 convolutions, the first of stride 2, each with GELU and batch normalisation (CMT).

    (B, colours, h, w) -> (B, width, ceil(h / 2), ceil(w / 2)).
    """

    def __init__(self, colours: int, width: int) -> None:
        layers: list[nn.Module] = []
        for place in range(3):
            incoming, stride = (width, 1) if place else (colours, 2)
            conv = nn.Conv2d(incoming, width, 3, stride, 1)
            layers += [conv, nn.GELU(), nn.BatchNorm2d(width)]
        super().__init__(*layers)


class Patches(nn.Module):
    """A convolution, and LayerNorm where asked for."""

    def __init__(self, conv: nn.Conv2d, width: int, norm: bool) -> None:
        super().__init__()
        self.conv = conv
        self.norm = nn.LayerNorm(width, 1e-6) if norm else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the tokens."""
        tokens: Tensor = self.norm(as_sequence(self.conv(maps)))
        return tokens


class Merging(nn.Module):
    """Tokens side by side, LayerNorm and a linear layer (Swin, Liu et al. 2021, section 3.1).

    A map that does not divide is filled up with zeros.
    """

    def __init__(self, incoming: int, width: int, stride: int, side: tuple[int, int]) -> None:
        super().__init__()
        self.stride = stride
        self.down, self.right = (-length % stride for length in side)
        self.norm = nn.LayerNorm(incoming * stride**2, 1e-6)
        self.linear = nn.Linear(incoming * stride**2, width, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the tokens."""
        places = maps.permute(0, 2, 3, 1)
        if self.down or self.right:
            places = F.pad(places, (0, 0, 0, self.right, 0, self.down))
        beside = cut(places, self.stride).transpose(3, 4).flatten(3)  # columns, then rows
        merged: Tensor = self.linear(self.norm(beside.flatten(1, 2)))
        return merged


class TokensToToken(nn.Module):
    """Unfold, attend, unfold, attend, unfold, project (T2T-ViT, Yuan et al. 2021, section 3.1)."""

    def __init__(
        self, incoming: int, width: int, stride: int, side: tuple[int, int], kind: str
    ) -> None:
        super().__init__()
        unfold: list[nn.Module] = []
        attend: list[nn.Module] = []
        self.sides: list[tuple[int, int]] = []
        steps = soft_splits(stride)
        for step in steps:
            unfold.append(nn.Unfold(2 * step - 1, padding=step // 2, stride=step))
            side = (unfolded(side[0], step), unfolded(side[1], step))
            self.sides.append(side)
            channels = incoming * (2 * step - 1) ** 2
            if len(attend) < len(steps) - 1:
                mixer = Performer if kind == "performer" else FullAttention
                attend.append(TokenLayer(channels, mixer(channels)))
                incoming = TOKEN_WIDTH
        self.unfold, self.attend = nn.ModuleList(unfold), nn.ModuleList(attend)
        self.project = nn.Linear(channels, width)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the tokens."""
        for unfold, attend, side in zip(self.unfold, self.attend, self.sides, strict=False):
            tokens = attend(unfold(maps).transpose(1, 2))
            maps = torch.unflatten(tokens.transpose(1, 2), 2, side)
        projected: Tensor = self.project(self.unfold[-1](maps).transpose(1, 2))
        return projected


class TokenLayer(nn.Module):
    """A layer of tokens-to-token: (B, T, unfolded) -> (B, T, 64); values are the shortcut."""

    def __init__(self, unfolded: int, mixer: Performer | FullAttention) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(unfolded, 1e-6)
        self.mixer = mixer
        self.mlp_norm = nn.LayerNorm(TOKEN_WIDTH, 1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH), nn.GELU(), nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)
        )

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the layer."""
        mixed: Tensor = self.mixer(self.norm(sequence))
        fed: Tensor = mixed + self.mlp(self.mlp_norm(mixed))
        return fed


class FullAttention(nn.Module):
    """Softmax attention of one head over tokens, which scales by the width of the tokens.

    (B, T, unfolded) -> (B, T, 64), with the values added.
    """

    def __init__(self, unfolded: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            nn.Linear(unfolded, TOKEN_WIDTH, bias=False) for _ in range(3)
        )
        self.project = nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)
        self.scale = unfolded**-0.5

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the attention."""
        values: Tensor = self.value(sequence)
        query, key = self.query(sequence)[:, None], self.key(sequence)[:, None]
        mixed = F.scaled_dot_product_attention(query, key, values[:, None], scale=self.scale)
        summed: Tensor = values + self.project(mixed[:, 0])
        return summed


class Performer(nn.Module):
    """Attention by positive random features, linear in the number of tokens.

    (B, T, unfolded) -> (B, T, 64), with the values added. Source: Choromanski et al. 2021, lemma
    1, as T2T-ViT uses it: one head, 32 orthogonal features, which are not trained.
    """

    features: Tensor

    def __init__(self, unfolded: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(unfolded, TOKEN_WIDTH) for _ in range(3))
        self.project = nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)
        number = TOKEN_WIDTH // 2
        features = nn.init.orthogonal_(torch.empty(number, TOKEN_WIDTH)) * math.sqrt(number)
        self.register_buffer("features", features)

    def forward(self, sequence: Tensor) -> Tensor:
        """Compute the attention."""
        values: Tensor = self.value(sequence)
        query, key = self._mapped(self.query(sequence)), self._mapped(self.key(sequence))
        total = query @ key.sum(1)[:, :, None]  # (B, T, 1)
        mixed = query @ (key.transpose(1, 2) @ values) / (total + 1e-8)
        summed: Tensor = values + self.project(mixed)
        return summed

    def _mapped(self, tokens: Tensor) -> Tensor:
        """(B, T, 64) -> (B, T, 32): exp(w x - |x|^2 / 2) / sqrt(32) for each feature w."""
        length = (tokens**2).sum(-1, keepdim=True) / 2
        along = torch.einsum("bti,mi->btm", tokens, self.features)
        return torch.exp(along - length) / math.sqrt(len(self.features))
