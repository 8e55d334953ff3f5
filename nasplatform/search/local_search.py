"""Local search (White et al., UAI 2021): the neighbours of the best, then a new start."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from nasplatform.search.base import ArchitectureSampler, Proposal, SamplerOptions
from nasplatform.search.evolution import best_first
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.spaces.base import A, Population, Space


class LocalSearchOptions(SamplerOptions):
    """Options of the sampler ``local-search``.

    initial: random labels before the search.
    """

    initial: int = Field(default=10, ge=1)


class LocalSearch(ArchitectureSampler[A]):
    """Proposes a random unseen neighbour of the best architecture that still has one.

    A better neighbour becomes the best at once. When all neighbours of a local optimum are known,
    the next best architecture takes its place, which is a new start from the best known ground.
    """

    name: ClassVar[str] = "local-search"
    Options: ClassVar[type[SamplerOptions]] = LocalSearchOptions

    def __init__(
        self,
        space: Space[A],
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        optimization: OptimizationConfig[A] | None = None,
        initial: int = 10,
    ) -> None:
        """Take the space, what a ``SamplerContext`` explains, and the number of random labels."""
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)
        self.initial = initial
        self._exhausted = np.empty(0, np.uint64)  # keys of those that have no unseen neighbour

    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Choose the architecture of trial ``number``."""
        rng = self.rng(number)
        if number < self.initial or not len(history):
            return Proposal(self.draw_unseen(history.seen, rng), "initial")
        order = np.array(best_first(history))
        keys = history.architectures.keys
        for row in order[~np.isin(keys[order], self._exhausted)]:
            neighbour = self.step(history.architectures[int(row)], history.seen, rng, "neighbour")
            if neighbour is not None:
                return neighbour
            self._exhausted = np.append(self._exhausted, keys[row])  # more is seen, never less
        best = history.architectures[order[0]]
        return self.unseen_near(best, history.seen, rng, "neighbour")
