"""The contract of a sampler that proposes whole architectures to Optuna."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict

from nasplatform.errors import ConfigError
from nasplatform.plugin_contracts import called
from nasplatform.predictors.base import Predictor
from nasplatform.search.history import History, Memory
from nasplatform.search.nearest import Nearest
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.spaces.base import A, Population, Space

if TYPE_CHECKING:
    from optuna.study import Study

Reason = Literal["enqueued", "initial", "predicted", "random", "sampled", "evolved", "neighbour"]
_KEPT_PROPOSALS = 64
_A_FEW = 4  # measured neighbours among which a step may choose
_NAMED = 3  # parameters that a message names
_ROUNDS = 100  # of 64 random architectures each, before all counts as seen


@dataclass(frozen=True)
class Proposal(Generic[A]):
    """An architecture that should be evaluated next, and why.

    source: ``enqueued`` by the user, ``initial`` label, best ``predicted``, ``random`` exploration,
            ``sampled`` by Optuna, ``evolved`` from a parent, or ``neighbour`` of the best.
    mean, std: what the predictor expected of it, in the unit of the scores; None without one.
    fitting: seconds for which the predictor was fitted for it; no part of what is proposed.
    """

    architecture: A
    source: Reason
    mean: float | None = None
    std: float | None = None
    fitting: float = field(default=0.0, compare=False)


class SamplerOptions(BaseModel):
    """What the options of every sampler have in common: frozen, and no unknown key."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class SamplerContext(Generic[A]):
    """What a sampler is made from, beside its options.

    candidates:   the only architectures that can be measured, or None for the whole space.
    predictor:    not fitted yet; None where the search file names none.
    optimization: further objectives and limits; None where there are none.
    """

    space: Space[A]
    seed: int
    candidates: Population[A] | None = None
    predictor: Predictor | None = None
    optimization: OptimizationConfig[A] | None = None


class ArchitectureSampler(BaseSampler, ABC, Generic[A]):
    """An Optuna sampler that chooses an architecture and says it in the space's parameters.

    Life cycle: Optuna asks once per trial; ``propose`` is given the trial's number and the trials
    before it, and returns an architecture that keeps the limits and was not seen yet (as long as
    there is one). It must be a pure function of those two and of the constructor's arguments: a
    study that is resumed in another process then proposes exactly what an unbroken one would
    have. Parameters that are not of the space are drawn at random. One trial is one real
    evaluation; a subclass may ask its predictor anything it likes meanwhile.

    several_objectives: whether the sampler knows what to do with more than the score.
    initial: trials that are labels to begin with; the budget must pay for them.
    shared:  whether other processes propose for the same study; set by ``search``.
    """

    name: ClassVar[str]
    Options: ClassVar[type[SamplerOptions]]
    several_objectives: ClassVar[bool] = False
    initial: int = 0
    shared: bool = False

    def __init__(
        self,
        space: Space[A],
        *,
        seed: int,
        candidates: Population[A] | None,
        optimization: OptimizationConfig[A] | None = None,
    ) -> None:
        """Take the space, a seed, the only architectures that may be proposed (or None), limits.

        Raises ConfigError for several objectives where the sampler knows one only, and for anything
        else than that; ArchitectureError for candidates of another space.
        """
        if optimization is not None and optimization.objectives and not self.several_objectives:
            names = ", ".join(optimization.objectives)
            raise ConfigError(f"sampler {self.name!r} searches by the score alone, not by {names}")
        if not isinstance(space, Space):
            raise ConfigError(
                f"sampler {self.name!r}: space is a {type(space).__name__}, expected a Space, as "
                f"get_space makes one"
            )
        if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
            raise ConfigError(
                f"sampler {self.name!r}: seed is {seed!r:.40}, expected a number from 0"
            )
        if candidates is not None:
            candidates = space.population(candidates)
            if not len(candidates):
                raise ConfigError(f"sampler {self.name!r}: there are no candidates")
        self.space = space
        self.seed = seed
        self.optimization = optimization
        if candidates is not None and optimization is not None:
            candidates = candidates[optimization.feasible_mask(candidates)]
        self.candidates = candidates
        self._distributions = space.distributions()
        self._enqueued: Population[A] | None = None
        self._memory: Memory[A] = Memory(space)
        self._proposals: dict[int, Proposal[A]] = {}
        self._lock = threading.Lock()

    @classmethod
    def from_options(cls, options: BaseModel, context: SamplerContext[A]) -> Self:
        """Make the sampler that a search file describes; ``options`` are its ``Options``.

        The constructor is given what the context explains and each option by its name; a subclass
        whose constructor takes anything else overrides this.
        """
        made: Self = called(
            f"sampler {cls.name!r}, which does not override from_options",
            cls,
            context.space,
            seed=context.seed,
            candidates=context.candidates,
            optimization=context.optimization,
            **options.model_dump(),
        )
        return made

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy begins with: it reads the study itself, and has its own lock."""
        left: dict[str, Any] = {"_lock": None, "_memory": None, "_proposals": {}}
        return self.__dict__ | left

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin as a copy."""
        self.__dict__ |= state | {"_lock": threading.Lock(), "_memory": Memory(state["space"])}

    def enqueue(self, architectures: Sequence[A]) -> None:
        """Let these be evaluated first, in order; one that the study has seen is not proposed."""
        self._enqueued = self.space.population(architectures)

    @abstractmethod
    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Choose the architecture of trial ``number``."""

    def proposal(self, number: int) -> Proposal[A] | None:
        """Return what was proposed for a recent trial, None where it was not proposed here."""
        return self._proposals.get(number)

    def rng(self, *key: int) -> np.random.Generator:
        """Return the generator of a trial: the seed and the key decide it, nothing else."""
        return np.random.default_rng([self.seed, *key])

    def feasible_mask(self, architectures: Population[A]) -> NDArray[np.bool_]:
        """Return (B,) whether each can be measured and keeps the limits."""
        if self.candidates is not None:
            return np.isin(architectures.keys, self.candidates.keys)
        if self.optimization is not None:
            return self.optimization.feasible_mask(architectures)
        return np.ones(len(architectures), bool)

    def draw_unseen(self, seen: NDArray[np.uint64], rng: np.random.Generator) -> A:
        """Draw one allowed architecture uniformly among those not seen yet.

        seen: (T,) uint64 isomorphism keys. Where everything was seen, a seen one is returned.
        """
        if self.candidates is not None:
            fresh = np.flatnonzero(~np.isin(self.candidates.keys, seen))
            rows = fresh if len(fresh) else np.arange(len(self.candidates))
            return self.candidates[int(rng.choice(rows))]
        last: A | None = None
        for _ in range(_ROUNDS):
            drawn = self.space.sample(64, rng)
            drawn = drawn[self.feasible_mask(drawn)]
            fresh = np.flatnonzero(~np.isin(drawn.keys, seen))
            if len(fresh):
                return drawn[int(fresh[0])]
            last = drawn[0] if len(drawn) else last
        if last is None:
            raise ConfigError(f"none of {64 * _ROUNDS:,} random architectures keeps the limits")
        return last

    @cached_property
    def measurable(self) -> Nearest[A] | None:
        """What leads to the nearest candidate; None where any architecture can be measured."""
        return None if self.candidates is None else Nearest(self.space, self.candidates)

    def unseen_near(
        self, architecture: A, seen: NDArray[np.uint64], rng: np.random.Generator, source: Reason
    ) -> Proposal[A]:
        """Propose of a table what was not seen and is nearest to an architecture, else at random.

        For who found nothing unseen among the neighbours: a table may hold a sample of its space.
        """
        if self.measurable is None:
            return Proposal(self.draw_unseen(seen, rng), "random")
        return Proposal(self.measurable.to(architecture, rng, seen), source)

    def step(
        self, architecture: A, seen: NDArray[np.uint64], rng: np.random.Generator, source: Reason
    ) -> Proposal[A] | None:
        """Propose a random unseen architecture one edit away; None where all of them were seen.

        Of a table that holds a few of them, one of these is taken. Of one that holds hardly any,
        the nearest to the architecture drawn is, as with every sampler, for else the search would
        be led by what happened to be measured.
        """
        around = self.space.neighbours([architecture])
        around = around[~np.isin(around.keys, seen)]
        known = self.feasible_mask(around) if len(around) else np.zeros(0, bool)
        if self.candidates is None or np.count_nonzero(known) >= _A_FEW:
            around, known = around[known], known[known]
        if not len(around):
            return None
        row = int(rng.integers(len(around)))
        if not known[row]:
            return self.unseen_near(around[row], seen, rng, source)
        return Proposal(around[row], source)

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the decisions of the space."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose one architecture; raise ValueError for objectives that the sampler lacks."""
        self._raise_error_if_too_many_objectives(study)
        with self._lock:
            history = self._known(study, trial.number)
            proposal = self._first(study, trial, history) or self.choose(study, trial, history)
            self._check_proposal(proposal)
            self._proposals[trial.number] = proposal
            while len(self._proposals) > _KEPT_PROPOSALS:
                del self._proposals[next(iter(self._proposals))]
        return self.space.to_params(proposal.architecture)

    def _check_proposal(self, proposal: object) -> None:
        """Raise ConfigError for anything but a proposal of an architecture of the space."""
        who = f"sampler {self.name!r}"
        if not isinstance(proposal, Proposal):
            raise ConfigError(f"{who} proposes a {type(proposal).__name__}, expected a Proposal")
        found = proposal.architecture
        if not hasattr(found, "hash"):
            raise ConfigError(
                f"{who} proposes a {type(found).__name__}, expected an architecture of space "
                f"{self.space.name!r}; 'space.parse' reads a text"
            )

    def _known(self, study: Study, number: int) -> History[A]:
        """Return what is known before trial ``number``, with what is in flight here.

        Another thread's trial says its architecture only when its objective asks for it.
        Raises ConfigError where no trial of the study has the parameters of the space.
        """
        history = self._memory.before(study, number)
        if not len(history.seen):
            _require_own(study, self.space, self._distributions)
        flying = [
            proposal.architecture
            for each, proposal in self._proposals.items()
            if each != number and self._memory.unread(each)
        ]
        more = self.space.population(flying)
        return history.with_pending(more[~np.isin(more.keys, history.seen)], self.space)

    def choose(self, study: Study, trial: FrozenTrial, history: History[A]) -> Proposal[A]:
        """Choose the architecture of a trial; a sampler that needs the study overrides this."""
        return self.propose(trial.number, history)

    def note(self, study: Study, trial: FrozenTrial) -> None:
        """Take note of a trial that the sampler did not choose by its own method."""

    def _first(self, study: Study, trial: FrozenTrial, history: History[A]) -> Proposal[A] | None:
        """Return the first enqueued architecture that was not seen yet, None for none."""
        if self._enqueued is None:
            return None
        fresh = np.flatnonzero(~np.isin(self._enqueued.keys, history.seen))
        if not len(fresh):
            return None
        self.note(study, trial)
        return Proposal(self._enqueued[int(fresh[0])], "enqueued")

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter that is not the space's, e.g. a learning rate, at random."""
        self._raise_error_if_too_many_objectives(study)
        seed = int(self.rng(trial.number, *param_name.encode()).integers(2**31))
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)

    def _raise_error_if_too_many_objectives(self, study: Study) -> None:
        if not self.several_objectives:
            self._raise_error_if_multi_objective(study)


def _require_own(study: Study, space: Space[Any], decisions: Container[str]) -> None:
    """Raise ConfigError for a study of which a trial ended without any decision of the space."""
    for trial in study.get_trials(deepcopy=False):
        ended = trial.state.is_finished() and trial.params
        if ended and not any(name in decisions for name in trial.params):
            raise ConfigError(
                f"the trials of study {study.study_name!r} have the parameters "
                f"{_few(trial.params)}, those of space {space.name!r} are "
                f"{_few(space.distributions())}: let the objective call space.suggest(trial)"
            )


def _few(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(known[:_NAMED]) + (", ..." if len(known) > _NAMED else "")
