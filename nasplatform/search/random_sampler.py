"""Random search without repetition: the baseline that a predictor has to beat."""

from __future__ import annotations

from typing import ClassVar

from nasplatform.search.base import ArchitectureSampler, Proposal, SamplerOptions
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.spaces.base import A, Population, Space


class RandomSampler(ArchitectureSampler[A]):
    """Proposes architectures uniformly among those not seen yet."""

    name: ClassVar[str] = "random"
    Options: ClassVar[type[SamplerOptions]] = SamplerOptions
    several_objectives: ClassVar[bool] = True

    def __init__(
        self,
        space: Space[A],
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        optimization: OptimizationConfig[A] | None = None,
    ) -> None:
        """Take the space, a seed, the only architectures that may be proposed, and limits."""
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)

    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Draw the architecture of trial ``number``."""
        return Proposal(self.draw_unseen(history.seen, self.rng(number)), "random")
