"""Noise adaptation: a small network that learns what the series leaves out (FDA-BNN, section 3.3).

Beside the sign stands alpha e(t), in training only; alpha falls to zero, so that what is deployed
is the plain sign. e(t) = relu(t W1) W2 + a sin(t).
"""

from __future__ import annotations

import math

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn


class NoiseOptions(BaseModel):
    """How noise is adapted to."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    share: float = Field(default=0.1, gt=0)
    """Alpha at the start; it falls to 0 as a cosine does (BiBench; the paper gives none)."""
    reduction: int = Field(default=64, ge=1)
    """By how much the hidden layer is narrower, k (paper); it has at least one unit."""
    shortcut: float = Field(default=0.1, ge=0)
    """a, the weight of the sine (paper, table 4)."""

    def share_at(self, done: float) -> float:
        """Return alpha after a share of the training, exactly 0 in the end."""
        return self.share * (1 + math.cos(math.pi * done)) / 2


class NoiseAdaptation(nn.Module):
    """e(t) along one axis: filters flattened for weights, channels for activations."""

    def __init__(self, width: int, options: NoiseOptions, axis: int) -> None:
        """Take the width of the vectors, and the axis on which they lie."""
        super().__init__()
        hidden = max(1, width // options.reduction)
        self.reduce = nn.Linear(width, hidden, bias=False)
        self.expand = nn.Linear(hidden, width, bias=False)
        self.options, self.axis = options, axis

    def forward(self, values: Tensor) -> Tensor:
        """Return e of the values, of their shape."""
        rows = values.movedim(self.axis, -1)
        inner = self.expand(torch.relu(self.reduce(rows))).movedim(-1, self.axis)
        found: Tensor = inner + self.options.shortcut * torch.sin(values)
        return found
