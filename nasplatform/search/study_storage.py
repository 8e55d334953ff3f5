"""Optuna's storage in a database: patient while the database is away, and quick to write."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import or_

from nasplatform.executors.store.outage import patiently

_CALLS = (
    *("create_new_study", "set_study_user_attr", "set_study_system_attr", "get_all_studies"),
    *("get_study_id_from_name", "get_study_name_from_id", "get_study_directions"),
    *("get_study_user_attrs", "get_study_system_attrs", "create_new_trial", "_create_new_trial"),
    *("set_trial_param", "_set_trial_params", "get_trial_param", "set_trial_state_values"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr"),
    *("get_trial", "get_all_trials", "_get_trials", "get_trial_id_from_study_id_trial_number"),
    *("get_best_trial", "_get_best_trial_id"),
)

_Param = tuple[int, str, float, BaseDistribution, BaseDistribution | None]


class StudyStorage(RDBStorage):
    """An ``RDBStorage`` of which each call is made again until no outage hinders it.

    Each may be made twice: a trial that was begun twice is swept away at the end of the search,
    and one that had ended already says so.
    """

    reports = False  # whether trainings report on the way, so that running trials change
    _kept: list[_Param] | None = None

    def _get_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Read trials for Optuna's cache; of those that still run, what was read is not read again.

        A trial has all its decisions from the moment at which it has one, and then ends.
        """
        if states is None and trial_id_greater_than > -1 and not self.reports:
            wanted = self._changed(study_id, included_trial_ids, trial_id_greater_than)
            if not wanted:
                return []
            included_trial_ids, trial_id_greater_than = wanted, max(wanted)
        found = super()._get_trials(study_id, states, included_trial_ids, trial_id_greater_than)
        running = {t._trial_id for t in found if t.state == TrialState.RUNNING and t.params}
        self._chosen = (self._chosen - {t._trial_id for t in found}) | running
        return found

    def _changed(self, study_id: int, unfinished: set[int], after: int) -> set[int]:
        """Return which of the unfinished or later trials are not in the cache as they are."""
        row = models.TrialModel
        with _create_scoped_session(self.scoped_session) as session:
            known = session.query(row.trial_id, row.state).filter(row.study_id == study_id)
            news = known.filter(or_(row.trial_id.in_(unfinished), row.trial_id > after)).all()
        return {n for n, state in news if n not in self._chosen or state != TrialState.RUNNING}

    def __init__(self, *given: Any, **named: Any) -> None:
        """Take what ``RDBStorage`` takes."""
        super().__init__(*given, **named)
        self._chosen: set[int] = set()  # running trials that were read with their decisions

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write all parameters that are set within in one transaction at the end.

        One after the other they are what takes longest in a trial that costs nothing.
        """
        self._kept = []
        try:
            yield
            kept, self._kept = self._kept, None
            if kept:
                self._set_trial_params(kept)
        finally:
            self._kept = None

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        param = (trial_id, param_name, param_value_internal, distribution, previous_distribution)
        if self._kept is not None:
            self._kept.append(param)
        else:
            self._set_trial_params([param])

    def _set_trial_params(self, params: list[_Param]) -> None:
        """Write parameters of one trial; those that have no known distribution are checked."""
        with _create_scoped_session(self.scoped_session, True) as session:
            trial = models.TrialModel.find_or_raise_by_id(params[0][0], session)
            self.check_trial_is_updatable(params[0][0], trial.state)
            for trial_id, name, value, distribution, known in params:
                if known is None:
                    self._set_trial_param_without_commit(
                        session, trial_id, name, value, distribution
                    )
                    continue
                session.add(
                    models.TrialParamModel(
                        trial_id=trial_id,
                        param_name=name,
                        param_value=value,
                        distribution_json=distribution_to_json(distribution),
                    )
                )


def _patient(name: str) -> Callable[..., Any]:
    method = getattr(StudyStorage, name)

    @wraps(method)
    def call(self: StudyStorage, *given: Any, **named: Any) -> Any:
        return patiently(lambda: method(self, *given, **named))

    return call


for _name in _CALLS:
    setattr(StudyStorage, _name, _patient(_name))
