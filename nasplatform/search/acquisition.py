"""Acquisition functions: how promising a candidate is, given what a predictor says of it.

Each is a pure function of mean (B,), std (B,) and the best score so far, all in the unit of the
scores, and returns (B,) values of which the highest is evaluated next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Acquisition = Literal[
    "expected_improvement", "upper_confidence_bound", "thompson", "bootstrap_thompson", "greedy"
]
Array = NDArray[np.float64]
Excess = Callable[[Array], Array]


def expected_improvement(mean: Array, std: Array, best: float | Array) -> Array:
    """Return E[max(0, y - best)] for y ~ N(mean, std^2) (Mockus, 1978); shapes that go together."""
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


def hypervolume_improvement(points: Array, front: Array, reference: Array) -> Array:
    """Return by how much each point would grow the hypervolume of a front of two objectives.

    points:    (B, 2), higher is better.
    front:     (K, 2) measured objective values, dominated ones allowed.
    reference: (2,) corner from which the hypervolume is measured.
    The plane above the reference is cut into strips along the second objective in which the
    front's height is constant; in each a point wins a rectangle.
    """
    edges, heights = _strips(front, reference)
    gained = np.zeros(len(points))
    for low, high, height in zip(edges, np.append(edges[1:], np.inf), heights, strict=True):
        width = np.clip(points[:, 1], low, high) - low
        gained += width * np.maximum(points[:, 0] - height, 0.0)
    return gained


def expected_hypervolume_improvement(
    excess: tuple[Excess, Excess], front: Array, reference: Array
) -> Array:
    """Return (B,): by how much candidates are expected to grow a front of two objectives, exactly.

    excess: for each objective E[max(0, y - t)] (B, T) at thresholds t (T,); the objectives are
            independent of each other.
    front, reference: see ``hypervolume_improvement``, whose strips these are: in each the expected
            area is the expected width times the expected height (Emmerich et al., 2011).
    """
    edges, heights = _strips(front, reference)
    beyond = excess[1](edges)
    widths = beyond - np.append(beyond[:, 1:], np.zeros((len(beyond), 1)), axis=1)
    expected: Array = (widths * excess[0](heights)).sum(1)
    return expected


def _strips(front: Array, reference: Array) -> tuple[Array, Array]:
    """Cut the plane above a reference along the second objective where the front's height changes.

    Returns the lower edges (S,) of the strips, ascending, and the front's heights (S,) in them.
    """
    inside = front[(front > reference).all(1)]
    inside = inside[np.lexsort((inside[:, 0], inside[:, 1]))]
    heights = np.maximum.accumulate(np.append(inside[:, 0], reference[0])[::-1])[::-1]
    edges = np.append(reference[1], inside[:, 1])
    lower = np.append(True, heights[1:] < heights[:-1])
    return edges[lower], heights[lower]


def scalarised_improvement(points: Array, measured: Array, weights: Array) -> Array:
    """Return by how much each point beats all that was measured, objectives weighted into one.

    points, measured: (B, M) and (L, M), higher is better, both in units of the measured range.
    weights: (M,), positive, of the augmented Chebyshev mean (ParEGO, Knowles, 2006); drawn anew
    for each call they make the search approach all parts of the front.
    """
    high = measured.max(0) if len(measured) else np.ones(points.shape[1])

    def value(rows: Array) -> Array:
        short = weights * (high - rows)
        worst: Array = -(short.max(1) + 0.05 * short.sum(1))
        return worst

    best = value(measured).max() if len(measured) else -np.inf
    if not np.isfinite(best):
        return value(points)
    return np.maximum(value(points) - best, 0.0) + 1e-9 * value(points)
