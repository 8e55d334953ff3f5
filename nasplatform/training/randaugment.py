"""RandAugment (Cubuk et al. 2020) for whole batches.

Each image goes through ``layers`` operations drawn from fourteen, all of one magnitude. Operations
and ranges are the paper's; what moves in is the mean colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

HIGHEST = 10
"""Magnitude at which ranges end (paper)."""


class RandAugmentOptions(BaseModel):
    """How many operations, and how strong."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    layers: int = Field(default=2, ge=1)
    """Operations on each image, N (paper: 1 to 3)."""
    magnitude: float = Field(default=5.0, ge=0, le=HIGHEST)
    """Strength of each, M, from 0 to 10 (paper, CIFAR-10: 4 or 5)."""


def randaugment(
    inputs: Tensor,
    levels: tuple[Tensor, Tensor],
    options: RandAugmentOptions,
    rng: torch.Generator,
) -> Tensor:
    """Augment standardised images (n, c, h, w).

    levels: what black and white are once standardised, (c,) each.
    rng:    a generator on the CPU.
    """
    black, white = (level[:, None, None].to(inputs.device) for level in levels)
    pixels = ((inputs - black) / (white - black) * 255).clamp(0, 255)
    mean = -black / (white - black) * 255
    for _ in range(options.layers):
        kinds = torch.randint(len(COLOUR) + len(GEOMETRY), (len(inputs),), generator=rng)
        signs = torch.randint(2, (len(inputs),), generator=rng) * 2 - 1
        strengths = signs * (options.magnitude / HIGHEST)
        for kind in set(kinds.tolist()):
            chosen = (kinds == kind).nonzero()[:, 0]
            rows, strength = chosen.to(inputs.device), strengths[chosen].to(inputs.device)
            pixels[rows] = _operate(kind, pixels[rows], strength, mean)
    return pixels / 255 * (white - black) + black


def _operate(kind: int, pixels: Tensor, strength: Tensor, mean: Tensor) -> Tensor:
    if kind < len(COLOUR):
        return COLOUR[kind](pixels, strength).clamp(0, 255)
    return warp(pixels - mean, GEOMETRY[kind - len(COLOUR)](strength)) + mean


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Read each image where matrices (n, 2, 3) send its pixels, nearest neighbour, 0 outside.

    A matrix maps (x, y, 1) to (x, y), both from -1 to 1 across the image.
    """
    grid = functional.affine_grid(matrices, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="nearest", align_corners=False)


# --- colours: (pixels (n, c, h, w) in 0..255, strength (n,) in [-1, 1]) -> pixels ---------------


def identity(pixels: Tensor, strength: Tensor) -> Tensor:
    """Leave images as they are."""
    return pixels


def autocontrast(pixels: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to 0..255; one of a single value stays."""
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    stretched = (pixels - low) * (255 / (high - low).clamp_min(1e-6))
    return torch.where(high > low, stretched, pixels)


def equalize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Spread the histogram of each channel evenly, as Pillow does."""
    n, channels = pixels.shape[:2]
    values = pixels.round().long().flatten(2)
    counts = torch.zeros((n, channels, 256), dtype=torch.long, device=pixels.device)
    counts.scatter_add_(2, values, torch.ones_like(values))
    last = values.amax(2, keepdim=True)
    step = (values.shape[2] - counts.gather(2, last)) // 255
    before = counts.cumsum(2) - counts
    table = ((before + step // 2) // step.clamp_min(1)).clamp(0, 255)
    table = torch.where(step > 0, table, torch.arange(256, device=pixels.device))
    return table.gather(2, values).view_as(pixels).to(pixels.dtype)


def solarize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Invert what is at least as bright as 256 (1 - strength)."""
    return torch.where(pixels < 256 * (1 - _per_image(strength.abs())), pixels, 255 - pixels)


def posterize(pixels: Tensor, strength: Tensor) -> Tensor:
    """Keep 8 to 4 bits of each pixel."""
    dropped = 2.0 ** _per_image((4 * strength.abs()).round())
    return (pixels.round() / dropped).floor() * dropped


def color(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move each image away from its grey, or towards it."""
    return _blended(pixels, _grey(pixels), strength)


def contrast(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move each image away from its mean grey, or towards it."""
    return _blended(pixels, _grey(pixels).mean((1, 2, 3), keepdim=True), strength)


def brightness(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move each image away from black, or towards it."""
    return _blended(pixels, torch.zeros_like(pixels), strength)


def sharpness(pixels: Tensor, strength: Tensor) -> Tensor:
    """Move each image away from its blurred copy, or towards it; the border stays."""
    channels, height, width = pixels.shape[1:]
    if min(height, width) < 3:
        return pixels
    kernel = torch.ones((channels, 1, 3, 3), device=pixels.device)
    kernel[:, :, 1, 1] = 5
    blurred = pixels.clone()
    blurred[:, :, 1:-1, 1:-1] = functional.conv2d(pixels, kernel / 13, groups=channels)
    return _blended(pixels, blurred, strength)


def _blended(pixels: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    factor = 1 + 0.9 * _per_image(strength)
    return other + factor * (pixels - other)


def _grey(pixels: Tensor) -> Tensor:
    """Return (n, 1, h, w): the luma of three channels (ITU-R 601), the mean of any other number."""
    if pixels.shape[1] != 3:
        return pixels.mean(1, keepdim=True)
    weights = pixels.new_tensor([0.299, 0.587, 0.114])
    return (pixels * weights[:, None, None]).sum(1, keepdim=True)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


# --- geometry: strength (n,) in [-1, 1] -> matrices (n, 2, 3) ------------------------------------


def rotate(strength: Tensor) -> Tensor:
    """Turn by up to 30 degrees."""
    angle = strength * math.radians(30)
    return _matrices(angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle)


def shear_x(strength: Tensor) -> Tensor:
    """Shift rows by up to 0.3 of their distance from the middle."""
    zero = 0 * strength
    return _matrices(zero + 1, 0.3 * strength, zero, zero, zero + 1, zero)


def shear_y(strength: Tensor) -> Tensor:
    """Shift columns by up to 0.3 of their distance from the middle."""
    zero = 0 * strength
    return _matrices(zero + 1, zero, zero, 0.3 * strength, zero + 1, zero)


def translate_x(strength: Tensor) -> Tensor:
    """Move sideways by up to 0.45 of the width (150 of 331 pixels)."""
    zero = 0 * strength
    return _matrices(zero + 1, zero, 0.9 * strength, zero, zero + 1, zero)


def translate_y(strength: Tensor) -> Tensor:
    """Move up or down by up to 0.45 of the height."""
    zero = 0 * strength
    return _matrices(zero + 1, zero, zero, zero, zero + 1, 0.9 * strength)


def _matrices(*entries: Tensor) -> Tensor:
    return torch.stack(entries, 1).view(-1, 2, 3).float()


COLOUR: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    *(identity, autocontrast, equalize, solarize, posterize),
    *(color, contrast, brightness, sharpness),
)
GEOMETRY: tuple[Callable[[Tensor], Tensor], ...] = (
    *(rotate, shear_x, shear_y, translate_x, translate_y),
)
