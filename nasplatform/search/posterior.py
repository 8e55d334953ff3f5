"""What is expected of one objective, on a scale on which it is nearly normal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nasplatform.predictors.base import Prediction
from nasplatform.predictors.target_maps import MonotoneMap
from nasplatform.search.acquisition import expected_improvement

Array = NDArray[np.float64]
_WIDEST, _HALVINGS = 16.0, 14  # of a std of normal scores: found to a thousandth
_TOP = 0.75  # share of the labels below those that say how much may still be gained


def levels(scale: MonotoneMap, mean: Array, std: Array) -> tuple[Array, Array]:
    """Turn predictions (B,) in the unit of the labels into normal scores: mean and std (B,).

    The inverse of ``MonotoneMap.prediction``: the std whose ends, mapped to labels, lie twice
    the given one apart; what labels that share the lowest score add to it is taken off again.
    Labels crowd near the best, so one width there spans more of the ranks.
    """
    back = MonotoneMap.through(scale.labels, scale.knots)
    level = back.label(mean)
    low, high = np.zeros_like(level), np.full_like(level, _WIDEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        half = (scale.label(level + middle) - scale.label(level - middle)) / 2
        if scale.lowest:
            half = np.hypot(half, np.sqrt(ndtr((scale.knots[0] - level) / middle)) * scale.lowest)
        wide = half > std
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return level, np.where(std > 0, (low + high) / 2, 0.0)


@dataclass(frozen=True)
class Posterior:
    """One objective of B candidates, higher is better.

    level:  (B,) expected normal score of its rank among the labels; the value itself where it is
            known.
    spread: (B,) standard deviation of the level.
    scale:  from normal scores to values; None where the value is known.
    """

    level: Array
    spread: Array
    scale: MonotoneMap | None

    @classmethod
    def known(cls, values: Array) -> Posterior:
        """Expect exactly these values (B,)."""
        return cls(values, np.zeros_like(values), None)

    @classmethod
    def of(cls, prediction: Prediction, labels: Array) -> Posterior:
        """Expect what a predictor says that was fitted to labels (L,), two of them distinct."""
        scale = MonotoneMap.of(labels)
        return cls(*levels(scale, prediction.mean, prediction.std), scale)

    @classmethod
    def joined(cls, parts: Sequence[Posterior]) -> Posterior:
        """Put candidates side by side; the parts have one scale."""
        levels = np.concatenate([part.level for part in parts])
        return cls(levels, np.concatenate([part.spread for part in parts]), parts[0].scale)

    def excess(self, thresholds: Array) -> Array:
        """Return (B, T): E[max(0, value - threshold)] for each of T thresholds, exactly.

        Above a threshold the value is made of the steps between knots, of each as much as the level
        has climbed of it: the expectations of these shares are closed forms.
        """
        if self.scale is None:
            return np.maximum(self.level[:, None] - thresholds, 0.0)
        back = MonotoneMap.through(self.scale.labels, self.scale.knots)
        levels = back.label(thresholds)
        points = np.unique(np.append(self.scale.knots, levels))
        ends = self._value(points)
        slopes = np.append(np.diff(ends) / np.diff(points), self._slope)
        climbed = expected_improvement(self.level[:, None], self.spread[:, None], points)
        climbed[:, :-1] -= climbed[:, 1:].copy()
        tails = np.cumsum((climbed * slopes)[:, ::-1], axis=1)[:, ::-1]
        found: Array = tails[:, np.searchsorted(points, levels)]
        return found

    @property
    def _slope(self) -> float:
        """How fast values rise beyond the best: as between the upper quartile and the best."""
        assert self.scale is not None
        knots, labels = self.scale.knots, self.scale.labels
        quarter = int(_TOP * (len(knots) - 1))
        return float((labels[-1] - labels[quarter]) / (knots[-1] - knots[quarter]))

    def _value(self, level: Array) -> Array:
        """Turn levels into values; a ceiling is believed in, see ``_slope``."""
        assert self.scale is not None
        top = self.scale.knots[-1]
        value: Array = self.scale.label(np.minimum(level, top))
        value += np.maximum(level - top, 0.0) * self._slope
        return value

    def at(self, place: Array | float) -> Array:
        """Return the values (B,) that lie ``place`` standard deviations above the expected ones.

        Labels often crowd below a ceiling, so beyond the best one the scale goes on as steeply as
        it runs between the best and the upper quartile, not as it does in all.
        """
        level = self.level + self.spread * place
        return level if self.scale is None else self._value(level)
