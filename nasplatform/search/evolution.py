"""Regularised evolution (Real et al., AAAI 2019): tournaments among the youngest."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from nasplatform.search.base import ArchitectureSampler, Proposal, SamplerOptions
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.spaces.base import A, Population, Space


class EvolutionOptions(SamplerOptions):
    """Options of the sampler ``regularized-evolution``.

    initial:    random architectures before the first tournament.
    population: how many of the youngest architectures are alive.
    tournament: how many of them are drawn, of which the best has a child.
    """

    initial: int = Field(default=20, ge=1)
    population: int = Field(default=20, ge=1)
    tournament: int = Field(default=5, ge=1)


class RegularizedEvolution(ArchitectureSampler[A]):
    """Proposes an unseen mutant of the best of a random few among the youngest.

    Who breaks a limit that only measuring tells loses every tournament against who keeps it.
    """

    name: ClassVar[str] = "regularized-evolution"
    Options: ClassVar[type[SamplerOptions]] = EvolutionOptions

    def __init__(
        self,
        space: Space[A],
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        optimization: OptimizationConfig[A] | None = None,
        initial: int = 20,
        population: int = 20,
        tournament: int = 5,
    ) -> None:
        """Take the space, what ``SamplerContext`` and ``EvolutionOptions`` explain."""
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)
        self.initial = initial
        self.population = population
        self.tournament = tournament

    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Choose the architecture of trial ``number``."""
        rng = self.rng(number)
        if number < self.initial or not len(history):
            return Proposal(self.draw_unseen(history.seen, rng), "initial")
        alive = np.arange(len(history))[-self.population :]
        drawn = rng.choice(alive, min(self.tournament, len(alive)), replace=False)
        order = drawn[best_first(history.keep(drawn))].tolist()
        for row in order:
            child = self.step(history.architectures[row], history.seen, rng, "evolved")
            if child is not None:
                return child
        best = history.architectures[order[0]]
        return self.unseen_near(best, history.seen, rng, "evolved")


def best_first(history: History[A]) -> list[int]:
    """Order measurements: those that keep the limits by their score, then the least violation."""
    return list(np.lexsort((-history.scores, np.maximum(history.violation, 0.0))))
