"""The contract of a sampler that proposes whole architectures to Optuna."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Self

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nasplatform.config import SearchOptions
from nasplatform.predictors.base import Predictor
from nasplatform.spaces.base import A, Population, Space

if TYPE_CHECKING:
    from optuna.study import Study

Reason = Literal["initial", "predicted", "random"]
_KEPT_PROPOSALS = 64


@dataclass(frozen=True)
class Proposal(Generic[A]):
    """An architecture that should be evaluated next, and why.

    source: ``initial`` random label, best ``predicted``, or ``random`` exploration.
    mean, std: what the predictor expected of it, in the unit of the scores; None without one.
    """

    architecture: A
    source: Reason
    mean: float | None = None
    std: float | None = None


@dataclass(frozen=True)
class History(Generic[A]):
    """What a sampler may know when it proposes trial number t: the trials before it.

    seen:          (T,) uint64 isomorphism keys of everything proposed before t.
    architectures: (L,) the architectures among them that were measured.
    scores:        (L,) float64 their scores, higher is better whatever the study's direction.
    numbers:       (L,) int64 the numbers of their trials, ascending.
    """

    seen: NDArray[np.uint64]
    architectures: Population[A]
    scores: NDArray[np.float64]
    numbers: NDArray[np.int64]

    def before(self, number: int) -> History[A]:
        """Keep the measurements of trials below a number; what was seen stays seen."""
        keep = self.numbers < number
        kept = self.architectures[keep]
        return History(self.seen, kept, self.scores[keep], self.numbers[keep])


@dataclass(frozen=True)
class Setting(Generic[A]):
    """What a sampler is made from, beside its options.

    candidates: the only architectures that can be measured, or None for the whole space.
    predictor:  not fitted yet; None where the search file names none.
    """

    space: Space[A]
    seed: int
    candidates: Population[A] | None = None
    predictor: Predictor | None = None


class ArchitectureSampler(BaseSampler, ABC, Generic[A]):
    """An Optuna sampler that chooses an architecture and says it in the space's parameters.

    Life cycle: Optuna asks once per trial; ``propose`` is given the trial's number and the trials
    before it, and returns an architecture that was not seen yet (as long as there is one). It must
    be a pure function of those two and of the constructor's arguments: a study that is resumed in
    another process then proposes exactly what an unbroken one would have. Parameters that are not
    of the space are drawn at random. One trial is one real evaluation; a subclass may ask its
    predictor anything it likes meanwhile.
    """

    name: ClassVar[str]
    Options: ClassVar[type[SearchOptions]]

    def __init__(self, space: Space[A], *, seed: int, candidates: Population[A] | None) -> None:
        """Take the space, a seed, and the only architectures that may be proposed (or None)."""
        self.space = space
        self.seed = seed
        self.candidates = candidates
        self._distributions = space.distributions()
        self._architectures: dict[tuple[Any, ...], A] = {}
        self._proposals: dict[int, Proposal[A]] = {}
        self._lock = threading.Lock()

    @classmethod
    @abstractmethod
    def from_options(cls, options: Any, setting: Setting[A]) -> Self:
        """Make the sampler that a search file describes; ``options`` are its ``Options``."""

    @abstractmethod
    def propose(self, number: int, history: History[A]) -> Proposal[A]:
        """Choose the architecture of trial ``number``."""

    def proposal(self, number: int) -> Proposal[A] | None:
        """Return what was proposed for a recent trial, None where it was not proposed here."""
        return self._proposals.get(number)

    def rng(self, *key: int) -> np.random.Generator:
        """Return the generator of a trial: the seed and the key decide it, nothing else."""
        return np.random.default_rng([self.seed, *key])

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the decisions of the space."""
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose one architecture; raise ValueError for a study with several objectives."""
        self._raise_error_if_multi_objective(study)
        with self._lock:
            proposal = self.propose(trial.number, self._history(study, trial.number))
            self._proposals[trial.number] = proposal
            while len(self._proposals) > _KEPT_PROPOSALS:
                del self._proposals[next(iter(self._proposals))]
        return self.space.to_params(proposal.architecture)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw a parameter that is not the space's, e.g. a learning rate, at random."""
        self._raise_error_if_multi_objective(study)
        seed = int(self.rng(trial.number, *param_name.encode()).integers(2**31))
        return RandomSampler(seed).sample_independent(study, trial, param_name, param_distribution)

    def _history(self, study: Study, number: int) -> History[A]:
        known = [
            (trial, self._architecture(trial))
            for trial in study.get_trials(deepcopy=False)
            if trial.number < number and self._distributions.keys() <= trial.params.keys()
        ]
        measured = [
            (trial, arch) for trial, arch in known if trial.state == TrialState.COMPLETE
        ]
        sign = -1.0 if study.direction == StudyDirection.MINIMIZE else 1.0
        return History(
            seen=self.space.population([arch for _, arch in known]).keys,
            architectures=self.space.population([arch for _, arch in measured]),
            scores=sign * np.array([trial.value for trial, _ in measured], dtype=np.float64),
            numbers=np.array([trial.number for trial, _ in measured], dtype=np.int64),
        )

    def _architecture(self, trial: FrozenTrial) -> A:
        key = tuple(trial.params[name] for name in self._distributions)
        if key not in self._architectures:
            self._architectures[key] = self.space.from_params(trial.params)
        return self._architectures[key]


def draw_unseen(
    space: Space[A],
    candidates: Population[A] | None,
    seen: NDArray[np.uint64],
    rng: np.random.Generator,
) -> A:
    """Draw one architecture uniformly among those not seen yet.

    seen: (T,) uint64 isomorphism keys. Where everything was seen, a seen one is returned.
    """
    if candidates is not None:
        fresh = np.flatnonzero(~np.isin(candidates.keys, seen))
        rows: Sequence[int] | NDArray[np.intp] = fresh if len(fresh) else range(len(candidates))
        return candidates[int(rng.choice(np.asarray(rows)))]
    for _ in range(100):
        drawn = space.sample(16, rng)
        fresh = np.flatnonzero(~np.isin(drawn.keys, seen))
        if len(fresh):
            return drawn[int(fresh[0])]
    return drawn[0]
