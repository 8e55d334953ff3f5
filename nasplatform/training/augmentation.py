"""Augmentations of whole batches: each image is treated alike on every device.

inputs: (n, c, h, w), standardised, so that 0 is the mean.
rng:    a generator on the CPU.
"""

from __future__ import annotations

import math

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

ERASED_SHARE, ERASED_ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)
"""Area of the erased rectangle in that of the image, and its height in its width (Zhong 2020)."""


def flip_crop(inputs: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror each image with probability 1/2 and shift it by up to an eighth of its side.

    What moves in is 0.
    """
    n, _, height, width = inputs.shape
    down, right = height // 8, width // 8
    padded = functional.pad(inputs, (right, right, down, down))
    top = torch.randint(2 * down + 1, (n, 1), generator=rng)
    left = torch.randint(2 * right + 1, (n, 1), generator=rng)
    mirrored = torch.rand((n, 1), generator=rng) < 0.5
    columns = torch.where(mirrored, torch.arange(width - 1, -1, -1), torch.arange(width))
    rows = (top + torch.arange(height))[:, :, None].to(inputs.device)
    columns = (left + columns)[:, None, :].to(inputs.device)
    image = torch.arange(n, device=inputs.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 3, 1, 2)


def erase(inputs: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Fill a random rectangle of some images with normal noise (random erasing, Zhong et al. 2020).

    The rectangle's area and aspect are uniform and log-uniform; it is clipped to the image.
    """
    n, _, height, width = inputs.shape
    chosen, share, aspect, top, left = torch.rand((5, n), generator=rng)
    low, high = ERASED_SHARE
    area = (low + (high - low) * share) * height * width
    ratio = ERASED_ASPECT[0] * (ERASED_ASPECT[1] / ERASED_ASPECT[0]) ** aspect
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    tall = torch.where(chosen < probability, tall, 0)
    first_row, first_column = (
        ((height - tall + 1) * top).floor(),
        ((width - wide + 1) * left).floor(),
    )
    inside = _between(first_row, first_row + tall, height)[:, :, None]
    inside = inside & _between(first_column, first_column + wide, width)[:, None, :]
    noise = torch.randn(inputs.shape, generator=rng).to(inputs.device)
    return torch.where(inside[:, None].to(inputs.device), noise, inputs)


def mixup(
    inputs: Tensor, labels: Tensor, alpha: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each image and its label with another's (Zhang et al. 2018); labels (n, K).

    One share for the batch, drawn from Beta(alpha, alpha), as in the authors' code.
    """
    share, partner = beta(alpha, rng), torch.randperm(len(inputs), generator=rng).to(inputs.device)
    mixed = share * inputs + (1 - share) * inputs[partner]
    return mixed, share * labels + (1 - share) * labels[partner]


def cutmix(
    inputs: Tensor, labels: Tensor, alpha: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another image into each (Yun et al. 2019); labels (n, K).

    One rectangle for the batch; labels are mixed by the areas that are seen.
    """
    _, _, height, width = inputs.shape
    share, partner = beta(alpha, rng), torch.randperm(len(inputs), generator=rng).to(inputs.device)
    side = math.sqrt(1 - share)
    row, column = (float(x) for x in torch.rand(2, generator=rng))
    top, bottom = _clipped(row * height, side * height, height)
    left, right = _clipped(column * width, side * width, width)
    mixed = inputs.clone(memory_format=torch.preserve_format)
    mixed[:, :, top:bottom, left:right] = inputs[partner, :, top:bottom, left:right]
    seen = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, seen * labels + (1 - seen) * labels[partner]


def soft_labels(labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return (n, K) probabilities: 1 - smoothing of the label and smoothing spread over all."""
    return functional.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes


def beta(alpha: float, rng: torch.Generator) -> float:
    """Draw from Beta(alpha, alpha)."""
    uniform = float(torch.rand((), generator=rng, dtype=torch.float64))
    return float(betaincinv(alpha, alpha, uniform))


def _between(first: Tensor, end: Tensor, size: int) -> Tensor:
    """Return (n, size): whether each place lies in [first, end) of each image."""
    places = torch.arange(size)
    return (places >= first[:, None]) & (places < end[:, None])


def _clipped(centre: float, length: float, size: int) -> tuple[int, int]:
    start, end = centre - length / 2, centre + length / 2
    return max(0, round(start)), min(size, round(end))
