"""Labels seen on several scales at once: what is promising on all of them is tried first.

On the scale of ranks the best few labels lie close together and the many poor ones far apart;
on that of log distances to the best it is the other way round. Expected improvement on the one
wanders, on the other it gets stuck; on the mean of both it does neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from nasplatform.predictors.base import Prediction, Predictor
from nasplatform.predictors.target_maps import MonotoneMap, log_gaps, normal_scores
from nasplatform.search.posterior import levels

Array = NDArray[np.float64]
Scale = Literal["ranks", "gaps"]


@dataclass(frozen=True)
class TargetTransform:
    """One predictor and the scale on which its predictions are weighed.

    scale:  from targets of unit variance to labels.
    best:   the target of the best label that keeps the limits.
    """

    predictor: Predictor
    scale: MonotoneMap
    best: float

    @classmethod
    def of(cls, predictor: Predictor, scale: Scale, labels: Array, kept: NDArray[np.bool_]) -> Self:
        """Take a fitted predictor, its labels (L,) and which of them keep the limits (L,)."""
        targets = normal_scores(labels) if scale == "ranks" else log_gaps(labels)
        targets = (targets - targets.mean()) / targets.std()
        best = targets[kept].max() if kept.any() else targets.min()
        return cls(predictor, MonotoneMap.through(targets, labels), float(best))


def variants(predictor: Predictor, scales: tuple[Scale, ...]) -> list[tuple[Predictor, Scale]]:
    """Return a predictor for each scale of labels, the one that was given among them.

    A predictor that is told the scale by an option ``labels`` is copied for the others; any other
    one learns on a scale of its own and is weighed on the first.
    """
    options = predictor.options
    own = getattr(options, "labels", None)
    if own not in scales:
        return [(predictor, scales[0])]
    return [(predictor if scale == own else _on(predictor, scale), scale) for scale in scales]


def _on(predictor: Predictor, scale: Scale) -> Predictor:
    """Return a copy that learns on another scale."""
    options = predictor.options.model_copy(update={"labels": scale})
    return type(predictor)(options, seed=predictor.seed)


def combine(
    transforms: Sequence[TargetTransform], predictions: Sequence[Prediction]
) -> tuple[Array, Array]:
    """Return mean and standard deviation (B,) on the mean of the scales.

    predictions: of B candidates, one for each transform.
    """
    means, variances = [], []
    for transform, found in zip(transforms, predictions, strict=True):
        mean, std = levels(transform.scale, found.mean, found.std)
        means.append(mean)
        variances.append(std**2)
    spread: Array = np.sqrt(np.mean(variances, axis=0))
    return np.mean(means, axis=0), spread


def best_of(transforms: Sequence[TargetTransform]) -> float:
    """Return the target of the best label on the mean of the scales."""
    return float(np.mean([transform.best for transform in transforms]))
