"""How promising candidates are: predictors fitted to a history, and the acquisitions' values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from nasplatform.predictors.base import Predictor
from nasplatform.predictors.ranks import RankMap, normal_scores
from nasplatform.search.acquisition import (
    Acquisition,
    acquire,
    expected_hypervolume_improvement,
    probability_below,
    scalarised_improvement,
)
from nasplatform.search.candidates import Pool
from nasplatform.search.goals import Goals
from nasplatform.search.history import History
from nasplatform.spaces.base import A, Space
from nasplatform.spaces.graph import GraphBatch, concatenate

Array = NDArray[np.float64]
_WIDEST, _HALVINGS = 16.0, 14  # of a std of normal scores: found to a thousandth
_MARGIN = 0.1  # of the measured range, by which the reference lies below the worst


@dataclass(frozen=True)
class Judgement:
    """What is expected of B candidates.

    mean, std: (B,) of the score, in its unit.
    values:    for each acquisition in turn (B,), higher is more promising.
    """

    mean: Array
    std: Array
    values: tuple[Array, ...]

    @property
    def promise(self) -> Array:
        """The last acquisition's values."""
        return self.values[-1]

    @classmethod
    def joined(cls, parts: Sequence[Judgement]) -> Judgement:
        """Put judgements side by side."""
        values = zip(*(part.values for part in parts), strict=True)
        return cls(
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.std for part in parts]),
            tuple(np.concatenate(each) for each in values),
        )


@dataclass(frozen=True)
class Judge(Generic[A]):
    """Predictors fitted to what was measured.

    labels:    what was measured.
    scale:     between the unit of the scores and normal scores of their ranks, on which a gain is
               worth the same whether the labels lie close together or not.
    objective: one predictor per objective; None for what is known of every candidate.
    names:     of the objectives beside the score.
    limit:     a predictor per limit that only measuring tells; none where all keep it or none does.
    """

    labels: History[A]
    scale: RankMap
    objective: tuple[Predictor | None, ...]
    names: tuple[str, ...]
    limit: tuple[Predictor, ...]
    goals: Goals[A] | None
    acquisitions: tuple[Acquisition, ...]
    beta: float

    @classmethod
    def fit(
        cls,
        space: Space[A],
        predictor: Predictor,
        labels: History[A],
        unlabelled: GraphBatch,
        goals: Goals[A] | None,
        acquisitions: tuple[Acquisition, ...],
        beta: float,
    ) -> Judge[A]:
        """Fit the predictor, and copies of it for further objectives and limits."""
        graphs = space.graphs(labels.architectures)
        pending = space.graphs(labels.pending) if len(labels.pending) else None
        _fit(predictor, graphs, labels.scores, unlabelled, pending)
        known = goals.names if goals is not None else frozenset[str]()
        names = tuple(goals.objectives) if goals is not None else ()
        objective: list[Predictor | None] = [predictor]
        for column in range(1, labels.values.shape[1]):
            if column <= len(names) and names[column - 1] in known:
                objective.append(None)
            else:
                objective.append(_copy(predictor, graphs, labels.values[:, column], unlabelled))
        limit = [
            _copy(predictor, graphs, values, unlabelled)
            for values in _learnable_limits(labels, goals)
        ]
        scale = RankMap.of(labels.scores)
        return cls(
            labels,
            scale,
            tuple(objective),
            names,
            tuple(one for one in limit if one is not None),
            goals,
            acquisitions,
            beta,
        )

    def judge(self, pool: Pool[A], rng: np.random.Generator) -> Judgement:
        """Judge the candidates of a pool."""
        assert self.objective[0] is not None
        found = self.objective[0].predict(pool.graphs)
        keeps = self._keeps_limits(pool)
        if len(self.objective) == 1:
            level, spread = levels(self.scale, found.mean, found.std)
            values = [self._value(kind, level, spread, rng) for kind in self.acquisitions]
        else:
            mean, std = self._all_objectives(pool, found.mean, found.std)
            values = [self._several(kind, mean, std, rng) for kind in self.acquisitions]
        return Judgement(found.mean, found.std, tuple(_weighted(v, keeps) for v in values))

    def _value(self, kind: Acquisition, mean: Array, std: Array, rng: np.random.Generator) -> Array:
        targets = normal_scores(self.labels.scores)
        kept = self.labels.excess <= 0
        best = float(targets[kept].max()) if kept.any() else float(targets.min())
        return acquire(kind, mean, std, best, self.beta, rng)

    def _several(
        self, kind: Acquisition, mean: Array, std: Array, rng: np.random.Generator
    ) -> Array:
        """Return the acquisition's values for objectives (B, M), M > 1."""
        if kind == "thompson":
            mean = mean + std * rng.standard_normal(mean.shape)
        if kind == "upper_confidence_bound":
            mean = mean + self.beta * std
        if kind != "expected_improvement":
            std = np.zeros_like(std)
        measured = self.labels.values
        if mean.shape[1] > 2:
            return scalarised_improvement(mean, std, measured, rng)
        low, span = measured.min(0), np.maximum(np.ptp(measured, axis=0), 1e-12)
        kept = measured[self.labels.excess <= 0]
        gain = expected_hypervolume_improvement(
            (mean - low) / span, std / span, (kept - low) / span, np.full(2, -_MARGIN)
        )
        tie_break: Array = 1e-9 * ((mean - low) / span).sum(1)
        return gain + tie_break

    def _all_objectives(self, pool: Pool[A], mean: Array, std: Array) -> tuple[Array, Array]:
        """Return mean and std (B, M), higher is better."""
        means, stds = [mean], [std]
        attributes: Mapping[str, NDArray[Any]] = {}
        if self.goals is not None:
            attributes = self.goals.attributes(pool.population)
        for column, predictor in enumerate(self.objective[1:], start=1):
            if predictor is None:
                assert self.goals is not None
                name = self.names[column - 1]
                sign = 1.0 if self.goals.objectives[name] == "maximize" else -1.0
                means.append(sign * np.asarray(attributes[name], np.float64))
                stds.append(np.zeros(len(pool)))
            else:
                found = predictor.predict(pool.graphs)
                means.append(found.mean)
                stds.append(found.std)
        return np.stack(means, axis=1), np.stack(stds, axis=1)

    def _keeps_limits(self, pool: Pool[A]) -> Array:
        """Return (B,) the probability that a candidate keeps the limits not known of it."""
        keeps = np.ones(len(pool))
        for predictor in self.limit:
            found = predictor.predict(pool.graphs)
            keeps *= probability_below(found.mean, found.std, 0.0)
        return keeps


def levels(scale: RankMap, mean: Array, std: Array) -> tuple[Array, Array]:
    """Turn predictions (B,) in the unit of the labels into normal scores: mean and std (B,).

    The inverse of ``RankMap.prediction``: the std is that whose ends, mapped to labels, lie twice
    the given one apart. Labels crowd near the best, so one width there spans more of the ranks.
    """
    back = RankMap.through(scale.labels, scale.knots)
    level = back.label(mean)
    low, high = np.zeros_like(level), np.full_like(level, _WIDEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        wide = scale.label(level + middle) - scale.label(level - middle) > 2 * std
        low, high = np.where(wide, low, middle), np.where(wide, middle, high)
    return level, np.where(std > 0, (low + high) / 2, 0.0)


def _weighted(values: Array, keeps: Array) -> Array:
    """Scale values (B,), shifted to be positive, by the probability (B,) to keep the limits."""
    if (keeps == 1).all():
        return values
    shifted: Array = (values - values.min()) * keeps
    return shifted


def _learnable_limits(labels: History[A], goals: Goals[A] | None) -> list[Array]:
    if goals is None:
        return []
    unknown = [str(limit) for limit in goals.limits if limit.name not in goals.names]
    columns = [labels.limits[name] for name in unknown if name in labels.limits]
    return [column for column in columns if np.isfinite(column).all() and (column > 0).any()]


def _copy(
    predictor: Predictor, graphs: GraphBatch, values: Array, unlabelled: GraphBatch
) -> Predictor | None:
    """Fit a new predictor of the same kind; None where the values cannot be learnt from."""
    if np.ptp(values) == 0:
        return None
    return type(predictor)(predictor.options, predictor.seed).fit(graphs, values, unlabelled)


def _fit(
    predictor: Predictor,
    graphs: GraphBatch,
    scores: Array,
    unlabelled: GraphBatch,
    pending: GraphBatch | None,
) -> None:
    """Fit; what is being measured now counts as if it had turned out as predicted."""
    predictor.fit(graphs, scores, unlabelled)
    if pending is not None:
        believed = predictor.predict(pending).mean
        both = concatenate([graphs, pending])
        predictor.fit(both, np.concatenate([scores, believed]), unlabelled)
