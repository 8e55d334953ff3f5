"""What a predictor says of its whole space: ranks, distribution, front, suggestions.

A space that cannot be enumerated is seen through a seeded sample.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nasplatform.errors import PredictorError
from nasplatform.predictors.base import Predictor
from nasplatform.spaces.base import Population, Space

_STEP = 0.01  # seconds that one step may hold up requests
_BINS, _POINTS = 60, 1200
_ENDLESS = 20_000  # stand for a space that cannot be enumerated
_FIRST, _GROWTH = 1024, 4  # a ranking is shown at 1024 architectures, and at each fourfold


@dataclass(frozen=True)
class Reference:
    """The architectures that stand for a space, in random order, so that any part is a sample.

    whole: whether these are all that there are.
    """

    population: Population[Any]
    whole: bool

    @classmethod
    def of(cls, space: Space[Any], limit: int) -> Reference:
        """Enumerate the space, or draw a sample where it is endless; at most ``limit``."""
        rng = np.random.default_rng(0)
        everything = space.enumerate()
        if everything is None:
            return cls(space.sample(min(limit, _ENDLESS), rng), False)
        order = rng.permutation(len(everything))[:limit]
        shuffled = everything[order]
        assert isinstance(shuffled, Population)
        return cls(shuffled, len(order) == len(everything))

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """(B,) isomorphism keys."""
        return self.population.keys


@dataclass(frozen=True)
class SpaceRanking:
    """Predictions of the first B of a reference, with parameters and FLOPs, all (B,)."""

    reference: Reference
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    params: NDArray[np.int64]
    flops: NDArray[np.int64]

    @property
    def complete(self) -> bool:
        """Whether the whole space is seen."""
        return self.reference.whole and len(self.mean) == len(self.reference.population)

    @cached_property
    def _ascending(self) -> NDArray[np.float64]:
        return np.sort(self.mean)

    def prepare(self) -> None:
        """Sort now, where nobody waits for it."""
        _ = self._ascending, self._by_label

    def ranks(self, means: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return (N,) ranks of predicted means: 1 + how many of the reference are better."""
        better = len(self.mean) - np.searchsorted(self._ascending, means, side="right")
        ranks: NDArray[np.int64] = 1 + better.astype(np.int64)
        return ranks

    @cached_property
    def _by_label(self) -> tuple[NDArray[Any], NDArray[np.int64]]:
        labels = self.reference.population.labels[: len(self.mean)]
        order = np.argsort(labels)
        return labels[order], order

    def find(self, population: Population[Any]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which of N architectures are in the ranking and rows (N, 4), valid for those.

        A row is mean, std, params, flops. As in the cache, architectures are told as labelled.
        """
        ascending, order = self._by_label
        labels = population.labels
        where = np.minimum(np.searchsorted(ascending, labels), len(ascending) - 1)
        at = order[where]
        columns = (self.mean, self.std, self.params, self.flops)
        rows = np.stack([column[at] for column in columns], axis=1).astype(np.float64)
        return ascending[where] == labels, rows

    def suggest(
        self,
        k: int,
        seen: NDArray[np.uint64],
        limits: Mapping[str, int | None],
        kappa: float = 0.0,
    ) -> NDArray[np.int64]:
        """Return up to k positions, best first, by ``mean + kappa * std``.

        seen:   isomorphism keys that must not be suggested.
        limits: ``params`` and ``flops``, inclusive; None for no limit.
        """
        fine = ~np.isin(self.reference.keys[: len(self.mean)], seen)
        for what, limit in limits.items():
            if limit is not None:
                fine &= getattr(self, what) <= limit
        where = np.flatnonzero(fine)
        values = -(self.mean[where] + kappa * self.std[where])
        if k < len(where):
            nearest = np.argpartition(values, k)[:k]
            where, values = where[nearest], values[nearest]
        best: NDArray[np.int64] = where[np.argsort(values, kind="stable")]
        return best

    @cached_property
    def front(self) -> NDArray[np.int64]:
        """Positions of the Pareto front of few FLOPs and a high mean, by rising FLOPs."""
        order = np.lexsort((-self.mean, self.flops))
        best = np.maximum.accumulate(self.mean[order])
        first: NDArray[np.bool_] = np.r_[True, best[1:] > best[:-1]]
        return order[first]

    @cached_property
    def picture(self) -> dict[str, Any]:
        """Return a histogram of the means, a sample of points, and the Pareto front."""
        # The worst few would squeeze all others into one bin: they are counted in the first.
        low, high = np.quantile(self.mean, 0.002), self.mean.max()
        counts, edges = np.histogram(self.mean.clip(low, high), _BINS, (low, max(high, low + 1e-9)))
        chosen = np.random.default_rng(0).choice(
            len(self.mean), min(_POINTS, len(self.mean)), replace=False
        )
        return {
            "complete": self.complete,
            "size": len(self.mean),
            "counts": counts.tolist(),
            "edges": edges.tolist(),
            "points": self._points(chosen),
            "front": self._points(self.front),
        }

    def _points(self, where: NDArray[np.int64]) -> dict[str, list[float]]:
        return {
            "flops": self.flops[where].tolist(),
            "params": self.params[where].tolist(),
            "mean": self.mean[where].round(6).tolist(),
        }


class RankingBuilder:
    """Makes a ranking in steps so short that a request hardly notices one.

    ``ranking`` is None at first, soon a sample of the space, and in the end all of the reference.
    """

    def __init__(self, predictor: Predictor, space: Space[Any], reference: Reference) -> None:
        self._predictor, self._space, self._reference = predictor, space, reference
        size = len(reference.population)
        self._mean, self._std = np.empty(size), np.empty(size)
        self._params, self._flops = np.empty(size, np.int64), np.empty(size, np.int64)
        self._chunk, self._next = 64, _FIRST
        self.done = 0
        self.ranking: SpaceRanking | None = None

    @property
    def total(self) -> int:
        """How many architectures there are to score."""
        return len(self._mean)

    def step(self) -> bool:
        """Score some more; return whether there is more to do."""
        before = time.perf_counter()
        part = slice(self.done, min(self.done + self._chunk, self.total))
        graphs = self._space.graphs(self._reference.population[part])
        prediction = self._predictor.predict(graphs)
        if not np.isfinite(prediction.mean).all():
            raise PredictorError("predicts values that are not finite")
        self._mean[part], self._std[part] = prediction.mean, prediction.std
        self._params[part], self._flops[part] = graphs.total_params, graphs.total_flops
        self.done = part.stop
        spent = max(time.perf_counter() - before, 1e-6)
        self._chunk = int(np.clip(self._chunk * _STEP / spent, self._chunk / 2, self._chunk * 2))
        self._chunk = min(max(self._chunk, 16), 8192)
        if self.done >= min(self._next, self.total):
            self._next = self.done * _GROWTH
            self.ranking = self._seen()
        return self.done < self.total

    @classmethod
    def finished(cls, predictor: Predictor, space: Space[Any], ranking: SpaceRanking) -> Self:
        """Return a builder that has nothing to do, since the ranking is there."""
        made = cls(predictor, space, ranking.reference)
        made.done, made.ranking = made.total, ranking
        return made

    def _seen(self) -> SpaceRanking:
        n = self.done
        return SpaceRanking(
            self._reference, self._mean[:n], self._std[:n], self._params[:n], self._flops[:n]
        )
