"""Optuna's storage in a database: patient while the database is away, and quick."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    json_to_distribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from nasplatform.executors.store.database import replace_broken
from nasplatform.executors.store.outage import patiently, said
from nasplatform.search import trial_changes, trial_rows
from nasplatform.search.trial_changes import Changes, copied

_CALLS = (
    *("create_new_study", "set_study_user_attr", "set_study_system_attr", "get_all_studies"),
    *("get_study_id_from_name", "get_study_name_from_id", "get_study_directions"),
    *("get_study_user_attrs", "get_study_system_attrs", "_create_new_trial", "get_trial"),
    *("_get_trials", "get_trial_id_from_study_id_trial_number", "get_best_trial"),
    "_get_best_trial_id",
)


class StudyStorage(RDBStorage):
    """An ``RDBStorage`` of which each call is made again until no outage hinders it.

    Each may be made twice: a trial that was begun twice is swept away at the end of the search,
    and one that had ended already says so.

    A trial that was begun here is kept here, and not read, until it has ended; what is set within
    ``together`` is written in one transaction. Of the trials of others those are read that are
    new or have changed, and the decisions of each once.
    """

    reports = False  # whether trainings report on the way, so that running trials change

    def __init__(self, *given: Any, **named: Any) -> None:
        """Take what ``RDBStorage`` takes."""
        super().__init__(*given, **named)
        if self.engine.dialect.name == "postgresql":
            replace_broken(self.engine)
        self._reads = self.engine.execution_options(isolation_level="AUTOCOMMIT")
        self._own: dict[int, FrozenTrial] = {}  # begun here, by id
        self._decided: dict[int, FrozenTrial] = {}  # of others, running, with their decisions
        self._together: dict[int, Changes] = {}  # what is to be written, by trial

    @contextmanager
    def together(self, trial_id: int) -> Iterator[Changes]:
        """Write whatever is set of a trial within in one transaction at the end.

        Raises UpdateFinishedTrialError then where somebody else has ended it; nothing is written.
        """
        begun = self._together.get(trial_id)
        if begun is not None:
            yield begun
            return
        changes = self._together[trial_id] = Changes()
        try:
            yield changes
        finally:
            del self._together[trial_id]
        if changes != Changes(at=changes.at):
            patiently(lambda: self._write(trial_id, changes))

    def _write(self, trial_id: int, changes: Changes) -> None:
        with self._transaction() as connection:
            written = trial_changes.write(connection, trial_id, changes)
        own = self._own.pop(trial_id, None)
        if not written:
            self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        elif own is not None:
            self._own[trial_id] = changes.of(own)

    def _create_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None = None
    ) -> FrozenTrial:
        if template_trial is not None:
            return super()._create_new_trial(study_id, template_trial)
        with self._transaction() as connection:
            trial = trial_changes.begin(connection, study_id)
        if trial is None:
            raise KeyError(f"no study with id {study_id}")
        self._own[trial._trial_id] = trial
        return copied(trial)

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        known = previous_distribution or patiently(lambda: self._known(trial_id, param_name))
        if known is not None:
            check_distribution_compatibility(known, distribution)
        with self.together(trial_id) as changes:
            changes.params[param_name] = (param_value_internal, distribution)

    def _known(self, trial_id: int, param_name: str) -> BaseDistribution | None:
        """Return the distribution that a parameter has in the study of a trial, None for none."""
        trial, param = models.TrialModel, models.TrialParamModel
        study = sa.select(trial.study_id).where(trial.trial_id == trial_id).scalar_subquery()
        known = sa.select(param.distribution_json).join(trial, trial.trial_id == param.trial_id)
        one = known.where(trial.study_id == study, param.param_name == param_name).limit(1)
        with self._reading() as connection:
            found = connection.execute(one).scalar_one_or_none()
        return None if found is None else json_to_distribution(found)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial."""
        with self.together(trial_id) as changes:
            changes.user[key] = json.dumps(value)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial that is not its user's."""
        with self.together(trial_id) as changes:
            changes.system[key] = json.dumps(value)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Set a score on the way."""
        with self.together(trial_id) as changes:
            changes.steps[step] = float(intermediate_value)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Set how a trial ended; return whether it was one that had not."""
        if not state.is_finished():  # one that waits begins
            return patiently(lambda: RDBStorage.set_trial_state_values(self, trial_id, state))
        with self.together(trial_id) as changes:
            changes.state, changes.values = state, [float(value) for value in values or ()]
        return True

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial as it stands."""
        if (own := self._own.get(trial_id)) is not None:
            return copied(own)
        with self._reading() as connection:
            row = trial_rows.row_of(connection, trial_id)
            if row is None:
                raise KeyError(f"no trial with id {trial_id}")
            return trial_rows.read(connection, [row])[0]

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Read trials for Optuna's cache, but for those that stand there as they are.

        A trial has all its decisions from the moment at which it has one.
        """
        with self._reading() as connection:
            news = (included_trial_ids, trial_id_greater_than)
            rows = trial_rows.rows_of(connection, study_id, *news)
            rows = [row for row in rows if states is None or row.state in states]
            here = {row.trial_id: own for row in rows if (own := self._here(row)) is not None}
            cached = self._decided if trial_id_greater_than >= 0 and not self.reports else {}
            new = [
                row
                for row in rows
                if row.trial_id not in here
                and not (row.state == TrialState.RUNNING and row.trial_id in cached)
            ]
            read = trial_rows.read(connection, new, self._decided) if new else []
        self._note(read)
        return sorted([*here.values(), *read], key=lambda trial: trial._trial_id)

    def _here(self, row: sa.Row[Any]) -> FrozenTrial | None:
        """Return a trial that need not be read; it is forgotten once it has ended."""
        if not row.state.is_finished():
            own = self._own.get(row.trial_id)
        else:
            own = self._own.pop(row.trial_id, None)
        return copied(own) if own is not None and own.state == row.state else None

    def _note(self, trials: list[FrozenTrial]) -> None:
        for trial in trials:
            self._decided.pop(trial._trial_id, None)
            if trial.state == TrialState.RUNNING and trial.params:
                self._decided[trial._trial_id] = trial

    @contextmanager
    def _transaction(self) -> Iterator[sa.Connection]:
        with _storage_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """Give a connection on which each statement is a transaction: two round trips less."""
        with _storage_errors(), self._reads.connect() as connection:
            yield connection


@contextmanager
def _storage_errors() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StorageInternalError(said(error)) from error


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(StudyStorage, name)

    @wraps(method)
    def call(self: StudyStorage, *given: Any, **named: Any) -> Any:
        return patiently(lambda: method(self, *given, **named))

    return call


for _name in _CALLS:
    setattr(StudyStorage, _name, _patient(_name))
