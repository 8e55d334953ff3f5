"""Acquisition functions: how promising a candidate is, given what a predictor says of it.

Each is a pure function of mean (B,), std (B,) and the best score so far, all in the unit of the
scores, and returns (B,) values of which the highest is evaluated next.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Acquisition = Literal["expected_improvement", "upper_confidence_bound", "greedy"]
Array = NDArray[np.float64]


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """Return E[max(0, y - best)] for y ~ N(mean, std^2) (Mockus, 1978); shapes (B,)."""
    gain = mean - best
    spread = np.maximum(std, 1e-12)
    z = gain / spread
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.where(std > 0, gain * ndtr(z) + spread * density, np.maximum(gain, 0.0))


def upper_confidence_bound(mean: Array, std: Array, beta: float) -> Array:
    """Return mean + beta * std, shapes (B,)."""
    return mean + beta * std


def acquire(kind: Acquisition, mean: Array, std: Array, best: float, beta: float) -> Array:
    """Return the values (B,) of the acquisition function of that name.

    best: highest score measured so far, used by expected improvement.
    beta: weight of the standard deviation, used by the upper confidence bound.
    """
    if kind == "expected_improvement":
        # far from the best it underflows to 0: the mean then breaks the tie
        return expected_improvement(mean, std, best) + 1e-9 * mean
    if kind == "upper_confidence_bound":
        return upper_confidence_bound(mean, std, beta)
    return mean
