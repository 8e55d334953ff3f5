"""A sampler in one file: simulated annealing, a walk that goes down less and less often."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from nasplatform.search import ArchitectureSampler, History, Proposal
from nasplatform.search.base import SamplerOptions


class AnnealingOptions(SamplerOptions):
    initial: int = Field(default=8, ge=1, description="random architectures to begin with")
    cooling: float = Field(default=0.9, gt=0, lt=1, description="of the temperature, each trial")


class Annealing(ArchitectureSampler[Any]):
    """Proposes an unseen neighbour of one that was drawn by its score and the temperature."""

    name: ClassVar[str] = "annealing"
    Options: ClassVar[type[SamplerOptions]] = AnnealingOptions

    def __init__(
        self,
        space: Any,
        *,
        seed: int = 0,
        candidates: Any = None,
        optimization: Any = None,
        initial: int = 8,
        cooling: float = 0.9,
    ) -> None:
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)
        self.initial, self.cooling = initial, cooling

    def propose(self, number: int, history: History[Any]) -> Proposal[Any]:
        """Depend on the seed, the number and the history alone: a study resumes to the same."""
        rng = self.rng(number)
        if number < self.initial or not len(history):
            return Proposal(self.draw_unseen(history.seen, rng), "initial")
        temperature = max(np.ptp(history.scores), 1e-12) * self.cooling**number
        noise = rng.gumbel(size=len(history))  # the largest is drawn by exp(score / temperature)
        order = np.argsort(-(history.scores / temperature + noise), kind="stable")
        for row in order[:10].tolist():
            found = self.step(history.architectures[row], history.seen, rng, "neighbour")
            if found is not None:
                return found
        return Proposal(self.draw_unseen(history.seen, rng), "random")
