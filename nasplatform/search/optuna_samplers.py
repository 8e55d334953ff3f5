"""Optuna's own TPE and NSGA-II in the same loop as ours, for comparisons like with like.

They know nothing of graphs: they see one categorical parameter per decision. What they sample is
repaired by the space and, where only some architectures can be measured or limits hold, moved to
the nearest one that can. Both are asked through a sampler that is made anew for each trial with a
seed of its own, so that the same history gives the same proposal in any process. Neither looks at
anything but the study, with one exception: a proposal that was seen before is drawn again.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

import numpy as np
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial
from pydantic import Field

from nasplatform.search.base import ArchitectureSampler, Proposal, SamplerContext, SamplerOptions
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.spaces.base import A, Population, Space
from nasplatform.spaces.graph import GraphBatch

if TYPE_CHECKING:
    from optuna.study import Study

_ATTEMPTS = 10  # draws before a random unseen architecture is taken


class OptunaSampler(ArchitectureSampler[A]):
    """An Optuna sampler over the decisions of the space; a subclass says which."""

    several_objectives: ClassVar[bool] = True

    def __init__(
        self,
        space: Space[A],
        options: Any,
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        optimization: OptimizationConfig[A] | None = None,
    ) -> None:
        """Take the space, the ``Options`` of the sampler, and what ``SamplerContext`` explains."""
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)
        self.options = options
        self.initial = options.initial
        self._measurable = None if self.candidates is None else Nearest(space, self.candidates)

    @classmethod
    def from_options(cls, options: Any, context: SamplerContext[A]) -> Self:
        """Make the sampler that a search file describes."""
        return cls(
            context.space,
            options,
            seed=context.seed,
            candidates=context.candidates,
            optimization=context.optimization,
        )

    @abstractmethod
    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""

    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Draw at random; what Optuna samples is in ``choose``, which is given the study."""
        return Proposal(self.draw_unseen(history.seen, self.rng(number)), "initial")

    def choose(self, study: Study, trial: FrozenTrial, history: History[A]) -> Proposal[A]:
        """Ask Optuna's sampler until it says something new, a few times."""
        if trial.number < self.initial:
            self.note(study, trial)
            return self.propose(trial.number, history)
        for attempt in range(_ATTEMPTS):
            rng = self.rng(trial.number, attempt)
            inner = self.make(int(rng.integers(2**31)))
            found = self.space.from_params(self._ask(inner, study, trial))
            if self._measurable is not None:
                found = self._measurable.to(found, rng)
            one = self.space.population([found])
            if self.feasible_mask(one)[0] and not np.isin(one.keys, history.seen)[0]:
                return Proposal(found, "sampled")
        drawn = self.draw_unseen(history.seen, self.rng(trial.number, _ATTEMPTS))
        return Proposal(drawn, "random")

    def _ask(self, inner: BaseSampler, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        joint = inner.infer_relative_search_space(study, trial)
        joint = {name: joint[name] for name in self._distributions if name in joint}
        params = inner.sample_relative(study, trial, joint) if joint else {}
        for name, distribution in self._distributions.items():
            if name not in params and name in self.space.active(params):
                params[name] = inner.sample_independent(study, trial, name, distribution)
        return params


class Nearest(Generic[A]):
    """Moves an architecture to the measurable one that differs in the fewest places."""

    def __init__(self, space: Space[A], candidates: Population[A]) -> None:
        """Take the space and the (B,) architectures that can be measured."""
        self._space = space
        self._candidates = candidates
        self._places = _places(space.graphs(candidates))

    def to(self, architecture: A, rng: np.random.Generator) -> A:
        """Return the nearest candidate, one of them at random where several are."""
        wanted = _places(self._space.graphs([architecture]))
        distance = (self._places != wanted).sum(1)
        return self._candidates[int(rng.choice(np.flatnonzero(distance == distance.min())))]


def _places(graphs: GraphBatch) -> NDArray[np.float32]:
    """Return (B, P) edges, operations and attributes side by side."""
    b = len(graphs)
    parts = [graphs.adjacency.reshape(b, -1).astype(np.float32), graphs.ops.astype(np.float32)]
    if graphs.attributes is not None:
        parts.append(np.nan_to_num(graphs.attributes.reshape(b, -1)))
    return np.concatenate(parts, axis=1)


class TPEOptions(SamplerOptions):
    """Options of the sampler ``tpe``.

    initial:       random labels before the first fit.
    multivariate:  model the decisions jointly rather than one by one.
    ei_candidates: samples from the good density, of which the likeliest one is proposed.
    """

    initial: int = Field(default=10, ge=1)
    multivariate: bool = True
    ei_candidates: int = Field(default=24, ge=1)


class TPE(OptunaSampler[A]):
    """Tree-structured Parzen estimator (Bergstra et al., 2011) as Optuna implements it."""

    name: ClassVar[str] = "tpe"
    Options: ClassVar[type[SamplerOptions]] = TPEOptions

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        conditional = self.space.active({}) != set(self._distributions)
        return TPESampler(
            n_startup_trials=self.initial,
            n_ei_candidates=self.options.ei_candidates,
            multivariate=self.options.multivariate,
            # what stands together is modelled together, also where not all trials have it
            group=self.options.multivariate and conditional,
            constant_liar=True,
            seed=seed,
        )


class NSGA2Options(SamplerOptions):
    """Options of the sampler ``nsga2``.

    initial:    random architectures at the start.
    population: architectures of a generation.
    crossover:  probability that a child has two parents.
    """

    initial: int = Field(default=20, ge=1)
    population: int = Field(default=20, ge=2)
    crossover: float = Field(default=0.9, ge=0, le=1)


class NSGA2(OptunaSampler[A]):
    """NSGA-II (Deb et al., 2002) as Optuna implements it.

    A child inherits the decisions that every architecture has; conditional ones it draws anew.
    """

    name: ClassVar[str] = "nsga2"
    Options: ClassVar[type[SamplerOptions]] = NSGA2Options

    def make(self, seed: int) -> NSGAIISampler:
        """Return Optuna's sampler."""
        return NSGAIISampler(
            population_size=self.options.population,
            mutation_prob=None,
            crossover_prob=self.options.crossover,
            swapping_prob=0.5,
            seed=seed,
        )

    def note(self, study: Study, trial: FrozenTrial) -> None:
        """Give a trial that was not sampled a generation, so that it can have children."""
        self.make(self.seed).get_trial_generation(study, trial)  # writes it to the study
