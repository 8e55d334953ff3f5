"""What changes of a trial, written into Optuna's tables by few statements.

The tables and what stands in them are Optuna's; its own storage goes through an object mapper and
needs some forty statements for each trial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from nasplatform.executors.store.database import insert

_STUDY: Any = models.StudyModel.__table__
_TRIAL: Any = models.TrialModel.__table__
_STEP = ("intermediate_value", "intermediate_value_type")
_OPEN = (TrialState.RUNNING, TrialState.WAITING)


@dataclass
class Changes:
    """What is to be written of one trial; attributes as JSON text.

    params: name -> value as Optuna's tables hold it, and its distribution.
    steps:  epochs -> score on the way.
    state:  how it ended, with its ``values``; None where it goes on.
    """

    params: dict[str, tuple[float, BaseDistribution]] = field(default_factory=dict)
    user: dict[str, str] = field(default_factory=dict)
    system: dict[str, str] = field(default_factory=dict)
    steps: dict[int, float] = field(default_factory=dict)
    state: TrialState | None = None
    values: Sequence[float] = ()
    at: datetime = field(default_factory=datetime.now)

    def of(self, trial: FrozenTrial) -> FrozenTrial:
        """Return the trial after these changes, as it would be read."""
        after = copied(trial)
        for name, (value, distribution) in self.params.items():
            after.params[name] = distribution.to_external_repr(value)
            after.distributions[name] = distribution
        after.user_attrs |= {key: json.loads(text) for key, text in self.user.items()}
        after.system_attrs |= {key: json.loads(text) for key, text in self.system.items()}
        after.intermediate_values |= self.steps
        if self.state is not None:
            after.state, after.datetime_complete = self.state, self.at
            after.values = list(self.values) or None
        return after


def copied(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial whose parameters and attributes may be changed."""
    one = copy(trial)
    one.params, one.distributions = dict(trial.params), dict(trial.distributions)
    one.user_attrs, one.system_attrs = dict(trial.user_attrs), dict(trial.system_attrs)
    one.intermediate_values = dict(trial.intermediate_values)
    return one


_HELD = sa.select(_STUDY.c.study_id).where(_STUDY.c.study_id == sa.bindparam("study"))
_COUNT = sa.select(sa.func.count()).where(_TRIAL.c.study_id == sa.bindparam("study"))
_BEGIN = (
    sa.insert(_TRIAL)
    .values(
        number=_COUNT.scalar_subquery(),
        study_id=sa.bindparam("study"),
        state=TrialState.RUNNING,
        datetime_start=sa.bindparam("at"),
    )
    .returning(_TRIAL.c.trial_id, _TRIAL.c.number)
)


def begin(connection: sa.Connection, study: int) -> FrozenTrial | None:
    """Begin a trial, numbered in the order of beginning; None where there is no such study."""
    if connection.execute(_HELD.with_for_update(), {"study": study}).first() is None:
        return None
    now = datetime.now()
    row = connection.execute(_BEGIN, {"study": study, "at": _utc(now)}).one()
    return FrozenTrial(
        row.number, TrialState.RUNNING, None, now, None, {}, {}, {}, {}, {}, row.trial_id
    )


_MINE = sa.update(_TRIAL).where(
    _TRIAL.c.trial_id == sa.bindparam("trial"), _TRIAL.c.state.in_(_OPEN)
)
_HOLD = _MINE.values(state=_TRIAL.c.state)
_END = _MINE.values(state=sa.bindparam("ended"), datetime_complete=sa.bindparam("at"))


def write(connection: sa.Connection, trial: int, changes: Changes) -> bool:
    """Write changes of a trial; False, and nothing is written, where it has ended or is unknown."""
    if changes.state is None:
        held = connection.execute(_HOLD, {"trial": trial})
    else:
        ended = {"trial": trial, "ended": changes.state, "at": _utc(changes.at)}
        held = connection.execute(_END, ended)
    if held.rowcount != 1:
        return False
    for statement, rows in _rows(connection.dialect.name, trial, changes):
        if rows:
            connection.execute(statement, rows)
    return True


def _rows(dialect: str, trial: int, changes: Changes) -> list[tuple[Any, list[dict[str, Any]]]]:
    params = [
        {
            "trial_id": trial,
            "param_name": name,
            "param_value": value,
            "distribution_json": distribution_to_json(distribution),
        }
        for name, (value, distribution) in changes.params.items()
    ]
    values = []
    for objective, value in enumerate(changes.values):
        number, kind = models.TrialValueModel.value_to_stored_repr(value)
        one = {"trial_id": trial, "objective": objective, "value": number, "value_type": kind}
        values.append(one)
    steps = []
    for step, value in changes.steps.items():
        number, sort = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        one = {"trial_id": trial, "step": step, "intermediate_value": number}
        steps.append(one | {"intermediate_value_type": sort})
    user, system = (
        [{"trial_id": trial, "key": key, "value_json": text} for key, text in attributes.items()]
        for attributes in (changes.user, changes.system)
    )
    return [
        (_put(dialect, models.TrialParamModel, "param_name"), params),
        (_put(dialect, models.TrialUserAttributeModel, "key", "value_json"), user),
        (_put(dialect, models.TrialSystemAttributeModel, "key", "value_json"), system),
        (_put(dialect, models.TrialIntermediateValueModel, "step", *_STEP), steps),
        (_put(dialect, models.TrialValueModel, "objective", "value", "value_type"), values),
    ]


@cache
def _put(dialect: str, model: Any, key: str, *changing: str) -> Any:
    """Return what inserts a fact of a trial; one that is there is replaced where it may change."""
    table = model.__table__
    new, unique = insert(dialect, table), [table.c.trial_id, table.c[key]]
    if not changing:
        return new.on_conflict_do_nothing(index_elements=unique)
    anew = {name: new.excluded[name] for name in changing}
    return new.on_conflict_do_update(index_elements=unique, set_=anew)


def _utc(local: datetime) -> datetime:
    return local.astimezone(UTC).replace(tzinfo=None)
