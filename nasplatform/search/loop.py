"""The search loop: ask for an architecture, measure it once, tell Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, Trial, TrialState

from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluator
from nasplatform.search.base import ArchitectureSampler
from nasplatform.search.store import EvaluationStore
from nasplatform.spaces.base import A

ATTRIBUTE = "nasplatform"
_MAX_REPEATS = 1000  # proposals in a row that bring nothing new before the search gives up


@dataclass(frozen=True)
class Facts:
    """All there is to know about one trial; stored as a single user attribute.

    architecture: text form.
    hash:         canonical identity.
    fidelity:     epochs.
    seed:         which repetition was measured.
    score:        None where the measurement gave no finite number.
    cost:         seconds of training.
    source:       ``initial``, ``predicted`` or ``random``; ``sampled`` from another sampler.
    mean, std:    what the predictor expected when it proposed the architecture.
    repeats:      number of the earlier trial with the same architecture, which paid for it.
    """

    architecture: str
    hash: str
    fidelity: int
    seed: int
    score: float | None
    cost: float
    source: str
    mean: float | None = None
    std: float | None = None
    repeats: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self | None:
        """Read the facts of a trial; None where none were written."""
        found = trial.user_attrs.get(ATTRIBUTE)
        return None if found is None else cls(**found)


@dataclass(frozen=True)
class Step:
    """What a search tells its watcher after each evaluation.

    done, budget: unique evaluations.
    best:         highest score so far; None while there is none.
    facts:        of the trial that just ended.
    """

    done: int
    budget: int
    best: float | None
    facts: Facts


def search(
    study: optuna.Study,
    evaluator: Evaluator[A],
    store: EvaluationStore,
    budget: int,
    seed: int = 0,
    progress: Callable[[Step], None] = lambda step: None,
) -> None:
    """Evaluate until ``budget`` unique architectures were measured, at full fidelity.

    The study may be new, finished or broken off at any point: trials that were left running are
    taken up where they stood, and what the store holds is not measured again. One process at a
    time may drive a study this way. An architecture that the sampler repeats is answered from
    the store and costs nothing of the budget. Raises RunError where the sampler knows no new one.
    """
    distributions = evaluator.space.distributions()
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    ledger = Ledger()
    for trial in ended:
        ledger.enter(trial.number, Facts.of(trial))
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    while len(ledger.first) < budget:
        if ledger.repeats >= _MAX_REPEATS:
            raise RunError(
                f"the sampler proposed nothing new {_MAX_REPEATS} times in a row: "
                f"{len(ledger.first)} architectures evaluated of a budget of {budget}"
            )
        asked = _adopt(study, stale.pop(0), distributions) if stale else study.ask(distributions)
        facts = _measure(asked, evaluator, store, seed, ledger)
        asked.set_user_attr(ATTRIBUTE, asdict(facts))
        state = TrialState.FAIL if facts.score is None else TrialState.COMPLETE
        study.tell(asked, facts.score, state=state)
        ledger.enter(asked.number, facts)
        progress(Step(len(ledger.first), budget, ledger.best, facts))


@dataclass
class Ledger:
    """What a study has spent so far.

    first:   hash -> number of the trial that paid for it.
    best:    highest score; None while there is none.
    repeats: trials in a row that brought nothing new.
    """

    first: dict[str, int] = field(default_factory=dict)
    best: float | None = None
    repeats: int = 0

    def enter(self, number: int, facts: Facts | None) -> None:
        """Take in a trial that ended; one without facts (not ours) counts for nothing."""
        if facts is None:
            return
        self.repeats = self.repeats + 1 if facts.hash in self.first else 0
        self.first.setdefault(facts.hash, number)
        if facts.score is not None:
            self.best = facts.score if self.best is None else max(self.best, facts.score)


def _adopt(
    study: optuna.Study, trial: FrozenTrial, distributions: dict[str, BaseDistribution]
) -> Trial:
    """Take up a trial that a killed process left running, with the same number and parameters."""
    adopted = Trial(study, trial._trial_id)
    _ = adopted.relative_params  # the sampler proposes again, as it did: what it predicted is known
    for name, distribution in distributions.items():
        adopted._suggest(name, distribution)  # as Study.ask does; what was stored is kept
    return adopted


def _measure(
    trial: Trial, evaluator: Evaluator[A], store: EvaluationStore, seed: int, ledger: Ledger
) -> Facts:
    space = evaluator.space
    architecture = space.from_params(trial.params)  # repaired, should another sampler have erred
    fidelity = evaluator.fidelities[-1]
    evaluation = store.evaluate(evaluator, architecture, fidelity, seed)
    sampler = trial.study.sampler
    proposal = sampler.proposal(trial.number) if isinstance(sampler, ArchitectureSampler) else None
    return Facts(
        architecture=space.format(architecture),
        hash=architecture.hash,
        fidelity=fidelity,
        seed=seed,
        score=evaluation.score if math.isfinite(evaluation.score) else None,
        cost=evaluation.cost,
        source=proposal.source if proposal else "sampled",
        mean=proposal.mean if proposal else None,
        std=proposal.std if proposal else None,
        repeats=ledger.first.get(architecture.hash),
        metrics=dict(evaluation.metrics),
    )
