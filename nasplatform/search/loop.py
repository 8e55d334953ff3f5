"""The search loop: ask for architectures, have each measured once, tell Optuna."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from nasplatform.errors import RunError
from nasplatform.evaluators.base import Evaluation, Evaluator
from nasplatform.executors.base import EvaluatorSpec, Executor
from nasplatform.executors.inline import InlineExecutor
from nasplatform.executors.store import (
    Busy,
    EvaluationStore,
    StorageAwayError,
    Unsent,
    patiently,
)
from nasplatform.search.base import ArchitectureSampler
from nasplatform.search.coordination import Coordinator
from nasplatform.search.measurement import Measurement, Measurer, Outcome, Refused
from nasplatform.search.objectives import OptimizationConfig
from nasplatform.search.trial_record import BudgetTracker, Step, TrialRecord
from nasplatform.search.trials import Trials, seconds_spent
from nasplatform.spaces.base import A

LEASE = 60.0  # seconds of silence after which a process that measures counts as dead
_MAX_REPEATS = 1000  # proposals in a row that bring nothing new before the search gives up
_MAX_FAILURES = 10  # measurements from the start, all failed, before the search gives up
_PAUSES = (0.05, 5.0)  # seconds between two looks at what others do: the first, the longest


@dataclass(frozen=True)
class StoppingRule:
    """When no new trial begins; those that are running are waited for.

    budget:      unique architectures measured in all.
    max_seconds: of search, that before a break included.
    target:      a score.
    """

    budget: int
    max_seconds: float | None = None
    target: float | None = None


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
    executor: Executor | None = None,
    spec: EvaluatorSpec | None = None,
    unsent: Unsent | None = None,
    resolved: str | None = None,
) -> int:
    """Evaluate until ``budget`` unique architectures were measured, at the target fidelity.

    The study may be new, finished or broken off at any point: trials that were left running are
    taken up where they stood, and what the store holds is not measured again. An architecture
    that the sampler repeats is answered from the store and costs nothing of the budget.

    optimization: further objectives and limits; the study must have their ``directions``.
    max_seconds:  of search, that before a break included, after which no new trial begins.
    target:       a score that ends the search as soon as it is reached.
    exclusive:    whether this process alone drives the study. With False several processes may
                  share a study and a store: what one of them measures no other does, and the
                  trial of one that died is taken up by another.
    executor:     makes the measurements, as many at once as it has capacity; by default inline.
    spec:         how an executor elsewhere makes the evaluator.
    unsent:       where measurements are kept while the database is away.
    resolved:     the search's file as resolved, JSON, for who looks at the database.
    Returns how many measurements were made and recorded here. Raises RunError where the sampler
    knows no new architecture, or nothing can be measured; EvaluationError where measuring breaks
    for a reason that is not the architecture's.
    """
    described = spec or EvaluatorSpec.of(evaluator)
    chosen = executor or InlineExecutor.around(evaluator, described)
    wanted = optimization or OptimizationConfig(
        {}, (), evaluator.attributes, frozenset(evaluator.attribute_names())
    )
    if isinstance(study.sampler, ArchitectureSampler):
        study.sampler.shared = not exclusive
    trials = Trials(study, evaluator, wanted, seed)
    rule = StoppingRule(budget, max_seconds, target)
    if exclusive:
        store.release_all()
        store.requeue("fatal")  # what was wrong may be mended
        with Measurer(evaluator, described, store, chosen, seed, LEASE, unsent=unsent) as measurer:
            _Loop(trials, measurer, rule, None, progress).run()
            return measurer.paid
    name = study.study_name
    patiently(lambda: store.join(name, LEASE, budget, resolved))
    try:
        with Measurer(
            evaluator,
            described,
            store,
            chosen,
            seed,
            LEASE,
            admit=lambda hash: store.admit(name, hash, budget),
            unsent=unsent,
        ) as measurer:
            coordinator = Coordinator(study, evaluator.space, LEASE)
            _Loop(trials, measurer, rule, coordinator, progress).run()
            return measurer.paid
    finally:
        with suppress(StorageAwayError):
            store.leave()


@dataclass(frozen=True)
class _Flight(Generic[A]):
    """A trial whose architecture is being measured here."""

    trial: Trial
    architecture: A
    measurement: Measurement


class _Loop(Generic[A]):
    """Keeps as many trials in flight as can be measured at once, until a rule ends it."""

    def __init__(
        self,
        trials: Trials[A],
        measurer: Measurer[A],
        rule: StoppingRule,
        coordinator: Coordinator[A] | None,
        progress: Callable[[Step], None],
    ) -> None:
        self._trials = trials
        self._measurer = measurer
        self._rule = rule
        self._coordinator = coordinator
        self._progress = progress
        self._tracker = BudgetTracker()
        self._flights: dict[int, _Flight[A]] = {}
        self._left: list[FrozenTrial] = []
        self._pause = _PAUSES[0]
        self._refused = time.monotonic()  # since when nobody seems to be at work
        self._requeued = False  # whether trials wait that were put back after a failure

    def run(self) -> None:
        known = self._look()
        if self._coordinator is None:
            self._left = [trial for trial in known if trial.state == TrialState.RUNNING]
        before = seconds_spent([trial for trial in known if trial.state.is_finished()])
        self._deadline = time.monotonic() + (self._rule.max_seconds or float("inf")) - before
        while True:
            while len(self._flights) < self._measurer.capacity and self._begin():
                pass
            if self._flights:
                self._land()
            elif self._over():
                self._sweep()
                return
            else:
                self._measurer.store.wait(self._wait())

    def _look(self) -> list[FrozenTrial]:
        """Enter the trials that ended and are not in the books yet; return all trials."""
        trials = self._trials.study.get_trials(deepcopy=False)
        for trial in trials:
            if trial.state.is_finished() and trial.number not in self._tracker.entered:
                self._tracker.enter(trial.number, TrialRecord.of(trial))
        if self._coordinator is not None:
            self._coordinator.look(trials, self._flights)
            self._requeued = any(trial.state == TrialState.WAITING for trial in trials)
        return trials

    def _over(self) -> bool:
        if time.monotonic() >= self._deadline:
            return True
        goes_on = self._tracker.goes_on(self._rule.budget, self._rule.target)
        return not (goes_on or self._requeued)

    def _begin(self) -> bool:
        """Begin one trial, a new one or one that was left; return whether to go on beginning."""
        if self._coordinator is not None:
            self._look()
        if self._over():
            return False
        _give_up(self._tracker, self._rule.budget)
        if self._left:
            left = self._trials.reopen(self._left.pop(0))
            return self._measure(self._trials.propose_again(left))
        if self._coordinator is not None and (suspect := self._coordinator.suspect()):
            self._take_over(self._trials.reopen(suspect))
            return True
        if self._requeued or self._reserved() < self._rule.budget:
            trial = self._trials.ask()
            return trial is not None and self._measure(trial)
        return False

    def _reserved(self) -> int:
        """Return how much of the budget is spent, or will be by what is running."""
        known = len(self._tracker.first) + len(self._flights)
        if self._coordinator is None:
            return known
        return known + len(self._coordinator.running() - self._tracker.first.keys())

    def _measure(self, trial: Trial) -> bool:
        """Have the architecture of a trial measured; return whether nobody else is at it."""
        architecture = self._trials.architecture(trial)
        outcome = self._measurer.begin(architecture, self._trials.report(trial))
        if isinstance(outcome, Busy | Refused):
            self._trials.give_up(trial)
            if isinstance(outcome, Refused):
                self._reconsider()
            return False
        if isinstance(outcome, Evaluation) and self._coordinator is not None:
            self._look()  # whose measurement it is
        self._take(trial, architecture, outcome)
        return True

    def _take_over(self, trial: Trial) -> None:
        """Go on with another process's trial, unless that one is alive."""
        architecture = self._trials.architecture(trial)
        outcome = self._measurer.begin(architecture, self._trials.report(trial))
        if isinstance(outcome, Refused):
            self._trials.give_up(trial)
        elif not isinstance(outcome, Busy):
            self._take(self._trials.propose_again(trial), architecture, outcome)

    def _sweep(self) -> None:
        """End the trials that the dead have left, now that no new trial begins.

        A living process whose trial is ended too early had not begun to measure.
        """
        if self._coordinator is None:
            return
        for trial in self._look():
            if self._trials.is_left(trial, self._measurer.is_left):
                self._trials.give_up(trial)
        self._ring()

    def _reconsider(self) -> None:
        """Let the budget be spent to its end, where the dead were admitted and left no trial.

        Called when the budget has no room though it is not spent; with nobody at work for as long
        as a lease holds, what is missing has no owner.
        """
        assert self._coordinator is not None
        now = time.monotonic()
        if self._coordinator.running() or self._flights:
            self._refused = now
        elif now - self._refused > LEASE:
            self._refused = now
            name, known = self._trials.study.study_name, self._tracker.first.keys()
            patiently(lambda: self._measurer.store.forget(name, known))

    def _ring(self) -> None:
        """Wake the others; who misses it looks by himself before long."""
        with suppress(StorageAwayError):
            self._measurer.store.ring()

    def _land(self) -> None:
        """Wait until a measurement is done; take what is."""
        futures = {number: f.measurement.future for number, f in self._flights.items()}
        timeout = None if self._coordinator is None else self._wait()
        done = wait(futures.values(), timeout, FIRST_COMPLETED).done
        for number in sorted(number for number, future in futures.items() if future in done):
            flight = self._flights.pop(number)
            outcome = self._measurer.end(flight.measurement)
            self._take(flight.trial, flight.architecture, outcome)

    def _take(self, trial: Trial, architecture: A, outcome: Outcome) -> None:
        """Enter what is known, keep what is being made; who is Busy has the trial as well."""
        if isinstance(outcome, Measurement):
            self._flights[trial.number] = _Flight(trial, architecture, outcome)
        elif isinstance(outcome, Evaluation):
            self._enter(trial, architecture, outcome)

    def _enter(self, trial: Trial, architecture: A, evaluation: Evaluation) -> None:
        """End a trial and enter it into the books."""
        repeats = self._tracker.first.get(architecture.hash)
        if repeats is None and self._coordinator is not None:
            repeats = self._coordinator.holder(architecture, trial.number)
        record = self._trials.record(trial, architecture, evaluation, repeats)
        self._trials.tell(trial, record)
        self._refused = time.monotonic()
        if self._coordinator is not None:
            self._ring()
        self._tracker.enter(trial.number, record)
        self._pause = _PAUSES[0]
        done, best = len(self._tracker.first), self._tracker.best
        self._progress(Step(done, self._rule.budget, best, record))

    def _wait(self) -> float:
        """Return the seconds to the next look at what others do, longer each time in vain."""
        pause = self._pause
        self._pause = min(2 * pause, _PAUSES[1])
        return pause


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
