"""What a sampler may know of a study, read from Optuna once per trial that ended."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial, TrialState

from nasplatform.search.objectives import higher_is_better
from nasplatform.spaces.base import A, Population, Space

if TYPE_CHECKING:
    from optuna.study import Study

Array = NDArray[np.float64]


@dataclass(frozen=True)
class History(Generic[A]):
    """What a sampler may know when it proposes trial number t: the trials before it.

    seen:          (T,) uint64 isomorphism keys of everything proposed before t, and by trials of
                   higher numbers that were quicker to choose.
    architectures: (L,) the architectures among them that were measured, or given up on the way:
                   where those would have ended is estimated.
    values:        (L, M) float64 their objectives, higher is better whatever the directions, and
                   finite: an infinite one counts as the best or worst finite one.
    limits:        name -> (L,) float64 by how much each breaks a limit; at most 0 where it is kept,
                   NaN where it was not checked.
    numbers:       (L,) int64 the numbers of their trials, ascending.
    pending:       (P,) those that are being measured now.
    """

    seen: NDArray[np.uint64]
    architectures: Population[A]
    values: Array
    limits: Mapping[str, Array]
    numbers: NDArray[np.int64]
    pending: Population[A]

    @property
    def scores(self) -> Array:
        """(L,) float64 the first objective, higher is better."""
        return self.values[:, 0]

    @property
    def violation(self) -> Array:
        """(L,) float64 by how much all limits together are broken; 0 where they are kept."""
        broken = [np.nan_to_num(np.maximum(values, 0.0)) for values in self.limits.values()]
        total: Array = np.sum(broken, axis=0) if broken else np.zeros(len(self))
        return total

    def __len__(self) -> int:
        return len(self.numbers)

    def keep(self, rows: NDArray[Any]) -> History[A]:
        """Keep some of the measurements; what was seen stays seen."""
        return History(
            self.seen,
            self.architectures[rows],
            self.values[rows],
            {name: values[rows] for name, values in self.limits.items()},
            self.numbers[rows],
            self.pending,
        )

    def before(self, number: int) -> History[A]:
        """Keep the measurements of trials below a number."""
        return self.keep(self.numbers < number)

    def with_pending(self, more: Population[A], space: Space[A]) -> History[A]:
        """Count further architectures as seen and as being measured now."""
        if not len(more):
            return self
        return replace(
            self,
            seen=np.concatenate([self.seen, more.keys]),
            pending=space.from_codes(np.concatenate([self.pending.codes, more.codes])),
        )


@dataclass(frozen=True)
class _Row:
    """One trial as arrays want it.

    number:         of the trial.
    code:           (W,) of the architecture, packed.
    values:         its objectives; None where it was not measured to the end.
    learning_curve: epochs -> score on the way, where the measurement reported.
    pruned:         whether it was given up on the way.
    """

    number: int
    code: NDArray[np.uint64]
    key: int
    values: tuple[float, ...] | None
    limits: Mapping[str, float]
    learning_curve: Mapping[int, float]
    pruned: bool
    pending: bool


class Memory(Generic[A]):
    """Rows of the trials of one study; those that ended are never read twice."""

    def __init__(self, space: Space[A]) -> None:
        """Take the space whose parameters the trials have."""
        self._space = space
        self._study: weakref.ref[Study] | None = None
        self._rows: dict[int, _Row | None] = {}  # None: a trial without an architecture

    def before(self, study: Study, number: int) -> History[A]:
        """Return what was known when trial ``number`` was proposed."""
        if self._study is None or self._study() is not study:
            self._study, self._rows = weakref.ref(study), {}
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != number]
        rows: Mapping[int, _Row | None] = self._rows | self._read(trials)
        found = [row for t in trials if (row := rows[t.number]) is not None]
        history = self._history([row for row in found if row.number < number], study)
        later = np.array([row.key for row in found if row.number > number], np.uint64)
        return replace(history, seen=np.concatenate([history.seen, later]))

    def unread(self, number: int) -> bool:
        """Return whether a trial has not ended as far as ``before`` has read."""
        return number not in self._rows

    def _read(self, trials: list[FrozenTrial]) -> dict[int, _Row | None]:
        """Read the trials not known yet; remember those that ended, return those that did not."""
        new = [trial for trial in trials if trial.number not in self._rows]
        whole = [t for t in new if self._space.active(t.params) <= t.params.keys()]
        read: dict[int, _Row | None] = {trial.number: None for trial in new}
        population = self._space.population([self._space.from_params(t.params) for t in whole])
        keys = population.keys.tolist()
        for trial, code, key in zip(whole, population.codes, keys, strict=True):
            read[trial.number] = _row(trial, code, key)
        ended = {t.number: read.pop(t.number) for t in new if t.state.is_finished()}
        self._rows |= ended
        return read

    def _history(self, found: list[_Row], study: Study) -> History[A]:
        """Put rows together; no object is made for each of them, which may be thousands."""
        known = [_values(row, found, place) for place, row in enumerate(found)]
        measured = [row for row, values in zip(found, known, strict=True) if values is not None]
        values = np.array([values for values in known if values is not None], np.float64)
        return History(
            seen=np.array([row.key for row in found], np.uint64),
            architectures=self._population(measured),
            values=_bounded(
                higher_is_better(
                    values.reshape(len(measured), len(study.directions)), study.directions
                )
            ),
            limits={
                name: np.array([row.limits.get(name, np.nan) for row in measured], np.float64)
                for name in sorted({name for row in measured for name in row.limits})
            },
            numbers=np.array([row.number for row in measured], np.int64),
            pending=self._population(row for row in found if row.pending),
        )

    def _population(self, rows: Iterable[_Row]) -> Population[A]:
        codes = [row.code for row in rows]
        empty = self._space.population([])
        return self._space.from_codes(np.stack(codes)) if codes else empty


def _values(row: _Row, found: list[_Row], place: int) -> tuple[float, ...] | None:
    """Return the objectives of a trial, estimated where it was given up on the way.

    place: its own among the trials found; only those before it count, so that an estimate never
           changes. A training that was given up after e epochs is expected to end where those
           stand in their order that stood alike after e.
    """
    if not row.pruned or not row.learning_curve:
        return row.values
    epochs = max(row.learning_curve)
    ended = [r for r in found[:place] if r.values is not None and epochs in r.learning_curve]
    if len(ended) < 2:
        return None
    then = np.sort([r.learning_curve[epochs] for r in ended])
    finally_ = np.sort([r.values[0] for r in ended if r.values is not None])
    return (float(np.interp(row.learning_curve[epochs], then, finally_)),)


def _bounded(values: Array) -> Array:
    """Return values (L, M) with the worst or best finite one of their column for infinite ones."""
    finite = np.isfinite(values)
    if finite.all():
        return values
    low = np.where(finite, values, np.inf).min(0, initial=np.inf)
    high = np.where(finite, values, -np.inf).max(0, initial=-np.inf)
    low, high = (np.where(finite.any(0), bound, 0.0) for bound in (low, high))
    clipped: Array = np.clip(values, low, high)
    return clipped


def _row(trial: FrozenTrial, code: NDArray[np.uint64], key: int) -> _Row:
    complete = trial.state == TrialState.COMPLETE
    return _Row(
        number=trial.number,
        code=code,
        key=key,
        values=tuple(trial.values) if complete else None,
        limits=trial.constraints,
        learning_curve=trial.intermediate_values,
        pruned=trial.state == TrialState.PRUNED,
        pending=not trial.state.is_finished(),
    )
