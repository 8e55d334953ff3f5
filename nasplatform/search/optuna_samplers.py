"""Optuna's own TPE and NSGA-II in the same loop as ours, for comparisons like with like.

They know nothing of graphs: they see one categorical parameter per decision. What they sample is
repaired by the space and, where only some architectures can be measured and it is none of them,
moved to the nearest one that can and was not seen. Both are asked through a sampler that is made
anew for each trial with a seed of its own, so that the same history gives the same proposal in any
process. Neither looks at anything but the study, with one exception: a proposal that was seen
before is drawn again, and in the end gives way to the nearest of a table that was not seen.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import FrozenTrial
from pydantic import BaseModel, Field

from nasplatform.search.base import ArchitectureSampler, Proposal, SamplerContext, SamplerOptions
from nasplatform.search.history import History
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.spaces.base import A, Population, Space

if TYPE_CHECKING:
    from optuna.study import Study

_ATTEMPTS = 10  # draws before the nearest unseen architecture is taken, or a random one


class OptunaOptions(SamplerOptions):
    """What the options of Optuna's samplers have in common."""

    initial: int = Field(default=10, ge=1)


class OptunaSampler(ArchitectureSampler[A]):
    """An Optuna sampler over the decisions of the space; a subclass says which."""

    several_objectives: ClassVar[bool] = True
    Options: ClassVar[type[OptunaOptions]]
    options: OptunaOptions

    def __init__(
        self,
        space: Space[A],
        options: OptunaOptions,
        *,
        seed: int = 0,
        candidates: Population[A] | None = None,
        optimization: OptimizationConfig[A] | None = None,
    ) -> None:
        """Take the space, the ``Options`` of the sampler, and what ``SamplerContext`` explains."""
        super().__init__(space, seed=seed, candidates=candidates, optimization=optimization)
        self.options = options
        self.initial = options.initial

    @classmethod
    def from_options(cls, options: BaseModel, context: SamplerContext[A]) -> Self:
        """Make the sampler that a search file describes; ``options`` are its ``Options``."""
        return cls(
            context.space,
            cls.Options.model_validate(options.model_dump()),
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
            found = self.space.from_params(self._ask(inner, study, trial, rng))
            one = self.space.population([found])
            if self.measurable is not None and not self.feasible_mask(one)[0]:
                found = self.measurable.to(found, rng, history.seen)
                one = self.space.population([found])
            if self.feasible_mask(one)[0] and not np.isin(one.keys, history.seen)[0]:
                return Proposal(found, "sampled")
        return self.unseen_near(found, history.seen, self.rng(trial.number, _ATTEMPTS), "sampled")

    def parents(
        self, inner: BaseSampler, study: Study, trial: FrozenTrial
    ) -> Sequence[FrozenTrial]:
        """Return trials that hand on to this one what is no decision of every architecture."""
        return ()

    def _ask(
        self, inner: BaseSampler, study: Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> dict[str, Any]:
        joint = inner.infer_relative_search_space(study, trial)
        joint = {name: joint[name] for name in self._distributions if name in joint}
        params = inner.sample_relative(study, trial, joint) if joint else {}
        parents = self.parents(inner, study, trial)
        for name, distribution in self._distributions.items():
            if name not in params and name in self.space.active(params):
                having = [parent.params for parent in parents if name in parent.params]
                if having and rng.random() > 1 / len(self._distributions):
                    params[name] = _most_alike(having, params, rng)[name]
                else:
                    params[name] = inner.sample_independent(study, trial, name, distribution)
        return params


def _most_alike(
    parents: list[dict[str, Any]], child: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    """Return the parent that agrees with the child in the most decisions, the first of a few."""
    shared = [sum(parent.get(k) == v for k, v in child.items()) for parent in parents]
    return parents[int(rng.choice(np.flatnonzero(np.array(shared) == max(shared))))]


class TPEOptions(OptunaOptions):
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
    Options: ClassVar[type[OptunaOptions]] = TPEOptions
    options: TPEOptions

    def make(self, seed: int) -> BaseSampler:
        """Return Optuna's sampler."""
        conditional = self.space.active({}) != set(self._distributions)
        with warnings.catch_warnings():
            # of ``group``: what stands together is modelled together, also where not all have it
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                n_startup_trials=self.initial,
                n_ei_candidates=self.options.ei_candidates,
                multivariate=self.options.multivariate,
                group=self.options.multivariate and conditional,
                constant_liar=True,
                seed=seed,
            )


class NSGA2Options(OptunaOptions):
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

    A conditional decision a child takes from the parent that is most like it among those that made
    it, or draws it anew with the probability of a mutation, one in the number of all decisions.
    """

    name: ClassVar[str] = "nsga2"
    Options: ClassVar[type[OptunaOptions]] = NSGA2Options
    options: NSGA2Options

    def make(self, seed: int) -> NSGAIISampler:
        """Return Optuna's sampler."""
        return NSGAIISampler(
            population_size=self.options.population,
            mutation_prob=None,
            crossover_prob=self.options.crossover,
            swapping_prob=0.5,
            seed=seed,
        )

    def parents(
        self, inner: BaseSampler, study: Study, trial: FrozenTrial
    ) -> Sequence[FrozenTrial]:
        """Return the generation before; none at the start."""
        assert isinstance(inner, NSGAIISampler)
        return inner.get_parent_population(study, inner.get_trial_generation(study, trial))

    def note(self, study: Study, trial: FrozenTrial) -> None:
        """Give a trial that was not sampled a generation, so that it can have children."""
        self.make(self.seed).get_trial_generation(study, trial)  # writes it to the study
