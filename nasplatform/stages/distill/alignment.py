"""Adversarial alignment: features from which nobody can tell the source of an image.

Gradient reversal and its schedule are those of DANN (Ganin et al. 2016, eqs. 13 to 15). That low
level features are aligned is the abstract's of arXiv 1907.06065; discriminator, weight and place
are our reading, for the text of that paper could not be had.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional


class AlignmentOptions(BaseModel):
    """How labelled and unlabelled features are made alike."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    weight: float = Field(default=0.1, gt=0)
    """By which the gradient of the discriminator is multiplied, at the end of the ramp."""
    tap: str | None = None
    """Module whose output is aligned; null for the last map before the second halving."""
    hidden: int = Field(default=32, ge=1)
    """Hidden units of the discriminator (ours)."""


def ramp(done: float) -> float:
    """Return 2 / (1 + exp(-10 p)) - 1 for the share p of the steps done, from 0 towards 1."""
    return 2 / (1 + math.exp(-10 * done)) - 1


def reversed_gradient(features: Tensor, factor: float) -> Tensor:
    """Return the features as they are; their gradient is multiplied by ``-factor``."""
    # torch has no types for ``apply``
    found: Tensor = _Reversal.apply(features, factor)  # type: ignore[no-untyped-call]  # see above
    return found


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None


class Discriminator(nn.Module):
    """Tells labelled images (1) from others (0) by a map: (B, c, places) -> (B,) logits.

    It sees mean and deviation of each channel over the places, as a map's style is described
    (Huang and Belongie 2017), through one hidden layer. They are normalised over the batch, both
    sources together: else the network could outgrow it, and the loss has no bound.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2 * channels, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits, the statistics in the precision of the weights."""
        features = features.to(next(self.parameters()).dtype)
        deviation = (features.var(2, correction=0) + 1e-5).sqrt()
        style = torch.cat([features.mean(2), deviation], 1)
        apart = (style - style.mean(0)) / (style.var(0, correction=0) + 1e-5).sqrt()
        made: Tensor = self.layers(apart)
        return made[:, 0]


def source_loss(logits: Tensor, labelled: int) -> Tensor:
    """Return the mean of the two sources' mean binary cross-entropies, in nats.

    logits: (B,), the first ``labelled`` of them of labelled images.
    """
    first, second = logits[:labelled], logits[labelled:]
    return (functional.softplus(-first).mean() + functional.softplus(second).mean()) / 2


def source_accuracy(logits: Tensor, labelled: int) -> Tensor:
    """Return the mean of the shares of both sources told rightly; 1/2 says that they are alike."""
    first, second = logits[:labelled] > 0, logits[labelled:] <= 0
    return (first.double().mean() + second.double().mean()) / 2
