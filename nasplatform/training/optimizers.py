"""Optimisers and learning-rate schedules that a recipe may name, and averages of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import nn


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SGD(_Options):
    """Stochastic gradient descent; weight decay is an L2 penalty."""

    name: Literal["sgd"] = "sgd"
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Share of the last step that goes into the next (Disout, CIFAR ResNet-56)."""
    nesterov: bool = True
    """Look ahead along the momentum."""

    @model_validator(mode="after")
    def _momentum_to_look_along(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0")
        return self

    def make(
        self, parameters: Iterable[nn.Parameter], rate: float, decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of parameters."""
        return torch.optim.SGD(
            parameters,
            lr=rate,
            momentum=self.momentum,
            weight_decay=decay,
            nesterov=self.nesterov,
        )


class _Adaptive(_Options):
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of gradient and squared gradient."""
    eps: float = Field(default=1e-8, gt=0)
    """Added to the root of the mean square."""

    @field_validator("betas")
    @classmethod
    def _shares(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("expected two numbers in [0, 1)")
        return betas


class Adam(_Adaptive):
    """Adam (Kingma and Ba 2015); weight decay is an L2 penalty."""

    name: Literal["adam"] = "adam"

    def make(
        self, parameters: Iterable[nn.Parameter], rate: float, decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of parameters."""
        return torch.optim.Adam(
            parameters, lr=rate, betas=self.betas, eps=self.eps, weight_decay=decay
        )


class AdamW(_Adaptive):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"

    def make(
        self, parameters: Iterable[nn.Parameter], rate: float, decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser of parameters."""
        return torch.optim.AdamW(
            parameters, lr=rate, betas=self.betas, eps=self.eps, weight_decay=decay
        )


Optimizer = Annotated[SGD | Adam | AdamW, Field(discriminator="name")]


class Cosine(_Options):
    """Half a cosine from the peak to 0 (Loshchilov and Hutter 2017, without restarts)."""

    name: Literal["cosine"] = "cosine"

    def factor(self, done: float) -> float:
        """Return the share of the peak after a share ``done`` of the steps after warm-up."""
        return 0.5 * (1.0 + math.cos(math.pi * done))


class Constant(_Options):
    """The peak throughout."""

    name: Literal["constant"] = "constant"

    def factor(self, done: float) -> float:
        """Return 1."""
        return 1.0


class Step(_Options):
    """Multiplied by a factor at each milestone (He et al. 2016)."""

    name: Literal["step"] = "step"
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Shares of the steps after warm-up, ascending."""
    gamma: float = Field(default=0.1, gt=0, lt=1)
    """What the rate is multiplied by."""

    @field_validator("milestones")
    @classmethod
    def _ascending(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if not milestones or any(a >= b for a, b in pairwise((0.0, *milestones, 1.0))):
            raise ValueError("expected ascending shares between 0 and 1")
        return milestones

    def factor(self, done: float) -> float:
        """Return gamma to the power of the milestones passed."""
        return float(self.gamma ** sum(done >= milestone for milestone in self.milestones))


Schedule = Annotated[Cosine | Constant | Step, Field(discriminator="name")]


class EMA(_Options):
    """Exponential moving average of the weights, after every step; buffers likewise."""

    name: Literal["ema"] = "ema"
    decay: float = Field(default=0.999, gt=0, lt=1)
    """Share of the average that stays in a step."""


class MeanOfLast(_Options):
    """Mean of the weights after each of the last epochs (SWA, Izmailov et al. 2018)."""

    name: Literal["mean"] = "mean"
    share: float = Field(default=0.25, gt=0, le=1)
    """Share of the epochs that count, at least one."""

    def counts(self, epoch: int, epochs: int) -> bool:
        """Return whether the weights after an epoch from 1 to ``epochs`` count."""
        return epoch > epochs - max(1, round(self.share * epochs))


Averaging = Annotated[EMA | MeanOfLast, Field(discriminator="name")]
