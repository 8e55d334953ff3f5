"""How promising candidates are: predictors fitted to a history, and the acquisitions' values."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Generic

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from nasplatform.predictors.base import Predictor
from nasplatform.predictors.gp import GP, GPOptions
from nasplatform.search.acquisition import (
    Acquisition,
    acquire,
    expected_hypervolume_improvement,
    hypervolume_improvement,
    probability_below,
    scalarised_improvement,
)
from nasplatform.search.candidates import CandidateBatch
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.posterior import Posterior
from nasplatform.search.target_transforms import Scale, TargetTransform, best_of, combine, variants
from nasplatform.spaces.base import A, Space
from nasplatform.spaces.graph import GraphBatch, concatenate

Array = NDArray[np.float64]
_QUANTILES = ndtri((np.arange(8) + 0.5) / 8)  # of a normal distribution, all as likely
_PART = 0.4  # of the labels, that a draw of ``bootstrap_thompson`` learns from
_STEPS = 30  # of the search for a cost model's kernel
_BOLD = 0.5  # share of the predicted std that is counted on where a front is searched
_MARGIN = 0.1  # of the measured range, by which the reference lies below the worst


@dataclass(frozen=True)
class CandidatePredictions:
    """What the predictors say of B candidates, of each whatever the others are.

    mean, std: (B,) of the score, in its unit.
    expected:  one posterior per objective; that of a single objective stands on the mean of the
               scales on which it is weighed.
    keeps:     (B,) the probability to keep the limits that only measuring tells.
    drawn:     the score's posterior, had only the labels of a random part been measured.
    """

    mean: Array
    std: Array
    expected: tuple[Posterior, ...]
    keeps: Array
    drawn: Posterior

    @classmethod
    def joined(cls, parts: Sequence[CandidatePredictions]) -> CandidatePredictions:
        """Put candidates side by side."""
        return cls(
            np.concatenate([part.mean for part in parts]),
            np.concatenate([part.std for part in parts]),
            tuple(map(Posterior.joined, zip(*(part.expected for part in parts), strict=True))),
            np.concatenate([part.keeps for part in parts]),
            Posterior.joined([part.drawn for part in parts]),
        )


@dataclass(frozen=True)
class CandidateScores:
    """How promising B candidates are, compared with each other.

    mean, std: (B,) of the score, in its unit.
    values:    for each acquisition in turn (B,), higher is more promising.
    """

    mean: Array
    std: Array
    values: tuple[Array, ...]

    @property
    def acquisition(self) -> Array:
        """The first acquisition's values."""
        return self.values[0]


@dataclass(frozen=True)
class SurrogateModel(Generic[A]):
    """Predictors fitted to what was measured.

    labels:     what was measured.
    predictor:  of the score.
    transforms: the scales on which the score is weighed where it is the only objective.
    further:    a cost model per further objective; None for what is known of every candidate.
    names:      of the further objectives.
    limit:      a cost model per limit that only measuring tells and that not all keep.
    drawn:      a predictor of the score that learnt from a random part of the labels, and these
                (n,); None where no acquisition asks for it or the part cannot be learnt from.
    """

    labels: History[A]
    predictor: Predictor
    transforms: tuple[TargetTransform, ...]
    further: tuple[Predictor | None, ...]
    names: tuple[str, ...]
    limit: tuple[Predictor, ...]
    drawn: tuple[Predictor, Array] | None
    optimization: OptimizationConfig[A] | None
    acquisitions: tuple[Acquisition, ...]
    beta: float

    @classmethod
    def fit(
        cls,
        space: Space[A],
        predictor: Predictor,
        labels: History[A],
        unlabelled: GraphBatch,
        optimization: OptimizationConfig[A] | None,
        acquisitions: tuple[Acquisition, ...],
        beta: float,
        rng: np.random.Generator,
        scales: tuple[Scale, ...] = ("ranks",),
    ) -> SurrogateModel[A]:
        """Fit the predictor, copies of it for further scales, and models of the costs.

        rng: draws the labels that ``bootstrap_thompson`` learns from.
        """
        graphs = space.graphs(labels.architectures)
        pending = space.graphs(labels.pending) if len(labels.pending) else None
        single = labels.values.shape[1] == 1
        seen = variants(predictor, scales) if single else []
        for one in (predictor, *(one for one, _ in seen if one is not predictor)):
            _fit(one, graphs, labels.scores, unlabelled, pending)
        kept = labels.violation <= 0
        transforms = tuple(
            TargetTransform.of(one, scale, labels.scores, kept) for one, scale in seen
        )
        static = optimization.static_names if optimization is not None else frozenset[str]()
        names = tuple(optimization.objectives) if optimization is not None else ()
        further: list[Predictor | None] = []
        for column in range(1, labels.values.shape[1]):
            if column <= len(names) and names[column - 1] in static:
                further.append(None)
            else:
                values = labels.values[:, column]
                further.append(_cost_model(predictor.seed, graphs, values, unlabelled))
        limit = [
            _cost_model(predictor.seed, graphs, values, unlabelled)
            for values in _learnable_limits(labels, optimization)
        ]
        drawn = None
        if "bootstrap_thompson" in acquisitions:
            drawn = _of_a_part(predictor, graphs, labels.scores, unlabelled, pending, rng)
        return cls(
            labels,
            predictor,
            transforms,
            tuple(further),
            names,
            tuple(one for one in limit if one is not None),
            drawn,
            optimization,
            acquisitions,
            beta,
        )

    def predict(self, batch: CandidateBatch[A]) -> CandidatePredictions:
        """Predict what can be expected of the candidates of a batch."""
        found = self.predictor.predict(batch.graphs)
        if self.transforms:
            every = [
                found
                if transform.predictor is self.predictor
                else transform.predictor.predict(batch.graphs)
                for transform in self.transforms
            ]
            mean, std = combine(self.transforms, every)
            expected = [Posterior(mean, std, None)]
        else:
            expected = [Posterior.of(found, self.labels.scores), *self._further(batch)]
        drawn = expected[0]
        if self.drawn is not None:
            learner, scores = self.drawn
            drawn = Posterior.of(learner.predict(batch.graphs), scores)
        return CandidatePredictions(
            found.mean, found.std, tuple(expected), self._keeps_limits(batch), drawn
        )

    def score(self, found: CandidatePredictions, rng: np.random.Generator) -> CandidateScores:
        """Weigh candidates against each other: all that compete must be given together.

        What is drawn at random (weights of objectives, quantiles) is then the same for all, and
        they are shifted alike where limits weigh them.
        """
        values = {
            kind: _weighted(self._values(kind, found, rng), found.keeps)
            for kind in dict.fromkeys(self.acquisitions)
        }
        turns = tuple(values[kind] for kind in self.acquisitions)
        return CandidateScores(found.mean, found.std, turns)

    def _values(
        self, kind: Acquisition, found: CandidatePredictions, rng: np.random.Generator
    ) -> Array:
        expected = found.expected
        if kind == "bootstrap_thompson":
            kind, expected = "greedy", (found.drawn, *expected[1:])
        if not self.transforms:
            return self._several(kind, expected, rng)
        (only,) = expected
        return acquire(kind, only.level, only.spread, best_of(self.transforms), self.beta, rng)

    def _several(
        self, kind: Acquisition, expected: tuple[Posterior, ...], rng: np.random.Generator
    ) -> Array:
        """Return the acquisition's values for several objectives."""
        if kind == "expected_improvement" and len(expected) == 2:
            return self._expected_hypervolume(expected[0], expected[1])
        size = len(expected[0].level)
        if kind == "expected_improvement":
            # each objective meets each of its quantiles once, together with others' at random
            places: list[list[Array | float]] = [
                list(rng.permutation(_QUANTILES)) for _ in expected
            ]
        elif kind == "thompson":
            places = [[rng.standard_normal(size)] for _ in expected]
        else:
            places = [[self.beta if kind == "upper_confidence_bound" else 0.0] for _ in expected]
        weights = rng.dirichlet(np.ones(len(expected)))
        total = np.zeros(size)
        for together in zip(*places, strict=True):
            points = [one.at(place) for one, place in zip(expected, together, strict=True)]
            total += self._gain(np.stack(points, axis=1), weights)
        return total / len(places[0])

    def _expected_hypervolume(self, score: Posterior, other: Posterior) -> Array:
        """Return by how much candidates are expected to grow the hypervolume (B,).

        It is measured from below the worst that was measured and, where both objectives are good,
        from the middle of what is expected of the candidates; each as a share of its own box.
        """
        measured = self.labels.values
        kept = measured[self.labels.violation <= 0]
        best, span = measured.max(0), np.maximum(np.ptp(measured, axis=0), 1e-12)
        bold = [replace(one, spread=_BOLD * one.spread) for one in (score, other)]
        means = np.stack([one.at(0.0) for one in bold], axis=1)
        total: Array = 1e-9 * (means / span).sum(1)  # breaks ties where nothing is to be gained
        for reference in (measured.min(0) - _MARGIN * span, np.median(means, axis=0)):
            box = np.maximum(best - reference, _MARGIN * span).prod()
            excess = (bold[0].excess, bold[1].excess)
            total += expected_hypervolume_improvement(excess, kept, reference) / box
        return total

    def _gain(self, points: Array, weights: Array) -> Array:
        """Return what candidates with objective values (B, M) would add to what was measured."""
        measured = self.labels.values
        low, span = measured.min(0), np.maximum(np.ptp(measured, axis=0), 1e-12)
        kept = (measured[self.labels.violation <= 0] - low) / span
        scaled = (points - low) / span
        if points.shape[1] == 2:
            gain = hypervolume_improvement(scaled, kept, np.full(2, -_MARGIN))
        else:
            gain = scalarised_improvement(scaled, kept, weights)
        tie_break: Array = 1e-9 * scaled.sum(1)
        return gain + tie_break

    def _further(self, batch: CandidateBatch[A]) -> list[Posterior]:
        """Return what is expected of the objectives beside the score."""
        attributes = (
            {} if self.optimization is None else self.optimization.attributes(batch.population)
        )
        expected = []
        for column, predictor in enumerate(self.further, start=1):
            labels = self.labels.values[:, column]
            if predictor is not None:
                expected.append(Posterior.of(predictor.predict(batch.graphs), labels))
            elif self.optimization is not None and self.names[column - 1] in attributes:
                name = self.names[column - 1]
                sign = 1.0 if self.optimization.objectives[name] == "maximize" else -1.0
                expected.append(Posterior.known(sign * attributes[name].astype(np.float64)))
            else:  # the same for all that was measured
                expected.append(Posterior.known(np.full(len(batch), labels[0])))
        return expected

    def _keeps_limits(self, batch: CandidateBatch[A]) -> Array:
        """Return (B,) the probability that a candidate keeps the limits not known of it."""
        keeps = np.ones(len(batch))
        for predictor in self.limit:
            found = predictor.predict(batch.graphs)
            keeps *= probability_below(found.mean, found.std, 0.0)
        return keeps


def _weighted(values: Array, keeps: Array) -> Array:
    """Scale values (B,), shifted to be positive, by the probability (B,) to keep the limits."""
    if (keeps == 1).all():
        return values
    shifted: Array = (values - values.min()) * keeps
    return shifted


def _learnable_limits(
    labels: History[A], optimization: OptimizationConfig[A] | None
) -> list[Array]:
    if optimization is None:
        return []
    unknown = [
        str(limit) for limit in optimization.limits if limit.name not in optimization.static_names
    ]
    columns = [labels.limits[name] for name in unknown if name in labels.limits]
    return [column for column in columns if np.isfinite(column).all() and (column > 0).any()]


def _cost_model(
    seed: int, graphs: GraphBatch, values: Array, unlabelled: GraphBatch
) -> Predictor | None:
    """Fit what predicts a cost or a limit; None where the values cannot be learnt from.

    What an architecture costs is nearly a sum over its operations, whatever makes accurate
    ones: a process on the values themselves learns that from fewer labels than one on ranks, and
    nothing that holds for scores is taken over.
    """
    if np.ptp(values) == 0 or len(values) < GP.min_labels:
        return None
    return GP(GPOptions(labels="values", steps=_STEPS), seed).fit(graphs, values, unlabelled)


def _of_a_part(
    predictor: Predictor,
    graphs: GraphBatch,
    scores: Array,
    unlabelled: GraphBatch,
    pending: GraphBatch | None,
    rng: np.random.Generator,
) -> tuple[Predictor, Array] | None:
    """Fit a copy of a predictor to some labels drawn at random; return it and their scores.

    At least as many as it needs; None where these are all of them, or all alike.
    """
    count = max(predictor.min_labels, 2, round(_PART * len(scores)))
    rows = np.sort(rng.permutation(len(scores))[:count])
    if count >= len(scores) or np.ptp(scores[rows]) == 0:
        return None
    learner = deepcopy(predictor)
    _fit(learner, graphs[rows], scores[rows], unlabelled, pending)
    return learner, scores[rows]


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
