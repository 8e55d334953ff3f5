"""Which blocks of a feature map are hit, as in DropBlock (Ghiasi et al. 2018, section 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Generator, Tensor, rand
from torch.nn import functional

from nasplatform.stages.dataflow import FeaturePoint


def draw_keep_mask(features: Tensor, prob: float, block: int, rng: Generator) -> Tensor:
    """Return a mask (B, c, h, w) as of ``keep_mask``, of the type of the features.

    block: side of a block, clipped to smaller maps.
    """
    batch, channels, height, width = features.shape
    block = min(block, height, width)
    corners = (batch, channels, height - block + 1, width - block + 1)
    # bfloat16 has but 256 numbers below 1, too few to be compared with a small gamma
    noise = rand(corners, generator=rng, device=features.device)
    return keep_mask(noise, seed_rate(prob, block, height, width), block).to(features.dtype)


def seed_rate(prob: float, block: int, height: int, width: int) -> float:
    """Return gamma, the probability that a block starts at a place where it fits.

    So chosen that, overlaps aside, a share ``prob`` of the map is hit.
    """
    places = (height - block + 1) * (width - block + 1)
    return prob * (height * width) / block**2 / places


def keep_mask(noise: Tensor, gamma: float, block: int) -> Tensor:
    """Return 1 where the map is kept and 0 in blocks that start where noise is below gamma.

    noise: (B, c, h - block + 1, w - block + 1), uniform in [0, 1), one per corner of a block.
    Returns (B, c, h, w). The releases mark centres, which gives the same blocks for an odd side;
    with an even one their blocks lie a pixel further down and right, partly outside the map.
    """
    seeds = (noise < gamma).to(noise.dtype)
    padded = functional.pad(seeds, (block - 1,) * 4)
    return 1 - functional.max_pool2d(padded, kernel_size=block, stride=1)


def kept_share(keep: Tensor) -> Tensor:
    """Return the share that a mask keeps, as if one element were where none is."""
    return keep.float().mean().clamp_min(1.0 / keep.numel()).to(keep.dtype)


def clipping(block: int, points: Sequence[FeaturePoint]) -> tuple[str, ...]:
    """Return a note where blocks are larger than maps, and so clipped."""
    sides = [min(point.shape[1:]) for point in points if min(point.shape[1:]) < block]
    if not sides:
        return ()
    return (f"block {block} is larger than {len(sides)} of the maps: clipped to {min(sides)}",)
