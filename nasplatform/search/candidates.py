"""Where a predictor looks for candidates: everything where that is few enough, else wisely."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from nasplatform.spaces.base import A, Population, Space
from nasplatform.spaces.graph import GraphBatch

_ELITE = 10  # architectures whose neighbours are looked at


P = TypeVar("P")


@dataclass(frozen=True)
class CandidateBatch(Generic[A]):
    """Candidates, the same object as long as they stay the same: encodings are kept with it."""

    population: Population[A]
    graphs: GraphBatch

    def __len__(self) -> int:
        return len(self.population)


@dataclass(frozen=True)
class CandidatePool(Generic[A]):
    """The candidates of a study, found once.

    whole: everything that may be proposed, where that is few enough; else None.
    far:   otherwise a random part of the space, to begin with.
    """

    space: Space[A]
    feasible_mask: Callable[[Population[A]], NDArray[np.bool_]]
    whole: bool
    far: CandidateBatch[A]

    @classmethod
    def of(
        cls,
        space: Space[A],
        candidates: Population[A] | None,
        feasible_mask: Callable[[Population[A]], NDArray[np.bool_]],
        pool: int,
        samples: int,
        rng: np.random.Generator,
        labelled: bool = False,
    ) -> CandidatePool[A]:
        """Find the candidates: all of them up to ``pool``, else ``samples`` at random.

        labelled: keep isomorphic candidates apart, for what is known of them differs (a latency
        that was measured of each); otherwise one of them is enough.
        """
        known = candidates if candidates is not None else space.enumerate()
        if known is not None and len(known) <= pool:
            every = known if candidates is not None else known[feasible_mask(known)]
            every = every if labelled else _unique(every)
            return cls(space, feasible_mask, True, CandidateBatch(every, space.graphs(every)))
        if candidates is not None:
            part = candidates[np.sort(rng.choice(len(candidates), samples, replace=False))]
        else:
            part = space.sample(samples, rng)
            part = part[feasible_mask(part)]
        part = _unique(part)
        return cls(space, feasible_mask, False, CandidateBatch(part, space.graphs(part)))

    def near(self, around: Population[A]) -> CandidateBatch[A]:
        """Return the feasible neighbours of architectures."""
        found = self.space.neighbours(around)
        found = found[self.feasible_mask(found)] if len(found) else found
        return CandidateBatch(found, self.space.graphs(found))

    def search(
        self,
        best: Population[A],
        predict: Callable[[CandidateBatch[A]], P],
        promise: Callable[[list[P]], NDArray[np.float64]],
        rounds: int,
    ) -> list[tuple[CandidateBatch[A], P]]:
        """Look for candidates; return batches of them with what is predicted.

        best:    measured architectures, the best first.
        predict: says what is to be expected of the candidates of a batch.
        promise: weighs all candidates of several batches against each other; (B,), higher is
                 better.
        rounds:  of local search: the neighbours of the most promising are scored in turn.
        """
        found = [(self.far, predict(self.far))]
        if self.whole:
            return found
        for round_ in range(rounds + 1):
            around = best[:_ELITE] if round_ == 0 else self._most_promising(found, promise)
            near = self.near(around)
            if not len(near):
                break
            found.append((near, predict(near)))
        return found

    def _most_promising(
        self,
        found: list[tuple[CandidateBatch[A], P]],
        promise: Callable[[list[P]], NDArray[np.float64]],
    ) -> Population[A]:
        codes = np.concatenate([batch.population.codes for batch, _ in found])
        order = np.argsort(-promise([one for _, one in found]), kind="stable")
        return self.space.from_codes(codes[order[:_ELITE]])


def _unique(population: Population[A]) -> Population[A]:
    """Keep the first of each isomorphism class, in order."""
    return population[np.sort(np.unique(population.keys, return_index=True)[1])]


def farthest_point_sampling(
    features: NDArray[np.float32], n: int, rng: np.random.Generator
) -> list[int]:
    """Choose n rows of (B, F), each as far as can be from those before (Gonzalez, 1985).

    The first is random. Distances are Euclidean over columns of unit variance; constant columns
    say nothing.
    """
    scale = features.std(0)
    wide = (features - features.mean(0)) / np.where(scale > 1e-6, scale, np.inf)
    chosen = [int(rng.integers(len(features)))]
    distance = np.full(len(features), np.inf)
    while len(chosen) < min(n, len(features)):
        distance = np.minimum(distance, ((wide - wide[chosen[-1]]) ** 2).sum(1))
        chosen.append(int(distance.argmax()))
    return chosen
