"""How a network is trained: the recipe, its learning-rate schedule, its augmentation."""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional


class Recipe(BaseModel):
    """Stochastic gradient descent with Nesterov momentum, linear warm-up, then a cosine to 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=10, ge=1)
    """Passes over the training split; 10 is what the embedded benchmark of digits uses."""
    batch_size: int = Field(default=64, ge=2)
    """Largest batch; the batches of an epoch differ by at most one image."""
    learning_rate: float = Field(default=0.1, gt=0)
    """Peak learning rate (Disout, CIFAR ResNet-56)."""
    momentum: float = Field(default=0.9, gt=0, lt=1)
    """Nesterov momentum."""
    weight_decay: float = Field(default=5e-4, ge=0)
    """L2 penalty on every parameter (Disout, CIFAR ResNet-56)."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    """Share of the steps in which the learning rate grows linearly to its peak."""
    augmentation: Literal["none", "flip-crop"] = "none"
    """``flip-crop``: random mirroring and shifts of up to an eighth of the side (4 of 32)."""


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Return the learning rate of step 0..steps-1: up linearly, down along a half cosine."""
    warm = recipe.warmup * steps
    if step + 1 < warm:
        return recipe.learning_rate * (step + 1) / warm
    done = (step - warm) / (steps - warm) if step > warm else 0.0
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def flip_crop(inputs: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror each image with probability 1/2 and shift it by up to an eighth of its side.

    inputs: (n, c, h, w); what moves in is 0, the mean of standardised images.
    rng:    a CPU generator, so that the same seed augments alike on every device.
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
