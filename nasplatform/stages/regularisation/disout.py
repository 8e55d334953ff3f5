"""Disout: feature map distortion in place of dropout (Tang et al., AAAI 2020, arXiv 2002.11022).

The pure functions are the released layer, step by step; the names are the paper's. The release
links each layer by hand to "the next convolution"; here the next layer of a channel is the first
that reads it, in the order of computation, with no other layer in between (through sums, poolings,
concatenations, slices and changes of layout), which is the same on the release's ResNets. A
channel that none reads (those that are pooled for the classifier) takes 0.01, as the release does
where there is no next layer. A linear layer counts as a convolution of 1 x 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from nasplatform.stages.dataflow import FeaturePoint, Reader
from nasplatform.stages.regularisation.base import NoisyTraining, RegularisationOptions
from nasplatform.stages.regularisation.blocks import clipping, draw_keep_mask, kept_share
from nasplatform.stages.regularisation.injection import Noise

NO_NEXT_WEIGHT = 0.01
"""What stands for the next layer's weight where there is none (release)."""
POINTWISE_FACTOR = 0.1
"""By which the weights of a next layer of 1 x 1 convolutions are multiplied (release)."""


def largest_weights(layer: nn.Module) -> Tensor:
    """Return for each input channel of a layer the largest weight over the outputs that read it.

    Returns (in, k, k), without gradient; k = 1 for linear layers and for the projections of
    attention. Depth-wise and grouped convolutions: over the outputs of the channel's own group.
    """
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight.detach().amax(dim=1)
    if isinstance(layer, nn.Conv2d):
        weight = layer.weight.detach()
        each = weight.reshape(layer.groups, -1, *weight.shape[1:])
        return each.amax(dim=1).flatten(0, 1)
    if isinstance(layer, nn.MultiheadAttention):
        joint: Tensor | None = layer.in_proj_weight
        matrix: Tensor = layer.q_proj_weight if joint is None else joint
    else:
        assert isinstance(layer, nn.Linear)
        matrix = layer.weight
    return matrix.detach().amax(dim=0)[:, None, None]


def next_weight(largest: Tensor, signs: Tensor) -> Tensor:
    """Return one signed weight per input channel of the next layer.

    largest: (in, k, k), the largest weights.
    signs:   (in, k, k) of Rademacher signs, -1 or 1.
    Returns (in,): the mean over the window, times 0.1 for a 1 x 1 window.
    """
    signed = (largest * signs).mean(dim=(1, 2))
    return signed * POINTWISE_FACTOR if largest[0].numel() == 1 else signed


def distortion(features: Tensor, weight: Tensor, alpha: float, noise: Tensor) -> Tensor:
    """Return epsilon = alpha * weight * std(features) * noise (eq. 15).

    features, noise: (B, c, h, w), noise standard normal; weight: (c,). No gradient flows.
    """
    return alpha * weight[:, None, None] * features.detach().std() * noise


def distort(features: Tensor, keep: Tensor, epsilon: Tensor) -> Tensor:
    """Put epsilon in place of what is not kept, and rescale by the share kept; all (B, c, h, w)."""
    return (features * keep + epsilon * (1 - keep)) / kept_share(keep)


class DisoutOptions(RegularisationOptions):
    """Options of ``disout``; the defaults are the paper's for ResNet-56 on CIFAR."""

    dist_prob: float = Field(default=0.09, gt=0, lt=1)
    """Share of a map that is distorted at the end of the schedule (ImageNet: 0.07)."""
    alpha: float = Field(default=5.0, gt=0)
    """Strength of the distortion (ImageNet: 1)."""
    block: int = Field(default=6, ge=1)
    """Side of a distorted block, clipped to smaller maps; 1 distorts element by element
    (ImageNet: 7)."""


class Disout(NoisyTraining):
    """Train the network with Disout; what is deployed has the same structure without it."""

    name: ClassVar[str] = "disout"
    Options: ClassVar[type[RegularisationOptions]] = DisoutOptions
    options: DisoutOptions

    @property
    def prob(self) -> float:
        """Share of a map that gets noise at the end of the schedule."""
        return self.options.dist_prob

    def noise(self, point: FeaturePoint) -> Noise:
        """Return the distortion by the layers that read the map."""
        readers = first_readers(point.readers, point.shape[0])
        return Distorter(readers, self.options.alpha, self.options.block)

    def describe(self, points: Sequence[FeaturePoint]) -> tuple[dict[str, float], tuple[str, ...]]:
        """Count the maps that a layer reads; say where blocks are clipped."""
        linked = sum(bool(point.readers) for point in points)
        return {"maps_with_next_weight": float(linked)}, clipping(self.options.block, points)


@dataclass(frozen=True)
class Distorter:
    """Distorts a feature map (B, c, h, w), given the layers that read it."""

    readers: Sequence[Reader]
    alpha: float
    block: int

    def __call__(self, features: Tensor, prob: float, rng: torch.Generator) -> Tensor:
        """Return the map with a share ``prob`` distorted."""
        keep = draw_keep_mask(features, prob, self.block, rng)
        gauss = _draw(torch.randn, features.shape, features, rng)
        weight = self.weight(features, rng)
        return distort(features, keep, distortion(features, weight, self.alpha, gauss))

    def weight(self, features: Tensor, rng: torch.Generator) -> Tensor:
        """Return the weight of the next layer of each channel, (c,)."""
        weight = features.new_full(features.shape[1:2], NO_NEXT_WEIGHT)
        for reader in self.readers:
            largest = largest_weights(reader.layer).to(features.dtype)
            signs = torch.where(_draw(torch.rand, largest.shape, features, rng) < 0.5, -1.0, 1.0)
            found = next_weight(largest, signs.to(features.dtype))
            found = found[reader.start : reader.start + reader.length]
            weight[reader.first : reader.first + reader.length] = found
        return weight


def first_readers(readers: Sequence[Reader], channels: int) -> list[Reader]:
    """Leave to each reader, in order, the stretches of channels that none before it reads."""
    found, free = [], np.ones(channels, bool)
    for reader in readers:
        part = slice(reader.first, reader.first + reader.length)
        places = np.flatnonzero(free[part])
        free[part] = False
        for run in np.split(places, np.flatnonzero(np.diff(places) > 1) + 1) if len(places) else ():
            offset, length = int(run[0]), len(run)
            found.append(Reader(reader.layer, reader.start + offset, reader.first + offset, length))
    return found


def _draw(
    kind: Callable[..., Tensor], shape: Sequence[int], like: Tensor, rng: torch.Generator
) -> Tensor:
    return kind(shape, generator=rng, device=like.device, dtype=like.dtype)
