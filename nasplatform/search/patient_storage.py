"""Optuna's storage in a database, which waits while the database is away for a moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from optuna.storages import RDBStorage

from nasplatform.executors.store.outage import patiently

_CALLS = (
    *("create_new_study", "set_study_user_attr", "set_study_system_attr", "get_all_studies"),
    *("get_study_id_from_name", "get_study_name_from_id", "get_study_directions"),
    *("get_study_user_attrs", "get_study_system_attrs", "create_new_trial", "_create_new_trial"),
    *("set_trial_param", "_set_trial_param", "get_trial_param", "set_trial_state_values"),
    *("set_trial_intermediate_value", "set_trial_user_attr", "set_trial_system_attr"),
    *("get_trial", "get_all_trials", "_get_trials", "get_trial_id_from_study_id_trial_number"),
    *("get_best_trial", "_get_best_trial_id"),
)


def _patient(name: str) -> Callable[..., Any]:
    """Return a call of Optuna's that is made again after an outage.

    Each may be made twice: a trial that was begun twice is swept away at the end of the search,
    and one that had ended already says so.
    """
    method = getattr(RDBStorage, name)

    @wraps(method)
    def call(self: RDBStorage, *given: Any, **named: Any) -> Any:
        return patiently(lambda: method(self, *given, **named))

    return call


class PatientStorage(RDBStorage):
    """An ``RDBStorage`` of which each call is made again until no outage hinders it."""


for _name in _CALLS:
    setattr(PatientStorage, _name, _patient(_name))
