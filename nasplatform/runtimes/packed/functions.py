"""The functions of programs, operation by operation as the kernels compute them.

Everything is float32: each product and each sum is rounded, so that any language makes these bits.
"""

from __future__ import annotations

import numpy as np

from nasplatform.runtimes.base import Arrays

_F = np.float32
LOWEST, HIGHEST = _F(-87), _F(88)
"""Beyond these the exponential is that of these: it is neither 0 nor infinite."""
ROUNDING = _F(12582912)
"""1.5 * 2^23: what is added to it and taken away again is rounded to a whole number."""
LOG2_E, LN2_HIGH, LN2_LOW = _F(1.44269504), _F(0.693359375), _F(-2.12194440e-4)
EXPONENTIAL = tuple(
    map(_F, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1))
)
"""Of Cephes' ``expf`` (Moshier), highest power first; then 1/2, 1, 1."""
ERF_P = _F(0.3275911)
ERF = tuple(map(_F, (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)))
"""Abramowitz and Stegun, 7.1.26: absolute error 1.5e-7."""
HALF, ONE, ROOT_HALF = _F(0.5), _F(1), _F(0.70710678)
LANES = 16


def exponential(values: Arrays) -> Arrays:
    """Return e to the power of finite values, within 2 units of the last place."""
    x = np.where(values > LOWEST, values, LOWEST)
    x = np.where(x < HIGHEST, x, HIGHEST)
    whole = (x * LOG2_E + ROUNDING) - ROUNDING
    rest = (x - whole * LN2_HIGH) - whole * LN2_LOW
    made = EXPONENTIAL[0]
    for factor in (*EXPONENTIAL[1:], HALF):
        made = made * rest + factor
    made = (made * rest) * rest + rest + ONE
    power = ((whole.astype(np.int32) + 127) << 23).view(np.float32)
    found: Arrays = made * power
    return found


def sigmoid(values: Arrays) -> Arrays:
    """Return 1 / (1 + exp(-x)); what is not a number stays so."""
    found: Arrays = np.where(values == values, ONE / (ONE + exponential(-values)), values)
    return found


def gelu(values: Arrays) -> Arrays:
    """Return x * (1 + erf(x / sqrt(2))) / 2; what is not a number stays so."""
    x = values * ROOT_HALF
    size = np.abs(x)
    t = ONE / (ONE + ERF_P * size)
    made = ERF[0]
    for factor in ERF[1:]:
        made = made * t + factor
    tail = (made * t) * exponential(-(size * size))
    share = np.where(x < 0, tail, (ONE - tail) + ONE)
    found: Arrays = np.where(values == values, values * HALF * share, values)
    return found


def lane_sum(values: Arrays) -> Arrays:
    """Return (..., 1): sixteen lanes sum every sixteenth channel each, then halves are added."""
    padded = np.pad(values, (*[(0, 0)] * (values.ndim - 1), (0, -values.shape[-1] % LANES)))
    rows = padded.reshape(*values.shape[:-1], -1, LANES)
    lanes = np.zeros((*values.shape[:-1], LANES), _F)
    for place in range(rows.shape[-2]):
        lanes = lanes + rows[..., place, :]
    while lanes.shape[-1] > 1:
        half = lanes.shape[-1] // 2
        lanes = lanes[..., :half] + lanes[..., half:]
    found: Arrays = lanes
    return found


def layer_norm(values: Arrays, epsilon: Arrays) -> Arrays:
    """Return (..., c) less its mean over channels, by the root of its variance and epsilon (1,)."""
    many = _F(values.shape[-1])
    apart = values - lane_sum(values) / many
    variance = lane_sum(apart * apart) / many
    found: Arrays = apart * (ONE / np.sqrt(variance + epsilon))
    return found


def softmax(values: Arrays) -> Arrays:
    """Return shares (..., c) that add up to 1; all of them are no numbers where one value is.

    What is masked has no share at all: beside it a value of exactly 0 keeps its sign.
    """
    most: Arrays = np.fmax.reduce(values, axis=-1, keepdims=True)
    apart = values - most
    powers: Arrays = np.where(apart == apart, exponential(apart), apart)
    powers = np.where(apart < LOWEST, _F(0), powers)
    found: Arrays = powers / lane_sum(powers)
    return found
