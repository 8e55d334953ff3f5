"""The search loop: ask for an architecture, measure it once, tell Optuna."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, Generic

import numpy as np
import optuna
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.search.base import ArchitectureSampler
from nasplatform.search.coordination import Coordinator
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.store import EvaluationStore
from nasplatform.search.trial_record import ATTRIBUTE, BudgetTracker, Step, TrialRecord
from nasplatform.spaces.base import A

__all__ = ["Step", "TrialRecord", "search"]

_MAX_REPEATS = 1000  # proposals in a row that bring nothing new before the search gives up
_MAX_FAILURES = 10  # measurements from the start, all failed, before the search gives up


def search(
    study: optuna.Study,
    evaluator: Evaluator[A],
    store: EvaluationStore,
    budget: int,
    seed: int = 0,
    progress: Callable[[Step], None] = lambda step: None,
    *,
    optimization: OptimizationConfig[A] | None = None,
    max_seconds: float | None = None,
    target: float | None = None,
    exclusive: bool = True,
) -> None:
    """Evaluate until ``budget`` unique architectures were measured, at full fidelity.

    The study may be new, finished or broken off at any point: trials that were left running are
    taken up where they stood, and what the store holds is not measured again. An architecture
    that the sampler repeats is answered from the store and costs nothing of the budget.

    optimization: further objectives and limits; the study must have their ``directions``.
    max_seconds:  of trials, those before a break included, after which no new one begins.
    target:       a score that ends the search as soon as it is reached.
    exclusive:    whether this process alone drives the study; several processes may share one
                  with False, and then leave alone the trials that are running. Where two chose
                  the same architecture, the earlier trial has it and the later one chooses anew;
                  what another process has measured is taken from its trial.
    Raises RunError where the sampler knows no new architecture, or nothing can be measured.
    """
    wanted = optimization or OptimizationConfig({}, (), evaluator.attributes, frozenset())
    driver = _Driver(study, evaluator, store, seed, wanted, exclusive)
    stale = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if exclusive else []
    begun = time.monotonic()
    driver.catch_up()
    before = driver.seconds
    while driver.tracker.goes_on(budget, target):
        if max_seconds is not None and before + time.monotonic() - begun >= max_seconds:
            return
        _give_up(driver.tracker, budget)
        record = driver.step(stale.pop(0) if stale else None)
        if not exclusive:
            driver.catch_up()
        if record is None:
            continue
        tracker = driver.tracker
        progress(Step(len(tracker.first), budget, tracker.best, record))


def _give_up(tracker: BudgetTracker, budget: int) -> None:
    if tracker.repeats >= _MAX_REPEATS:
        raise RunError(
            f"the sampler proposed nothing new {_MAX_REPEATS} times in a row: "
            f"{len(tracker.first)} architectures evaluated of a budget of {budget}"
        )
    if tracker.succeeded == 0 and len(tracker.first) >= _MAX_FAILURES:
        raise RunError(
            f"all {len(tracker.first)} architectures so far failed, the last one with: "
            f"{tracker.last_error or 'no finite score'}"
        )


class _Driver(Generic[A]):
    """Runs trials of one study and keeps the books."""

    def __init__(
        self,
        study: optuna.Study,
        evaluator: Evaluator[A],
        store: EvaluationStore,
        seed: int,
        optimization: OptimizationConfig[A],
        exclusive: bool,
    ) -> None:
        self.study = study
        self.evaluator = evaluator
        self.store = store
        self.seed = seed
        self.optimization = optimization
        self.tracker = BudgetTracker()
        self.seconds = 0.0
        self._distributions = evaluator.space.distributions()
        self._coordinator = None if exclusive else Coordinator(study, evaluator.space)
        self._prunes = evaluator.stops_early and not isinstance(study.pruner, NopPruner)

    def catch_up(self) -> None:
        """Enter the trials that ended and are not in the tracker yet."""
        for trial in self.study.get_trials(deepcopy=False):
            if trial.state.is_finished() and trial.number not in self.tracker.entered:
                self.tracker.enter(trial.number, TrialRecord.of(trial))
                taken = trial.duration
                self.seconds += taken.total_seconds() if taken is not None else 0.0

    def step(self, stale: FrozenTrial | None) -> TrialRecord | None:
        """Run one trial, a new one or one that a killed process left.

        Returns None where another process is measuring what this trial chose: the trial is given
        up, and the next one knows better.
        """
        trial = self._adopt(stale) if stale else self.study.ask(self._distributions)
        earlier = self._coordinator.same_before(trial) if self._coordinator else None
        if earlier is not None and not earlier.state.is_finished():
            self.study.tell(trial, state=TrialState.FAIL)
            self.tracker.repeats += 1
            return None
        record = self._repeated(trial, earlier) or self._measure(trial)
        trial.set_user_attr(ATTRIBUTE, asdict(record))
        if record.score is None or not all(map(math.isfinite, record.values)):
            self.study.tell(trial, state=TrialState.FAIL)
        elif record.stopped is not None:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            for name, violation in record.violation.items():
                trial.set_constraint(name, violation)
            self.study.tell(trial, list(record.values))
        self.tracker.enter(trial.number, record)
        return record

    def _adopt(self, stale: FrozenTrial) -> Trial:
        """Take up a trial that was left running, with the same number and parameters."""
        adopted = Trial(self.study, stale._trial_id)
        _ = adopted.relative_params  # the sampler proposes again, as it did, and knows why
        for name, distribution in self._distributions.items():
            adopted._suggest(name, distribution)  # as Study.ask does; what was stored is kept
        return adopted

    def _measure(self, trial: Trial) -> TrialRecord:
        space = self.evaluator.space
        architecture = space.from_params(trial.params)  # repaired, should a sampler have erred
        fidelity = self.evaluator.fidelities[-1]
        evaluation = self.store.evaluate(
            self.evaluator,
            architecture,
            fidelity,
            self.seed,
            report=_Reporter(trial) if self._prunes else None,
        )
        metrics = self._attributes(architecture) | dict(evaluation.metrics)
        proposal = _proposal(trial)
        return TrialRecord(
            architecture=space.format(architecture),
            hash=architecture.hash,
            fidelity=fidelity,
            seed=self.seed,
            score=evaluation.score if math.isfinite(evaluation.score) else None,
            cost=evaluation.cost,
            source=proposal.source if proposal else "sampled",
            mean=proposal.mean if proposal else None,
            std=proposal.std if proposal else None,
            repeats=self.tracker.first.get(architecture.hash),
            metrics=metrics,
            values=self.optimization.values(evaluation.score, metrics),
            violation=self.optimization.violation(metrics),
            error=_error(evaluation),
            stopped=evaluation.stopped,
        )

    def _repeated(self, trial: Trial, earlier: FrozenTrial | None) -> TrialRecord | None:
        """Return the record of an architecture that an earlier trial paid for, None for no such."""
        paid = None if earlier is None else TrialRecord.of(earlier)
        if earlier is None or paid is None:
            return None
        proposal = _proposal(trial)
        source = proposal.source if proposal else "sampled"
        return replace(paid, source=source, mean=None, std=None, repeats=earlier.number)

    def _attributes(self, architecture: A) -> dict[str, float]:
        one = self.evaluator.space.population([architecture])
        return {name: float(array[0]) for name, array in self.optimization.attributes(one).items()}


class _Reporter:
    """Passes a training's progress on to Optuna's pruner."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._known = trial.study._storage.get_trial(trial._trial_id).intermediate_values

    def __call__(self, epochs: int, score: float) -> bool:
        if epochs not in self._known:
            self._trial.report(score if math.isfinite(score) else -np.inf, epochs)
        return self._trial.should_prune()


def _proposal(trial: Trial) -> Any:
    sampler = trial.study.sampler
    return sampler.proposal(trial.number) if isinstance(sampler, ArchitectureSampler) else None


def _error(evaluation: Evaluation) -> str | None:
    if evaluation.error is not None or math.isfinite(evaluation.score):
        return evaluation.error
    return f"the score is {evaluation.score}"
