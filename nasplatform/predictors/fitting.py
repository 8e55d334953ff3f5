"""Fitting a predictor to measured architectures of a space: the way of searches, shell and service.

What is known of a space beside the labels is the space itself. A predictor that uses unlabelled
architectures, for scales or for graph networks that are distilled on them, gets them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from nasplatform.predictors.base import Predictor, Progress
from nasplatform.predictors.feature_scaling import SEEN
from nasplatform.spaces.base import Space
from nasplatform.spaces.graph import GraphBatch

P = TypeVar("P", bound=Predictor)


def fit_on_space(
    predictor: P,
    space: Space[Any],
    architectures: Sequence[Any],
    scores: ArrayLike,
    progress: Progress | None = None,
) -> P:
    """Fit a predictor to B architectures and their scores (B,), higher is better; return it.

    Beside them it sees random architectures of the space, which its own seed decides. Raises
    PredictorError for scores that cannot be learnt from.
    """
    unlabelled = unlabelled_of(space, predictor.seed)
    return predictor.fit(space.graphs(architectures), scores, unlabelled, progress)


def unlabelled_of(space: Space[Any], seed: int) -> GraphBatch:
    """Return random architectures of a space, as ``Predictor.fit`` wants to see them."""
    return space.graphs(space.sample(SEEN, np.random.default_rng(seed)))
