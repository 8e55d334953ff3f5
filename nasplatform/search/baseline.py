"""What random search would have found, in closed form: no sampling, no noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RandomCurve:
    """Distribution of the best score after 1, 2, ... budget draws; all arrays have shape (budget,).

    mean:  expected best score.
    low:   lower quartile.
    high:  upper quartile.
    """

    mean: Array
    low: Array
    high: Array


def random_search_curve(scores: Array, budget: int) -> RandomCurve:
    """Return what drawing without repetition from scores (B,) finds, over all possible searches.

    The best of n draws is at most the k-th smallest score with probability C(k, n) / C(B, n).
    Raises ValueError for more draws than there are scores.

    >>> random_search_curve(np.array([1.0, 2.0, 3.0, 4.0]), 2).mean.round(3).tolist()
    [2.5, 3.333]
    """
    if not 1 <= budget <= len(scores):
        raise ValueError(f"budget must be between 1 and the {len(scores)} scores, got {budget}")
    ascending = np.sort(scores)
    ranks = np.arange(1, len(scores) + 1, dtype=np.float64)
    mean, low, high = np.empty(budget), np.empty(budget), np.empty(budget)
    for n in range(1, budget + 1):
        below = _probability_below(ranks, n)
        mean[n - 1] = ascending @ np.diff(below, prepend=0.0)
        low[n - 1] = ascending[np.searchsorted(below, 0.25)]
        high[n - 1] = ascending[np.searchsorted(below, 0.75)]
    return RandomCurve(mean, low, high)


def _probability_below(ranks: Array, n: int) -> Array:
    """Return C(k, n) / C(B, n) for the ranks k = 1..B, shape (B,); 0 for k < n."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log = gammaln(ranks + 1) - gammaln(ranks - n + 1)
    log[: n - 1] = -np.inf
    below: Array = np.exp(log - log[-1])
    return below
