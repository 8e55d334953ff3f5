"""What is written by few statements is what Optuna's own storage reads, and the other way round."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import postgresql
import pytest
import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from search_toys import toy_evaluator, toy_sampler

from nasplatform.executors.store import open_store
from nasplatform.search import open_study, search
from nasplatform.search.random_sampler import RandomSampler

SERVER = pytest.param("postgresql", marks=pytest.mark.postgres)


@pytest.fixture(params=["sqlite", SERVER])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        server: postgresql.Server = request.getfixturevalue("postgresql_server")
        return server.new_database()
    return f"sqlite:///{tmp_path / 's'}"


def storage_of(study: optuna.Study) -> Any:
    return study._storage._backend  # type: ignore[attr-defined]  # of the cache around it


def fill(study: optuna.Study) -> None:
    """Make trials of every kind."""
    study.enqueue_trial({"x": 0.25, "kind": "b"})
    for values in ([0.5, math.inf], [-math.inf, 1.0], None):
        trial = study.ask()
        with storage_of(study).together(trial._trial_id):
            trial.suggest_float("x", 0.0, 1.0)
            trial.suggest_categorical("kind", ("a", "b"))
            trial.set_user_attr("words", {"ä": [1, 2.5, None], "pair": (1, 2)})
            trial.set_constraint("limit", -0.5)
        for step, value in enumerate((0.5, math.nan, math.inf, -math.inf)):
            storage_of(study).set_trial_intermediate_value(trial._trial_id, step, value)
        with storage_of(study).together(trial._trial_id):
            trial.set_user_attr("words", "again")
            study.tell(trial, values, state=TrialState.FAIL if values is None else None)
    study.ask({"x": FloatDistribution(0.0, 1.0), "kind": CategoricalDistribution(("a", "b"))})


def told(trials: list[FrozenTrial]) -> list[str]:
    """Return all that is known of trials; NaN is NaN, and the order of attributes is nobody's."""
    for trial in trials:
        trial.system_attrs = dict(sorted(trial.system_attrs.items()))
    return [repr(trial) for trial in trials]


def test_what_is_kept_here_what_is_read_and_what_optuna_reads_are_the_same(url: str) -> None:
    with open_study(url, "s", directions=("maximize", "minimize")) as study:
        fill(study)
        kept = study.get_trials()
        ended = [storage_of(study).get_trial(t._trial_id) for t in kept]
    with open_study(url, "s", directions=("maximize", "minimize")) as study:
        read = study.get_trials()
    plain = RDBStorage(url)
    optunas = plain.get_all_trials(plain.get_study_id_from_name("s"))
    plain.engine.dispose()
    assert [t.state.name for t in kept] == ["COMPLETE", "COMPLETE", "FAIL", "RUNNING"]
    assert told(kept) == told(read) == told(optunas) == told(ended)
    assert [list(t.params) for t in read] == [["x", "kind"]] * 4


def test_a_trial_that_another_has_ended_is_not_written(url: str) -> None:
    with open_study(url, "s") as mine, open_study(url, "s") as other:
        trial = mine.ask()
        other.tell(trial.number, 0.5)
        late = storage_of(mine).together(trial._trial_id)
        late.__enter__()
        trial.set_user_attr("late", 1)
        trial.suggest_float("x", 0.0, 1.0)
        mine.tell(trial, 0.25, skip_if_finished=True)
        with pytest.raises(UpdateFinishedTrialError):
            late.__exit__(None, None, None)
        for study in (mine, other):
            (found,) = study.get_trials()
            assert (found.value, found.params, found.user_attrs) == (0.5, {}, {})


def test_what_another_has_ended_is_read_though_it_began_here(url: str) -> None:
    with open_study(url, "s") as mine, open_study(url, "s") as other:
        mine.ask()
        other.tell(0, 0.5)
        assert [trial.value for trial in mine.get_trials()] == [0.5]


def test_what_breaks_together_leaves_nothing(url: str) -> None:
    def half_done(trial: optuna.Trial) -> None:
        with storage_of(study).together(trial._trial_id):
            trial.set_user_attr("half", 1)
            raise ZeroDivisionError

    with open_study(url, "s") as study:
        trial = study.ask()
        with pytest.raises(ZeroDivisionError):
            half_done(trial)
        study.tell(trial, 0.5)
        assert study.get_trials()[0].user_attrs == {}


def test_a_parameter_keeps_its_kind(url: str) -> None:
    with open_study(url, "s") as study:
        study.ask().suggest_float("x", 0.0, 1.0)
    with open_study(url, "s") as anew, pytest.raises(ValueError, match="different distribution"):
        anew.ask().suggest_int("x", 0, 1)


def test_an_evaluation_takes_few_statements_whatever_the_number_of_trials(url: str) -> None:
    """Fifteen, twenty where a transaction is begun by one; it was seventy."""
    statements: list[str] = []
    evaluator = toy_evaluator(8)

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    with (
        open_study(url, "s", toy_sampler(RandomSampler, evaluator)) as study,
        open_store(url) as store,
    ):
        search(study, evaluator, store, 5, exclusive=False)
        sa.event.listen(sa.Engine, "before_cursor_execute", note)
        try:
            for budget in (15, 65):
                statements.clear()
                made = search(study, evaluator, store, budget, exclusive=False)
                assert len(statements) < 20 * made + 12
        finally:
            sa.event.remove(sa.Engine, "before_cursor_execute", note)
