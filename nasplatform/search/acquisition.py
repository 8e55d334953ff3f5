"""Acquisition functions: how promising a candidate is, given what a predictor says of it.

Each is a pure function of mean (B,), std (B,) and the best score so far, all in the unit of the
scores, and returns (B,) values of which the highest is evaluated next.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Acquisition = Literal["expected_improvement", "upper_confidence_bound", "thompson", "greedy"]
Array = NDArray[np.float64]


def expected_improvement(mean: Array, std: Array, best: float | Array) -> Array:
    """Return E[max(0, y - best)] for y ~ N(mean, std^2) (Mockus, 1978); shapes (B,)."""
    gain = mean - best
    spread = np.maximum(std, 1e-12)
    z = gain / spread
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    return np.where(std > 0, gain * ndtr(z) + spread * density, np.maximum(gain, 0.0))


def upper_confidence_bound(mean: Array, std: Array, beta: float) -> Array:
    """Return mean + beta * std, shapes (B,)."""
    return mean + beta * std


def thompson(mean: Array, std: Array, rng: np.random.Generator) -> Array:
    """Return one draw of y ~ N(mean, std^2) for each candidate, independently; shapes (B,)."""
    return mean + std * rng.standard_normal(len(mean))


def acquire(
    kind: Acquisition,
    mean: Array,
    std: Array,
    best: float,
    beta: float,
    rng: np.random.Generator,
) -> Array:
    """Return the values (B,) of the acquisition function of that name.

    best: highest score measured so far, used by expected improvement.
    beta: weight of the standard deviation, used by the upper confidence bound.
    rng:  used by Thompson sampling.
    """
    if kind == "expected_improvement":
        # far from the best it underflows to 0: the mean then breaks the tie
        return expected_improvement(mean, std, best) + 1e-9 * mean
    if kind == "upper_confidence_bound":
        return upper_confidence_bound(mean, std, beta)
    if kind == "thompson":
        return thompson(mean, std, rng)
    return mean


def probability_below(mean: Array, std: Array, bound: float) -> Array:
    """Return P(y <= bound) for y ~ N(mean, std^2); 0 or 1 where std is 0; shapes (B,)."""
    sure = (mean <= bound).astype(np.float64)
    return np.where(std > 0, ndtr((bound - mean) / np.maximum(std, 1e-12)), sure)


def expected_hypervolume_improvement(
    mean: Array, std: Array, front: Array, reference: Array
) -> Array:
    """Return by how much a candidate is expected to grow the hypervolume of a front of two.

    mean, std: (B, 2), independent normal objectives, higher is better; a std of 0 is exact.
    front:     (K, 2) measured objective values, dominated ones allowed.
    reference: (2,) corner from which the hypervolume is measured.
    The plane above the reference is cut into strips along the second objective in which the
    front's height is constant; a strip's expected gain is the product of the part of its width
    and of the height that the candidate is expected to win (Emmerich et al., 2011, for strips).
    """
    inside = front[(front > reference).all(1)]
    inside = inside[np.argsort(inside[:, 1])]
    edges = np.concatenate([[reference[1]], inside[:, 1], [np.inf]])
    heights = np.maximum.accumulate(np.append(inside[:, 0], reference[0])[::-1])[::-1]
    gained = np.zeros(len(mean))
    beyond = expected_improvement(mean[:, 1], std[:, 1], edges[0])
    for k, height in enumerate(heights):
        further = (
            np.zeros(len(mean))
            if np.isinf(edges[k + 1])
            else expected_improvement(mean[:, 1], std[:, 1], edges[k + 1])
        )
        gained += (beyond - further) * expected_improvement(mean[:, 0], std[:, 0], height)
        beyond = further
    return gained


def scalarised_improvement(
    mean: Array, std: Array, measured: Array, rng: np.random.Generator, draws: int = 64
) -> Array:
    """Return the expected improvement of a random augmented Chebyshev mean of M objectives.

    mean, std: (B, M), independent normal objectives, higher is better. measured: (L, M).
    A weight vector is drawn at random for each call (ParEGO, Knowles, 2006), so that call by call
    all parts of the front are approached; the expectation is over ``draws`` shared normal draws.
    """
    low, high = measured.min(0), measured.max(0)
    scale = np.where(high > low, high - low, 1.0)
    weights = rng.dirichlet(np.ones(mean.shape[1]))

    def value(points: Array) -> Array:
        short = weights * (high - points) / scale
        worst: Array = -(short.max(-1) + 0.05 * short.sum(-1))
        return worst

    best = value(measured).max()
    total = np.zeros(len(mean))
    for noise in rng.standard_normal((draws, mean.shape[1])):
        total += np.maximum(value(mean + std * noise) - best, 0.0)
    return total / draws + 1e-9 * value(mean)
