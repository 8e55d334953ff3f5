"""Disout: feature map distortion in place of dropout (Tang et al., AAAI 2020, arXiv 2002.11022).

The pure functions are the released layer, step by step; the names are the paper's. What searched
cells add is our own reading, since the release links each layer by hand to "the next convolution":
the next layer of a feature map is every convolution that reads it with no other convolution in
between (through sums, poolings, concatenations and slices); of several, a channel takes the
weight of largest magnitude; a channel that no convolution reads (those that go straight to the
classifier) takes 0.01, as the release does where there is no next layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from nasplatform.errors import StageError
from nasplatform.models.network import Network
from nasplatform.stages.base import Stage, StageContext, StageResult
from nasplatform.stages.dataflow import FeaturePoint, Reader, feature_points
from nasplatform.stages.train import training_metrics
from nasplatform.training.loop import train
from nasplatform.training.recipe import Recipe
from nasplatform.training.seeding import derive_seed
from nasplatform.training.streams import check_recipe
from nasplatform.training.task import Task

NO_NEXT_WEIGHT = 0.01
"""What stands for the next layer's weight where there is none (release)."""
POINTWISE_FACTOR = 0.1
"""By which the weights of a next layer of 1 x 1 convolutions are multiplied (release)."""


def seed_rate(dist_prob: float, block: int, height: int, width: int) -> float:
    """Return gamma, the probability that a block starts at a place where it fits.

    So chosen that, overlaps aside, a share ``dist_prob`` of the map is distorted (DropBlock).
    """
    places = (height - block + 1) * (width - block + 1)
    return dist_prob * (height * width) / block**2 / places


def keep_mask(noise: Tensor, gamma: float, block: int) -> Tensor:
    """Return 1 where the map is kept and 0 in blocks that start where noise is below gamma.

    noise: (B, c, h - block + 1, w - block + 1), uniform in [0, 1), one per corner of a block.
    Returns (B, c, h, w). The release marks centres, which gives the same blocks for an odd side;
    with an even one its blocks lie a pixel further down and right, partly outside the map.
    """
    seeds = (noise < gamma).to(noise.dtype)
    padded = functional.pad(seeds, (block - 1,) * 4)
    return 1 - functional.max_pool2d(padded, kernel_size=block, stride=1)


def next_weight(weight: Tensor, signs: Tensor, groups: int = 1) -> Tensor:
    """Return one signed weight per input channel of the next convolution.

    weight: (out, in / groups, k, k); the maximum over the outputs that read a channel is taken.
    signs:  (in, k, k) of Rademacher signs, -1 or 1.
    Returns (in,): the mean over the window, times 0.1 for a 1 x 1 window.
    """
    out, per_group, height, width = weight.shape
    largest = weight.view(groups, out // groups, per_group, height, width).amax(dim=1)
    signed = (largest.reshape(groups * per_group, height, width) * signs).mean(dim=(1, 2))
    return signed * POINTWISE_FACTOR if height * width == 1 else signed


def distortion(features: Tensor, weight: Tensor, alpha: float, noise: Tensor) -> Tensor:
    """Return epsilon = alpha * weight * std(features) * noise (eq. 15).

    features, noise: (B, c, h, w), noise standard normal; weight: (c,). No gradient flows.
    """
    return alpha * weight[:, None, None] * features.detach().std() * noise


def distort(features: Tensor, keep: Tensor, epsilon: Tensor) -> Tensor:
    """Put epsilon in place of what is not kept, and rescale by the share kept; all (B, c, h, w)."""
    share = keep.mean().clamp_min(1.0 / keep.numel())
    return (features * keep + epsilon * (1 - keep)) / share


def scheduled(dist_prob: float, step: int, steps: int) -> float:
    """Return the probability of step 0..steps-1, from 0 to ``dist_prob`` in equal steps."""
    return dist_prob * step / max(steps - 1, 1)


class DisoutOptions(BaseModel):
    """Options of ``disout``; the defaults are the paper's for ResNet-56 on CIFAR."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipe: Recipe = Recipe()
    """How to train."""
    dist_prob: float = Field(default=0.09, gt=0, lt=1)
    """Share of a map that is distorted at the end of the schedule (ImageNet: 0.07)."""
    alpha: float = Field(default=5.0, gt=0)
    """Strength of the distortion (ImageNet: 1)."""
    block: int = Field(default=6, ge=1)
    """Side of a distorted block, clipped to smaller maps; 1 distorts element by element
    (ImageNet: 7)."""
    placement: Literal["last-stage", "last-two-stages"] = "last-stage"
    """Which maps: the smallest (CIFAR), or the two smallest sizes, where the larger of the two
    gets a quarter of ``dist_prob`` (ImageNet)."""
    start: Literal["scratch", "given"] = "scratch"
    """Train new weights, as the paper does, or go on from those of the network given."""


class Disout(Stage):
    """Train the network with Disout; what is deployed has the same structure without it.

    It takes the place of ``train``: with ``start: scratch`` the weights given are not used. A
    distortion is a hook on the module that ends a convolution (its normalisation or activation),
    works in training mode only and is gone afterwards.
    """

    name: ClassVar[str] = "disout"
    Options: ClassVar[type[BaseModel]] = DisoutOptions
    options: DisoutOptions

    def check(self, task: Task, device: str) -> None:
        """Raise TrainingError where the recipe asks for what task or device do not allow."""
        check_recipe(task, self.options.recipe, device)

    def apply(self, network: Network, task: Task, context: StageContext) -> StageResult:
        """Return the trained network; raise StageError where there is nothing to distort."""
        options = self.options
        scratch = options.start == "scratch"
        trained = network.fresh(context.seed) if scratch else network.copy()
        points = placed(feature_points(trained.module, task.input_shape), options)
        if not points:
            raise StageError("disout found no convolution in the network, so nothing to distort")
        with _installed(points, options, context.device) as distorters:

            def on_step(step: int, steps: int) -> None:
                for index, distorter in enumerate(distorters):
                    distorter.dist_prob = scheduled(distorter.final_prob, step, steps)
                    distorter.rng.manual_seed(derive_seed(context.seed, index, step))

            history = train(
                trained.module,
                task,
                options.recipe,
                context.seed,
                device=context.device,
                checkpoint=context.checkpoint,
                progress=context.progress,
                on_step=on_step,
                tag=options.model_dump_json(),
            )
        linked = sum(bool(point.readers) for point, _ in points)
        counts = {"distorted_maps": float(len(points)), "maps_with_next_weight": float(linked)}
        return StageResult(trained, training_metrics(history) | counts)


def placed(
    points: Sequence[FeaturePoint], options: DisoutOptions
) -> list[tuple[FeaturePoint, float]]:
    """Return the maps to distort, each with the probability at the end of the schedule."""
    areas = sorted({point.shape[1] * point.shape[2] for point in points})
    shares = dict(zip(areas, (1.0, 0.25), strict=False))
    if options.placement == "last-stage":
        shares = dict.fromkeys(areas[:1], 1.0)
    found = ((point, shares.get(point.shape[1] * point.shape[2])) for point in points)
    return [(point, share * options.dist_prob) for point, share in found if share is not None]


class Distorter:
    """A forward hook that distorts the output of a module in training mode."""

    def __init__(
        self,
        readers: Sequence[Reader],
        final_prob: float,
        alpha: float,
        block: int,
        rng: torch.Generator,
    ) -> None:
        """Take the next layer, the options of the method, and the generator to draw from."""
        self.readers, self.alpha, self.block, self.rng = readers, alpha, block, rng
        self.final_prob = self.dist_prob = final_prob

    def __call__(self, module: nn.Module, given: Any, features: Tensor) -> Tensor:
        """Return the distorted features in training mode, the features themselves otherwise."""
        if not module.training:
            return features
        batch, channels, height, width = features.shape
        block = min(self.block, height, width)
        gamma = seed_rate(self.dist_prob, block, height, width)
        corners = (batch, channels, height - block + 1, width - block + 1)
        keep = keep_mask(self._draw(torch.rand, corners, features), gamma, block)
        gauss = self._draw(torch.randn, features.shape, features)
        weight = self._weight(channels, features)
        return distort(features, keep, distortion(features, weight, self.alpha, gauss))

    def _weight(self, channels: int, like: Tensor) -> Tensor:
        weight = like.new_zeros(channels)
        read = like.new_zeros(channels, dtype=torch.bool)
        for reader in self.readers:
            conv = reader.conv
            shape = (conv.in_channels, *conv.kernel_size)
            signs = torch.where(self._draw(torch.rand, shape, like) < 0.5, -1.0, 1.0)
            found = next_weight(conv.weight.detach(), signs, conv.groups)
            found = found[reader.start : reader.start + reader.length]
            part = slice(reader.first, reader.first + reader.length)
            weight[part] = torch.where(found.abs() > weight[part].abs(), found, weight[part])
            read[part] = True
        return torch.where(read, weight, NO_NEXT_WEIGHT)

    def _draw(self, kind: Any, shape: Sequence[int], like: Tensor) -> Tensor:
        drawn: Tensor = kind(shape, generator=self.rng, device=like.device, dtype=like.dtype)
        return drawn


@contextmanager
def _installed(
    points: Sequence[tuple[FeaturePoint, float]], options: DisoutOptions, device: str
) -> Iterator[list[Distorter]]:
    """Hook a distorter to each point; take all of them away in the end."""
    distorters, handles = [], []
    for point, prob in points:
        rng = torch.Generator(device)
        distorter = Distorter(point.readers, prob, options.alpha, options.block, rng)
        distorters.append(distorter)
        handles.append(point.module.register_forward_hook(distorter))
    try:
        yield distorters
    finally:
        for handle in handles:
            handle.remove()
