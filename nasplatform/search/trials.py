"""The trials of a study as this process drives them: ask, take up, tell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Generic

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.trial import FrozenTrial, Trial, TrialState

from nasplatform.evaluators.base import Evaluation, Evaluator, Report
from nasplatform.search.base import ArchitectureSampler
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.study_storage import StudyStorage
from nasplatform.search.trial_record import ATTRIBUTE, TrialRecord
from nasplatform.spaces.base import A

SECONDS = "nasplatform:seconds"
"""The system attribute of a trial that tells what proposing it took, and fitting for that."""


class Trials(Generic[A]):
    """Asks Optuna for architectures and tells it what became of them."""

    def __init__(
        self,
        study: optuna.Study,
        evaluator: Evaluator[A],
        optimization: OptimizationConfig[A],
        seed: int,
    ) -> None:
        """Take the study, and what its trials are about."""
        self.study = study
        self._evaluator = evaluator
        self._optimization = optimization
        self._seed = seed
        self._prunes = evaluator.stops_early and not isinstance(study.pruner, NopPruner)

    def ask(self) -> Trial | None:
        """Begin a new trial, which makes the decisions that its architecture has.

        None where another process, at the end of the search, has ended it meanwhile.
        """
        begun = time.perf_counter()
        trial = self.study.ask()
        try:
            with self._together(trial):
                self._evaluator.space.suggest(trial)
                proposal = _proposal(trial)
                seconds = {
                    "proposing": time.perf_counter() - begun,
                    "fitting": proposal.fitting if proposal else 0.0,
                }
                self.study._storage.set_trial_system_attr(trial._trial_id, SECONDS, seconds)
        except UpdateFinishedTrialError:
            return None
        return trial

    def _together(self, trial: Trial) -> AbstractContextManager[Any]:
        """Return what writes all that is set at once; another's storage writes one by one."""
        backend = getattr(self.study._storage, "_backend", None)
        if isinstance(backend, StudyStorage):
            return backend.together(trial._trial_id)
        return nullcontext()

    def reopen(self, left: FrozenTrial) -> Trial:
        """Return a trial that was left running, to go on with it."""
        return Trial(self.study, left._trial_id)

    def propose_again(self, trial: Trial) -> Trial:
        """Have the sampler propose once more what it did, so that it knows why; return the trial.

        Parameters that are stored already are kept, the others are set.
        """
        _ = trial.relative_params
        self._evaluator.space.suggest(trial)
        return trial

    def architecture(self, trial: Trial) -> A:
        """Return what a trial chose; repaired, should a sampler have erred."""
        return self._evaluator.space.from_params(trial.params)

    def is_left(self, trial: FrozenTrial, unmeasured: Callable[[A], bool]) -> bool:
        """Return whether a trial runs, and chose nothing or what nobody measures."""
        if trial.state != TrialState.RUNNING:
            return False
        space = self._evaluator.space
        if not space.active(trial.params) <= trial.params.keys():
            return True
        return unmeasured(space.from_params(trial.params))

    def report(self, trial: Trial) -> Report | None:
        """Return what passes a training's progress on to the pruner; None where nothing prunes."""
        return _Reporter(trial) if self._prunes else None

    def record(
        self, trial: Trial, architecture: A, evaluation: Evaluation, repeats: int | None
    ) -> TrialRecord:
        """Put together all that is known of a trial that was measured."""
        one = self._evaluator.space.population([architecture])
        asked = self._optimization.attributes(one)
        known = {name: float(array[0]) for name, array in asked.items()} | dict(evaluation.metrics)
        static = self._optimization.static_names
        proposal = _proposal(trial)
        return TrialRecord(
            architecture=self._evaluator.space.format(architecture),
            hash=architecture.hash,
            fidelity=self._evaluator.target_fidelity,
            seed=self._seed,
            score=evaluation.score if math.isfinite(evaluation.score) else None,
            seconds=evaluation.seconds,
            source=proposal.source if proposal else "sampled",
            mean=proposal.mean if proposal else None,
            std=proposal.std if proposal else None,
            repeats=repeats,
            metrics={name: value for name, value in known.items() if name not in static},
            attributes={name: value for name, value in known.items() if name in static},
            values=self._optimization.values(evaluation.score, known),
            violation=self._optimization.violation(known),
            error=_error(evaluation),
            stopped=evaluation.stopped,
        )

    def tell(self, trial: Trial, record: TrialRecord) -> None:
        """End a trial; nothing is changed where another process took it up and ended it."""
        with suppress(UpdateFinishedTrialError), self._together(trial):
            trial.set_user_attr(ATTRIBUTE, asdict(record))
            if record.score is None or not all(map(math.isfinite, record.values)):
                self.study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)
            elif record.stopped is not None:
                self.study.tell(trial, state=TrialState.PRUNED, skip_if_finished=True)
            else:
                for name, violation in record.violation.items():
                    trial.set_constraint(name, violation)
                self.study.tell(trial, list(record.values), skip_if_finished=True)

    def give_up(self, trial: Trial | FrozenTrial) -> None:
        """End a trial without a record: nobody measures for it what it chose."""
        with suppress(UpdateFinishedTrialError):
            self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def seconds_spent(trials: Sequence[FrozenTrial]) -> float:
    """Return for how long at least one of these trials, all ended, was running."""
    return covered(
        (t.datetime_start, t.datetime_complete)
        for t in trials
        if t.datetime_start is not None and t.datetime_complete is not None
    )


def covered(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Return for how many seconds at least one of these spans lasted: breaks are left out.

    >>> noon = datetime(2026, 1, 1, 12)
    >>> covered([(noon, noon.replace(minute=2)), (noon.replace(minute=1), noon.replace(minute=3))])
    180.0
    """
    total, until = 0.0, None
    for begun, ended in sorted(spans):
        since = begun if until is None else max(begun, until)
        total += max(0.0, (ended - since).total_seconds())
        until = ended if until is None else max(until, ended)
    return total


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
