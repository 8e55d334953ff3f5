"""How a gradient passes the sign: the method and those that it is compared with.

Each estimator turns latent weights and activations into signs. ``done`` is the share of the
training that is over, in [0, 1]; schedules are functions of it, so nothing is to be remembered.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from nasplatform.stages.binarize.slopes import (
    binary_sign,
    clipped,
    fourier_slope,
    power_slope,
    triangle_slope,
)


class Estimator(BaseModel):
    """The clipped straight-through estimator, which the others change in part."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scale_of_layer: ClassVar[bool] = False
    """Whether a layer has one scale, not one for each output channel."""

    def weight_signs(self, weight: Tensor, done: float) -> Tensor:
        """Return the signs of latent weights (out, ...)."""
        return binary_sign(weight, lambda t: self.weight_slope(t, done))

    def activation_signs(self, values: Tensor, done: float) -> Tensor:
        """Return the signs of activations (B, ...)."""
        return binary_sign(values, lambda t: self.activation_slope(t, done))

    def weight_slope(self, weight: Tensor, done: float) -> Tensor:
        """Return what stands for the derivative of the sign at the weights."""
        return self.activation_slope(weight, done)

    def activation_slope(self, values: Tensor, done: float) -> Tensor:
        """Return what stands for the derivative of the sign at the activations."""
        return clipped(torch.ones_like(values), values, 1.0)

    def scale(self, weight: Tensor) -> Tensor:
        """Return the scales (out,) that bring signs nearest to the weights: means of |W|."""
        size = weight.detach().abs().flatten(1).mean(1)
        return size.mean().expand_as(size) if self.scale_of_layer else size


class Fourier(Estimator):
    """Frequency domain approximation (FDA-BNN; Xu et al., NeurIPS 2021, arXiv 2103.00841)."""

    name: Literal["fourier"] = "fourier"
    omega: float = Field(default=0.1, gt=0)
    """Angular frequency of the square wave. The paper gives none; 0.1 is BiBench's, and of 0.1,
    0.3 and pi / 2 the best on a CIFAR-10 subset."""
    terms: tuple[int, int] = (9, 18)
    """n at the start and at the end of the training (paper); it grows in equal parts."""
    limit: float = Field(default=1.0, gt=0)
    """Beyond this magnitude nothing flows back (BiBench)."""

    @model_validator(mode="after")
    def _within_a_period(self) -> Fourier:
        if not 0 <= self.terms[0] <= self.terms[1]:
            raise ValueError("terms must be two numbers from 0, the first not above the second")
        if self.omega * self.limit >= math.pi:
            raise ValueError("limit must lie within half a period, pi / omega")
        return self

    def terms_at(self, done: float) -> int:
        """Return n after a share of the training."""
        first, last = self.terms
        return min(last, first + int((last - first + 1) * done))

    def activation_slope(self, values: Tensor, done: float) -> Tensor:
        """Return the derivative of the series, clipped."""
        slope = fourier_slope(values, self.omega, self.terms_at(done))
        return clipped(slope, values, self.limit)


class StraightThrough(Estimator):
    """Identity within [-1, 1] (Hubara et al. 2016, section 1.3)."""

    name: Literal["straight-through"] = "straight-through"


class DoReFa(Estimator):
    """One-bit DoReFa (Zhou et al. 2016): weights straight through, one scale for a layer.

    Activations are signs, as in the release of FDA-BNN, not the paper's 0 and 1.
    """

    name: Literal["dorefa"] = "dorefa"
    scale_of_layer: ClassVar[bool] = True

    def weight_slope(self, weight: Tensor, done: float) -> Tensor:
        """Return 1: nothing is clipped."""
        return torch.ones_like(weight)


class ApproxSign(Estimator):
    """Piecewise quadratic sign of activations (Bi-Real Net; Liu et al. 2018)."""

    name: Literal["approx-sign"] = "approx-sign"

    def weight_slope(self, weight: Tensor, done: float) -> Tensor:
        """Return the clipped straight-through slope."""
        return clipped(torch.ones_like(weight), weight, 1.0)

    def activation_slope(self, values: Tensor, done: float) -> Tensor:
        """Return the triangle."""
        return triangle_slope(values)


class ReSTE(Estimator):
    """Rectified straight-through estimator (Wu et al., ICCV 2023)."""

    name: Literal["reste"] = "reste"
    power: float = Field(default=3.0, ge=1)
    """o at the end; it grows from 1 as 1 - cos (release)."""
    limit: float = Field(default=1.5, gt=0)
    """Beyond this magnitude nothing flows back (release)."""
    core: float = Field(default=0.1, gt=0)
    """Below this magnitude the slope is constant (release)."""
    scale_of_layer: ClassVar[bool] = True

    def activation_slope(self, values: Tensor, done: float) -> Tensor:
        """Return the slope of the power function."""
        power = 1 + (self.power - 1) * (1 - math.cos(math.pi * done)) / 2
        return power_slope(values, power, self.core, self.limit)


class ReCU(Estimator):
    """Rectified clamp unit (Xu et al., ICCV 2021): weights far out are brought back."""

    name: Literal["recu"] = "recu"
    tau: tuple[float, float] = (0.85, 0.99)
    """Quantile at which weights are clamped, at the start and at the end (release)."""

    @model_validator(mode="after")
    def _upper_quantiles(self) -> ReCU:
        if not 0.5 < self.tau[0] <= self.tau[1] < 1:
            raise ValueError(
                "tau must be two shares between 0.5 and 1, the first not above the second"
            )
        return self

    def tau_at(self, done: float) -> float:
        """Return the quantile after a share of the training; it grows exponentially (release)."""
        first, last = self.tau
        return first + (last - first) * math.expm1(done) / math.expm1(1)

    def weight_signs(self, weight: Tensor, done: float) -> Tensor:
        """Return the signs of weights standardised per filter and clamped, straight through."""
        limits = rectified(weight, self.tau_at(done))
        return binary_sign(limits, torch.ones_like)

    def activation_signs(self, values: Tensor, done: float) -> Tensor:
        """Return the signs of activations of unit variance per image, by the triangle."""
        axes = tuple(range(1, values.dim()))
        spread = (values.var(axes, keepdim=True) + 1e-5).sqrt()
        return binary_sign(values / spread, triangle_slope)


def rectified(weight: Tensor, tau: float) -> Tensor:
    """Return filters of mean 0 and deviation 1, clamped at their tau-quantiles (ReCU, eq. 9, 14).

    weight: (out, ...). Quantiles are those of the Laplace distribution of scale mean |w|.
    """
    axes = tuple(range(1, weight.dim()))
    centred = weight - weight.mean(axes, keepdim=True)
    unit = centred / (centred.var(axes, keepdim=True) + 1e-5).sqrt()
    limit = (-math.log(2 - 2 * tau) * unit.abs().mean(axes, keepdim=True)).detach()
    return unit.clamp(-limit, limit)


AnyEstimator = Annotated[
    Fourier | StraightThrough | DoReFa | ApproxSign | ReSTE | ReCU, Field(discriminator="name")
]
