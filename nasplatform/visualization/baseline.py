"""Random search, in closed form, as what every curve is to be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from nasplatform.search.baseline import random_search_curve
from nasplatform.visualization.axes import QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = "random search, expected"


def draw_random(
    axes: Axes, scores: NDArray[np.float64], steps: int, optimum: float | None = None
) -> None:
    """Draw mean and quartiles of what random search finds in at most so many evaluations.

    scores:  (B,) of every architecture that can be drawn; those that are missing are left out.
    optimum: the best score where regret is drawn; None where the score itself is.
    """
    known = scores[np.isfinite(scores)]
    curve = random_search_curve(known, min(steps, len(known)))
    shown = np.arange(1, len(curve.mean) + 1)
    lines = (curve.mean, curve.low, curve.high)
    mean, low, high = lines if optimum is None else (optimum - line for line in lines)
    axes.plot(shown, mean, ":", color=QUIET, label=LABEL)
    axes.fill_between(shown, low, high, color=QUIET, alpha=0.15, lw=0)
