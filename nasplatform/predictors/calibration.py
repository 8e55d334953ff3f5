"""From a network's score, which has no unit, to labels: measured on labels that it did not see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nasplatform.predictors.target_maps import Floats

Rows = NDArray[np.intp]
_LEAST_SLOPE = 0.05  # the order that the network gives is kept, however weak


def cross_fitted(score: Callable[[Rows, Rows, int], Floats], targets: Floats, seed: int) -> Floats:
    """Return (n,) scores of each half of the labels by a model trained on the other half.

    score: called with the rows to learn from, the rows to score and the number of the turn.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    left, right = np.array_split(order, 2)
    held_out = np.zeros(len(targets))
    for turn, (learnt, asked) in enumerate(((left, right), (right, left))):
        if np.ptp(targets[learnt]) > 0:
            held_out[asked] = score(learnt, asked, turn)
    return held_out


def slope_and_spread(held_out: Floats, targets: Floats) -> tuple[float, float]:
    """Return the slope of the targets (n,) on held-out scores (n,), and the deviation from it."""
    slope = float(held_out @ targets / max(float(held_out @ held_out), 1e-12))
    slope = max(slope, _LEAST_SLOPE)
    return slope, float(np.sqrt(np.mean((targets - slope * held_out) ** 2)))
