"""Trials read from Optuna's tables, any number of them by two statements.

One reads how they stand, the other all facts of those that are new or have changed. Optuna's own
storage reads six tables through an object mapper.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial

_TRIAL: Any = models.TrialModel.__table__
_PARAM = models.TrialParamModel
_AT_ONCE = 1000  # trials of which the facts are read by one statement

_ROWS = sa.select(
    *(_TRIAL.c[name] for name in ("trial_id", "number", "state")),
    *(_TRIAL.c[name] for name in ("datetime_start", "datetime_complete")),
).order_by(_TRIAL.c.trial_id)
_ONE = _ROWS.where(_TRIAL.c.trial_id == sa.bindparam("trial"))
_ALL = _ROWS.where(_TRIAL.c.study_id == sa.bindparam("study"))
_NEWS = _ALL.where(
    sa.or_(
        _TRIAL.c.trial_id.in_(sa.bindparam("unfinished", expanding=True)),
        _TRIAL.c.trial_id > sa.bindparam("after"),
    )
)


def row_of(connection: sa.Connection, trial: int) -> sa.Row[Any] | None:
    """Return the row of a trial, None where there is none."""
    return connection.execute(_ONE, {"trial": trial}).one_or_none()


def rows_of(
    connection: sa.Connection, study: int, unfinished: Collection[int], after: int
) -> Sequence[sa.Row[Any]]:
    """Return the rows of a study's trials: those of ``unfinished`` and all with higher ids."""
    if after < 0:
        return connection.execute(_ALL, {"study": study}).all()
    given = {"study": study, "unfinished": list(unfinished), "after": after}
    return connection.execute(_NEWS, given).all()


def _select(kind: str, model: Any, key: str, number: str | None, text: str) -> Any:
    table, wanted = model.__table__, "undecided" if model is _PARAM else "trials"
    return sa.select(
        sa.literal_column(f"'{kind}'", sa.Text).label("kind"),
        table.c.trial_id,
        next(iter(table.primary_key)).label("place"),
        sa.cast(table.c[key], sa.Text).label("key"),
        (table.c[number] if number else sa.cast(sa.null(), sa.Double)).label("number"),
        sa.cast(table.c[text], sa.Text).label("text"),
    ).where(table.c.trial_id.in_(sa.bindparam(wanted, expanding=True)))


_FACTS = sa.union_all(
    _select("param", _PARAM, "param_name", "param_value", "distribution_json"),
    _select("value", models.TrialValueModel, "objective", "value", "value_type"),
    _select("user", models.TrialUserAttributeModel, "key", None, "value_json"),
    _select("system", models.TrialSystemAttributeModel, "key", None, "value_json"),
    _select(
        "step",
        models.TrialIntermediateValueModel,
        *("step", "intermediate_value", "intermediate_value_type"),
    ),
).order_by("place")


def read(
    connection: sa.Connection,
    rows: Sequence[sa.Row[Any]],
    decided: Mapping[int, FrozenTrial] | None = None,
) -> list[FrozenTrial]:
    """Read all that is known of trials, of which the rows were read.

    decided: by id, trials of which the decisions are known and are not read again.
    """
    known = decided or {}
    facts: dict[tuple[str, int], dict[str, tuple[Any, str]]] = defaultdict(dict)
    trials = [row.trial_id for row in rows]
    for first in range(0, len(trials), _AT_ONCE):
        some = trials[first : first + _AT_ONCE]
        given = {"trials": some, "undecided": [trial for trial in some if trial not in known]}
        for kind, trial, _, key, number, text in connection.execute(_FACTS, given):
            facts[kind, trial][key] = (number, text)
    return [_trial(row, facts, known.get(row.trial_id)) for row in rows]


def _trial(
    row: sa.Row[Any],
    facts: Mapping[tuple[str, int], dict[str, tuple[Any, str]]],
    known: FrozenTrial | None,
) -> FrozenTrial:
    params, values, user, system, steps = (
        facts[kind, row.trial_id] for kind in ("param", "value", "user", "system", "step")
    )
    distributions = {name: _distribution(text) for name, (_, text) in params.items()}
    chosen = {name: distributions[name].to_external_repr(n) for name, (n, _) in params.items()}
    if known is not None:
        chosen, distributions = dict(known.params), dict(known.distributions)
    return FrozenTrial(
        row.number,
        row.state,
        None,
        _local(row.datetime_start),
        _local(row.datetime_complete),
        chosen,
        distributions,
        {key: json.loads(text) for key, (_, text) in user.items()},
        {key: json.loads(text) for key, (_, text) in system.items()},
        {int(step): _step(*found) for step, found in steps.items()},
        row.trial_id,
        values=[_value(*values[key]) for key in sorted(values, key=int)] or None,
    )


@lru_cache(maxsize=4096)
def _distribution(text: str) -> BaseDistribution:
    return json_to_distribution(text)


def _value(number: float | None, kind: str) -> float:
    model = models.TrialValueModel
    return model.stored_repr_to_value(number, model.TrialValueType[kind])


def _step(number: float | None, kind: str) -> float:
    model = models.TrialIntermediateValueModel
    return model.stored_repr_to_intermediate_value(number, model.TrialIntermediateValueType[kind])


def _local(utc: datetime | None) -> datetime | None:
    return utc and utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
