"""The sign in the forward pass, and what stands for its derivative in the backward pass.

A slope is a function of the sign's argument; what flows back is multiplied by it. Each is the
derivative of the smooth function that its paper puts in the place of the sign.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Slope = Callable[[Tensor], Tensor]
_NEXT_TO_ZERO = 1e-30


def binary_sign(values: Tensor, slope: Slope) -> Tensor:
    """Return 1 where a value is at least 0, else -1; backward the gradient times ``slope``."""
    found: Tensor = _Sign.apply(values, slope)  # type: ignore[no-untyped-call]  # torch has none
    return found


def sign_of(values: Tensor) -> Tensor:
    """Return 1 where a value is at least 0, else -1, of the type of the values."""
    return torch.sign(values).add_(0.5).sign_()  # three times as fast as by a comparison


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Slope) -> Tensor:
        ctx.save_for_backward(values)
        ctx.slope = slope
        return sign_of(values)

    @staticmethod
    def backward(ctx: Any, *grad: Tensor) -> tuple[Tensor, None]:
        (values,) = ctx.saved_tensors
        exact = values.to(torch.promote_types(values.dtype, torch.float32))
        return grad[0] * ctx.slope(exact).to(grad[0].dtype), None


def fourier_series(values: Tensor, omega: float, terms: int) -> Tensor:
    """Return the series of the square wave of period 2 pi / omega up to i = terms (FDA, eq. 5).

    (4 / pi) sum_{i=0}^{n} sin((2 i + 1) omega t) / (2 i + 1), term by term.
    """
    odd = torch.arange(1, 2 * terms + 2, 2, dtype=values.dtype, device=values.device)
    return 4 / math.pi * (torch.sin(values[..., None] * odd * omega) / odd).sum(-1)


def fourier_slope(values: Tensor, omega: float, terms: int) -> Tensor:
    """Return the derivative of ``fourier_series`` in closed form (FDA, eq. 8).

    (4 omega / pi) sum_{i=0}^{n} cos((2 i + 1) u) = (4 omega / pi) sin(2 (n + 1) u) / (2 sin u)
    with u = omega t within the period (-pi, pi); the cost does not depend on n.
    """
    angle = (values * omega).add_(_NEXT_TO_ZERO)  # at 0 the quotient is n + 1, but 0 / 0 is not
    wave = (angle * (2 * terms + 2)).sin_()
    return wave.div_(angle.sin_()).mul_(2 * omega / math.pi)


def clipped(slope: Tensor, values: Tensor, limit: float) -> Tensor:
    """Return the slope where the magnitude of a value is below ``limit``, else 0."""
    found: Tensor = torch.ops.aten.hardtanh_backward(slope, values, -limit, limit)
    return found


def triangle_slope(values: Tensor) -> Tensor:
    """Return 2 - 2 |t| within (-1, 1), else 0 (ApproxSign; Liu et al. 2018, eq. 6)."""
    return (2 - 2 * values.abs()).clamp_min(0)


def power_slope(values: Tensor, power: float, core: float, limit: float) -> Tensor:
    """Return the derivative of sign(t) |t|^(1/o) (ReSTE; Wu et al. 2023, section 3.3).

    power: o, at least 1; core: below this magnitude the function is the line through the origin;
    limit: beyond this magnitude nothing flows back.
    """
    size = values.abs()
    outer = size.clamp_min(core).pow(1 / power - 1) / power
    return clipped(torch.where(size < core, core ** (1 / power - 1), outer), values, limit)
