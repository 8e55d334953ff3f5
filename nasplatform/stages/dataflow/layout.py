"""How a tensor holds a feature map: which axis has the channels, and where the places lie.

Of tokens (B, N, C) the grid is found by what each of them sees of the image where so many tokens
first appear: those that see nothing are class tokens; the others form h rows of w tokens if the
middles of what they see do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nasplatform.stages.dataflow.record import Call


@dataclass(frozen=True)
class Layout:
    """Where the channels and places of a tensor are.

    channels: axis of the channels: 1, or -1 for what linear layers make.
    places:   of tokens, the indices (h, w) of those that form the map; other tokens are no part
              of it. A single column (n, 1) where they form no grid.
    first:    axis of the images: 0, or 1 for tokens (N, B, C).
    """

    channels: int = 1
    places: Tensor | None = None
    first: int = 0

    def read(self, features: Tensor) -> Tensor:
        """Return the map (B, C, h, w); one place for vectors (B, C)."""
        if features.dim() == 2:
            return features[:, :, None, None]
        if self.places is None:
            return features.movedim(self.channels, 1)
        tokens = features.transpose(0, self.first)[:, self.places.flatten().to(features.device)]
        return tokens.transpose(1, 2).reshape(len(tokens), -1, *self.places.shape)

    def write(self, features: Tensor, changed: Tensor) -> Tensor:
        """Return the features with a changed map (B, C, h, w) in place of theirs."""
        if features.dim() == 2:
            return changed[:, :, 0, 0]
        if self.places is None:
            return changed.movedim(1, self.channels)
        indices = self.places.flatten().to(features.device)
        tokens = changed.flatten(2).transpose(1, 2).to(features.dtype)
        return (
            features.transpose(0, self.first)
            .index_copy(1, indices, tokens)
            .transpose(0, self.first)
        )


def layout_of(call: Call, calls: Sequence[Call], images: Tensor) -> Layout | None:
    """Return how what a layer made is laid out; None where it is no map, tokens or vector."""
    dims = call.made.dim()
    if isinstance(call.module, nn.Conv2d | nn.ConvTranspose2d):
        return Layout() if dims == 4 else None
    if dims in (2, 4):
        return Layout(-1)
    return _tokens(call, calls, images) if dims == 3 else None


def _tokens(call: Call, calls: Sequence[Call], images: Tensor) -> Layout:
    size = call.made.shape[:2]
    appeared = next(
        tensor
        for other in calls
        for tensor in (other.taken, other.made)
        if tensor.dim() == 3 and tensor.shape[:2] == size and tensor.requires_grad
    )
    first = int(
        bool(_seen(appeared.select(1, 0), images)[0].any())
        and not bool(_seen(appeared.select(1, 0), images)[1].any())
    )
    tokens = appeared.transpose(0, first)[0]
    heat = torch.stack([_seen(token, images)[0].sum(0) for token in tokens])
    real = torch.nonzero(heat.flatten(1).any(1)).flatten()
    return Layout(-1, _grid(real, heat[real]), first)


def _seen(made: Tensor, images: Tensor) -> Tensor:
    """Return how much every pixel counts, squared, (B, c, H, W)."""
    # a sum would not do: that of a normalised token is constant
    direction = torch.randn(made.shape, generator=torch.Generator().manual_seed(0))
    (found,) = torch.autograd.grad(
        (made * direction).sum(), images, retain_graph=True, materialize_grads=True
    )
    return found.square()


def _grid(indices: Tensor, heat: Tensor) -> Tensor:
    """Lay tokens out in rows and columns, as the middles of what they see are; (n, H, W)."""
    height, width = heat.shape[1:]
    mass = heat.sum((1, 2))
    y = (heat.sum(2) @ torch.arange(height, dtype=heat.dtype)) / mass
    x = (heat.sum(1) @ torch.arange(width, dtype=heat.dtype)) / mass
    count = len(indices)
    for rows in range(2, count // 2 + 1):
        if count % rows == 0:
            shape = (rows, count // rows)
            if _apart(y.view(shape)) and _apart(x.view(shape).T):
                return indices.view(shape)
    return indices.view(count, 1)


def _apart(middles: Tensor) -> bool:
    """Say whether every row lies behind the one before, whatever is beside it."""
    return bool((middles[1:].amin(1) > middles[:-1].amax(1)).all())
