"""Labels on a scale that suits learning, and the way back to the unit of the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import norm, rankdata

from nasplatform.predictors.base import Prediction

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MonotoneMap:
    """A monotone map between labels and normal scores, learnt from the labels alone.

    knots:  (K,) distinct normal scores, ascending.
    labels: (K,) the labels at the knots, ascending.
    lowest: standard deviation of the labels that share the lowest knot.
    """

    knots: Floats
    labels: Floats
    lowest: float = 0.0

    @classmethod
    def of(cls, labels: Floats) -> MonotoneMap:
        """Learn from (n,) labels, of which at least two are distinct."""
        return cls.through(normal_scores(labels), labels)

    @classmethod
    def through(cls, scores: Floats, labels: Floats) -> MonotoneMap:
        """Join the points (score, label), each (n,); labels with one score are averaged."""
        knots, place, count = np.unique(scores, return_inverse=True, return_counts=True)
        lowest = labels[place == 0]
        return cls(knots, np.bincount(place, labels) / count, float(lowest.std()))

    def label(self, score: Floats) -> Floats:
        """Map normal scores to labels; strictly monotone also beyond the best and the worst."""
        inner = np.interp(score, self.knots, self.labels)
        slope = np.ptp(self.labels) / np.ptp(self.knots)
        below = np.minimum(score - self.knots[0], 0) * slope
        above = np.maximum(score - self.knots[-1], 0) * slope
        mapped: Floats = inner + below + above
        return mapped

    def prediction(self, mean: Floats, std: Floats) -> Prediction:
        """Map a normal distribution of scores (B,) to mean and standard deviation of labels.

        Scores do not tell labels at the lowest knot apart: as far as a score may lie there, the
        spread of those labels adds to the standard deviation.
        """
        with np.errstate(invalid="ignore"):  # what is not finite is told by who asked
            half_width = (self.label(mean + std) - self.label(mean - std)) / 2
        bottom = ndtr((self.knots[0] - mean) / std)
        return Prediction(self.label(mean), np.sqrt(half_width**2 + bottom * self.lowest**2))

    def state(self) -> dict[str, Floats]:
        """Return the map as arrays."""
        lowest = np.array([self.lowest])
        return {"rank_knots": self.knots, "rank_labels": self.labels, "rank_lowest": lowest}

    @classmethod
    def restore(cls, state: Mapping[str, NDArray[Any]]) -> MonotoneMap:
        """Take back what ``state`` returned."""
        return cls(state["rank_knots"], state["rank_labels"], float(state["rank_lowest"][0]))


def normal_scores(labels: Floats) -> Floats:
    """Return (n,) the normal quantiles of the ranks, (rank - 1/2) / n; ties share a rank."""
    scores: Floats = norm.ppf((rankdata(labels) - 0.5) / len(labels))
    return scores


def log_gaps(labels: Floats, scale: float = 1.0, floor: float = 1.5) -> Floats:
    """Return (n,) minus the logarithm of each label's distance to the best, without outliers.

    The distance is measured in quartile ranges of the labels times ``scale``, so that the unit of
    the labels does not matter; for accuracies the values come close to -log(error). What lies more
    than ``floor`` quartile ranges below the median of the result is lifted to there: a training
    that failed says that an architecture is bad, not how bad.
    """
    gaps = (labels.max() - labels) / (scale * _quartile_range(labels))
    logs = -np.log1p(gaps)
    lifted: Floats = np.maximum(logs, np.median(logs) - floor * _quartile_range(logs))
    return lifted


def _quartile_range(values: Floats) -> float:
    low, high = np.percentile(values, [25, 75])
    return float(high - low) or float(values.std())
