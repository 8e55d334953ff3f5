"""A sampler that spends each evaluation where a predictor points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nasplatform.config import SearchOptions
from nasplatform.errors import ConfigError
from nasplatform.predictors.base import Prediction, Predictor
from nasplatform.search.acquisition import Acquisition, acquire
from nasplatform.search.base import (
    ArchitectureSampler,
    History,
    Proposal,
    Setting,
    draw_unseen,
)
from nasplatform.spaces.base import A, Population, Space
from nasplatform.spaces.graph import GraphBatch

_ELITE = 10  # measured architectures whose neighbours are looked at in a large space


class PredictorOptions(SearchOptions):
    """Options of ``sampler: predictor``.

    batch:       evaluations between two fits of the predictor.
    acquisition: what makes a candidate promising.
    beta:        weight of the standard deviation in the upper confidence bound.
    exploration: share of the evaluations after the initial ones that are drawn at random.
    pool:        candidates that are scored at once; a larger space is looked at through the
                 neighbours of the best architectures and random samples.
    """

    batch: int = Field(default=1, ge=1)
    acquisition: Acquisition = "expected_improvement"
    beta: float = Field(default=1.0, ge=0)
    exploration: float = Field(default=0.0, ge=0, le=1)
    pool: int = Field(default=20_000, ge=1)


@dataclass(frozen=True)
class _Scored(Generic[A]):
    """A pool of candidates with what the predictor says of them."""

    population: Population[A]
    prediction: Prediction
    values: NDArray[np.float64]


class PredictorSampler(ArchitectureSampler[A]):
    """Fits a predictor to the labels so far and proposes the best unseen candidate.

    The first ``initial`` trials are random. After that the predictor is fitted anew every
    ``batch`` trials, to all labels that an unbroken sequential study has by then; the trials of a
    batch take the best, second best, ... unseen candidate of that fit. Where the labels cannot be
    learnt from yet (too few, all equal) a trial is random.
    """

    name: ClassVar[str] = "predictor"
    Options: ClassVar[type[SearchOptions]] = PredictorOptions

    def __init__(
        self,
        space: Space[A],
        predictor: Predictor,
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        initial: int = 16,
        batch: int = 1,
        acquisition: Acquisition = "expected_improvement",
        beta: float = 1.0,
        exploration: float = 0.0,
        pool: int = 20_000,
    ) -> None:
        """Take the space, a predictor (refitted in place) and what ``PredictorOptions`` explains.

        candidates: the only architectures that may be proposed, or None for the whole space.
        """
        super().__init__(space, seed=seed, candidates=candidates)
        self.predictor = predictor
        self.initial = initial
        self.batch = batch
        self.acquisition: Acquisition = acquisition
        self.beta = beta
        self.exploration = exploration
        self.pool = pool
        self._whole: tuple[Population[A], GraphBatch] | None = None
        self._latest: tuple[tuple[int, bytes], _Scored[A]] | None = None

    @classmethod
    def from_options(cls, options: Any, setting: Setting[A]) -> Self:
        """Make the sampler that a search file describes; it must name a predictor."""
        if setting.predictor is None:
            raise ConfigError("sampler 'predictor' needs a predictor: name one")
        return cls(
            setting.space,
            setting.predictor,
            seed=setting.seed,
            candidates=setting.candidates,
            **options.model_dump(exclude={"sampler", "budget"}),
        )

    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Choose the architecture of trial ``number``."""
        if number < self.initial:
            return self._random(number, history, "initial")
        first = number - (number - self.initial) % self.batch  # of this batch
        labels = history.before(first)
        if not self._learnable(labels) or self.rng(number, 1).random() < self.exploration:
            return self._random(number, history, "random")
        scored = self._scored(first, labels)
        fresh = np.flatnonzero(~np.isin(scored.population.keys, history.seen))
        if not len(fresh):
            return self._random(number, history, "random")
        best = int(fresh[np.argmax(scored.values[fresh])])
        mean, std = scored.prediction.mean[best], scored.prediction.std[best]
        return Proposal(scored.population[best], "predicted", float(mean), float(std))

    def _random(self, number: int, history: History[A], source: Any) -> Proposal[A]:
        drawn = draw_unseen(self.space, self.candidates, history.seen, self.rng(number))
        return Proposal(drawn, source)

    def _learnable(self, labels: History[A]) -> bool:
        enough = len(labels.scores) >= max(2, self.predictor.min_labels)
        return enough and bool(np.ptp(labels.scores) > 0)

    def _scored(self, first: int, labels: History[A]) -> _Scored[A]:
        """Fit and score for the batch that begins with trial ``first``; once per batch."""
        keys = labels.architectures.keys.tobytes()
        signature = (first, keys + labels.scores.tobytes())
        if self._latest is None or self._latest[0] != signature:
            population, graphs = self._pool(first, labels)
            known = self.space.graphs(labels.architectures)
            self.predictor.fit(known, labels.scores, unlabelled=graphs)
            prediction = self.predictor.predict(graphs)
            values = acquire(
                self.acquisition,
                prediction.mean,
                prediction.std,
                float(labels.scores.max()),
                self.beta,
            )
            self._latest = (signature, _Scored(population, prediction, values))
        return self._latest[1]

    def _pool(self, first: int, labels: History[A]) -> tuple[Population[A], GraphBatch]:
        """Return everything that may be proposed where that is few enough, else a part."""
        if self._whole is not None:
            return self._whole
        known = self.space.enumerate() if self.candidates is None else self.candidates
        if known is not None and len(known) <= self.pool:
            self._whole = known, self.space.graphs(known)
            return self._whole
        part = self._part(self.rng(first, 2), labels)
        return part, self.space.graphs(part)

    def _part(self, rng: np.random.Generator, labels: History[A]) -> Population[A]:
        """Return neighbours of the best and random samples, each once, about ``pool`` in all."""
        elite = labels.architectures[np.argsort(-labels.scores, kind="stable")[:_ELITE]]
        near = self.space.neighbours(elite)
        if self.candidates is None:
            far = self.space.sample(max(0, self.pool - len(near)), rng)
        else:
            near = near[np.isin(near.keys, self.candidates.keys)]
            size = max(0, self.pool - len(near))
            far = self.candidates[rng.choice(len(self.candidates), size, replace=False)]
        both = self.space.from_codes(np.concatenate([near.codes, far.codes])[: self.pool])
        return both[np.sort(np.unique(both.keys, return_index=True)[1])]
