"""Samplers in an Optuna study of one's own: threads, copies, odd values, foreign parameters."""

import copy
import pickle

import optuna
import pytest

from nasplatform import plugins
from nasplatform.benchmarks.registry import load_table
from nasplatform.errors import ConfigError
from nasplatform.predictors import get_predictor
from nasplatform.search.base import SamplerContext

SAMPLERS = plugins.names("samplers")
TRIALS = {"memory": 40, "sqlite": 12, "journal": 16}  # one commit a parameter
MANY = 200


@pytest.fixture(scope="module")
def table():
    return load_table("cells-digits")


def made(name, table, **options):
    chosen = plugins.get("samplers", name)
    context = SamplerContext(table.space, 0, table.architectures, get_predictor("gp-trees"))
    return chosen.from_options(chosen.Options(**options), context)


def objective(table, seen, odd=None):
    scores = table.scores()

    def measured(trial):
        architecture = table.space.suggest(trial)
        seen.append(architecture.hash)
        if odd is not None and len(seen) % 5 == 0:
            return odd
        return float(scores[table.row(architecture)])

    return measured


def storage(kind, folder):
    if kind == "sqlite":
        return f"sqlite:///{folder}/study.db"
    if kind == "journal":
        backend = optuna.storages.journal.JournalFileBackend(str(folder / "study.log"))
        return optuna.storages.JournalStorage(backend)
    return None


def in_threads(name, kind, table, folder, trials):
    """Return the hash of each architecture that four threads have measured."""
    study = optuna.create_study(
        direction="maximize", sampler=made(name, table), storage=storage(kind, folder)
    )
    seen = []
    study.optimize(objective(table, seen), n_trials=trials, n_jobs=4)
    return seen


def through_pickle(study):
    return pickle.loads(pickle.dumps(study))  # noqa: S301 - our own bytes


@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_threads_never_repeat_an_architecture(name, kind, table, tmp_path):
    seen = in_threads(name, kind, table, tmp_path, TRIALS[kind])
    assert len(seen) == len(set(seen)) == TRIALS[kind]


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_trial_that_is_overtaken_does_not_repeat(name, table):
    chosen = plugins.get("samplers", name)
    context = SamplerContext(table.space, 0, table.architectures[:2], get_predictor("gp-trees"))
    study = optuna.create_study(
        direction="maximize", sampler=chosen.from_options(chosen.Options(), context)
    )
    first = study._storage.create_new_trial(study._study_id)  # its thread has not chosen yet
    seen = []
    study.optimize(objective(table, seen), n_trials=1)
    study.sampler._memory.before(study, 2)  # another thread has read that it ended
    overtaken = optuna.Trial(study, first)
    assert table.space.suggest(overtaken).hash not in seen


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["memory", "sqlite", "journal"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_threads_never_repeat_one_of_many(name, kind, tmp_path):
    seen = in_threads(name, kind, load_table("chains-digits"), tmp_path, MANY)
    assert len(seen) == len(set(seen)) == MANY


@pytest.mark.parametrize("odd", [float("-inf"), float("inf")])
@pytest.mark.parametrize("name", SAMPLERS)
def test_values_without_bound_end_no_study(name, odd, table):
    study = optuna.create_study(direction="maximize", sampler=made(name, table))
    seen = []
    study.optimize(objective(table, seen, odd), n_trials=20)
    assert len(set(seen)) == 20


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
@pytest.mark.parametrize("name", SAMPLERS)
def test_copies_propose_the_same(name, copied, table):
    study = optuna.create_study(direction="maximize", sampler=made(name, table))
    study.optimize(objective(table, []), n_trials=15)
    other = copied(study)
    first, second = study.ask(), other.ask()
    assert table.space.suggest(first) == table.space.suggest(second)


def test_a_study_of_other_parameters_is_refused(table):
    study = optuna.create_study(sampler=made("random", table))
    with pytest.raises(ConfigError, match=r"have the parameters rate, .*call space\.suggest"):
        study.optimize(lambda trial: trial.suggest_float("rate", 0, 1), n_trials=2)


def test_further_parameters_are_welcome(table):
    study = optuna.create_study(direction="maximize", sampler=made("random", table))
    seen = []
    measured = objective(table, seen)
    study.optimize(lambda t: measured(t) + t.suggest_float("rate", 0, 1), n_trials=5)
    assert len(set(seen)) == 5
