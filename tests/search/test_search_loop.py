"""The loop: budget, repeats, failures, limits, and what a kill at any moment leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler as OptunaRandom
from optuna.trial import TrialState
from pydantic import ValidationError
from search_toys import SAMPLERS, toy_evaluator, toy_sampler

from nasplatform.config import SearchOptions
from nasplatform.errors import RunError
from nasplatform.executors.store import open_store
from nasplatform.search import TrialRecord, open_study, search
from nasplatform.search.predictor_sampler import PredictorSampler
from nasplatform.search.random_sampler import RandomSampler
from nasplatform.search.trial_record import BudgetTracker

every_sampler = pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.name)


@every_sampler
def test_spends_the_budget_on_unique_architectures(run_search: Any, kind: Any) -> None:
    records = run_search(kind, toy_evaluator(), 30)
    assert len({one.hash for one in records}) == 30
    assert [one.repeats for one in records] == [None] * 30  # none of ours repeats itself
    assert all(one.score is not None and one.seconds == 1.5 for one in records)


@every_sampler
def test_same_seed_same_search_and_another_seed_another(run_search: Any, kind: Any) -> None:
    first = run_search(kind, toy_evaluator(), 20, seed=1, folder="first")
    again = run_search(kind, toy_evaluator(), 20, seed=1, folder="again")
    other = run_search(kind, toy_evaluator(), 20, seed=2, folder="other")
    assert first == again
    assert [one.hash for one in first] != [one.hash for one in other]


@every_sampler
def test_broken_off_and_resumed_is_the_unbroken_search(run_search: Any, kind: Any) -> None:
    unbroken = run_search(kind, toy_evaluator(), 24, folder="unbroken")
    for budget in (3, 9, 10, 24):
        resumed = run_search(kind, toy_evaluator(), budget, folder="resumed")
    assert resumed == unbroken


@pytest.mark.parametrize("enumerable", [True, False])
@every_sampler
def test_a_small_space_is_exhausted_then_the_search_gives_up(
    run_search: Any, kind: Any, enumerable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasplatform.search.loop._MAX_REPEATS", 5)
    evaluator = toy_evaluator(3, enumerable=enumerable, unknown=not enumerable)
    assert len(run_search(kind, evaluator, 6, folder="whole")) == 6  # 3 bits, mirrored: 6 classes
    with pytest.raises(RunError, match=r"nothing new 5 times in a row: 6 .* a budget of 7"):
        run_search(kind, evaluator, 7)


def test_repeats_are_answered_from_the_store(tmp_path: Path) -> None:
    evaluator = toy_evaluator(3, log=str(tmp_path / "log"))
    with (
        open_study(tmp_path / "s.db", "s", OptunaRandom(seed=0)) as study,
        open_store(tmp_path / "m.db") as store,
    ):
        search(study, evaluator, store, 6)
        trials = study.get_trials()
    records = [TrialRecord.of(trial) for trial in trials]
    paid = (tmp_path / "log").read_text().split()
    assert sorted(paid) == sorted(set(paid))
    assert len(paid) == 6 < len(trials)
    for number, one in enumerate(records):
        assert one is not None
        if one.repeats is not None:
            first = records[one.repeats]
            assert first is not None
            assert (first.hash, first.score) == (one.hash, one.score)
            assert one.repeats < number


def test_an_architecture_that_fails_is_recorded_and_not_tried_again(
    run_search: Any, tmp_path: Path
) -> None:
    broken = ("000", "001", "010")
    log = str(tmp_path / "log")
    records = run_search(RandomSampler, toy_evaluator(3, broken=broken, log=log), 6)
    failed = {one.hash: one.error for one in records if one.score is None}
    assert failed == dict.fromkeys(broken, "out of memory")
    assert Counter((tmp_path / "log").read_text().split()).most_common(1)[0][1] == 1
    assert [one.score is None for one in records].count(True) == 3


def test_a_search_in_which_all_fails_says_why(run_search: Any) -> None:
    evaluator = toy_evaluator(6)
    broken = tuple(bits.hash for bits in evaluator.candidates)
    with pytest.raises(RunError, match=r"all 10 architectures so far failed, .* out of memory"):
        run_search(RandomSampler, toy_evaluator(6, broken=broken), 30)


def test_target_and_time_end_the_search(run_search: Any) -> None:
    records = run_search(RandomSampler, toy_evaluator(), 100, told={"target": 0.6}, folder="target")
    assert records[-1].score >= 0.6
    assert all(one.score < 0.6 for one in records[:-1])
    slow = toy_evaluator(seconds=0.05)
    begun = time.monotonic()
    some = run_search(RandomSampler, slow, 100, told={"max_seconds": 0.5}, folder="time")
    assert 1 <= len(some) <= 10
    assert time.monotonic() - begun < 10
    more = run_search(RandomSampler, slow, 100, told={"max_seconds": 0.5}, folder="time")
    assert len(more) - len(some) <= 2  # what the first call spent is remembered


def test_a_target_is_reached_by_what_equals_it(run_search: Any) -> None:
    free = run_search(RandomSampler, toy_evaluator(), 20, folder="free")
    best = max(one.score for one in free)
    records = run_search(RandomSampler, toy_evaluator(), 20, told={"target": best}, folder="told")
    assert records == free[: 1 + [one.score for one in free].index(best)]


def test_without_a_budget_nothing_is_measured(run_search: Any) -> None:
    assert run_search(RandomSampler, toy_evaluator(), 0) == []
    some = run_search(RandomSampler, toy_evaluator(), 4)
    assert run_search(RandomSampler, toy_evaluator(), 0) == some
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        SearchOptions(budget=0)


def test_a_score_counts_only_where_it_was_measured_to_the_end_and_within_limits() -> None:
    tracker = BudgetTracker()

    def record(score: float | None, hash: str, **more: Any) -> TrialRecord:
        return TrialRecord(hash, hash, 1, 0, score, 1.0, "random", **more)

    tracker.enter(0, record(0.9, "a", violation={"max_params: 1": 0.1}))
    tracker.enter(1, record(0.8, "b", stopped=3))
    tracker.enter(2, record(None, "c", error="too large"))
    assert (tracker.best, tracker.succeeded, tracker.last_error) == (None, 2, "too large")
    tracker.enter(3, record(0.5, "d", violation={"max_params: 1": 0.0}))
    tracker.enter(4, record(0.4, "e"))
    tracker.enter(5, record(0.4, "e"))
    assert (tracker.best, len(tracker.first), tracker.repeats) == (0.5, 5, 1)
    assert tracker.goes_on(6, 0.51)
    assert not tracker.goes_on(6, 0.5)
    assert not tracker.goes_on(5, None)


def test_the_same_architecture_in_another_space_is_another_measurement(tmp_path: Path) -> None:
    """One store for two spaces that call an architecture alike: each is paid for."""
    paid = []
    with open_store(tmp_path / "m.db") as store:
        for enumerable in (True, False, True):  # an option of the space
            evaluator = toy_evaluator(2, enumerable=enumerable)
            evaluator.candidates = evaluator.space.population(
                [evaluator.space.parse(text) for text in ("00", "01", "11")]
            )
            study = optuna.create_study(
                direction="maximize", sampler=toy_sampler(RandomSampler, evaluator)
            )
            paid.append(search(study, evaluator, store, 3))
    assert paid == [3, 3, 0]


@pytest.mark.parametrize("other", [{"seed": 1}, {"task": "another"}])
def test_another_seed_or_task_is_another_measurement(tmp_path: Path, other: Any) -> None:
    paid = []
    with open_store(tmp_path / "m.db") as store:
        for again in ({}, other, {}):
            evaluator = toy_evaluator(3)
            evaluator.task = again.get("task", evaluator.task)
            study = optuna.create_study(
                direction="maximize", sampler=toy_sampler(RandomSampler, evaluator)
            )
            paid.append(search(study, evaluator, store, 6, again.get("seed", 0)))
    assert paid == [6, 6, 0]


def test_the_pruner_stops_the_hopeless(run_search: Any) -> None:
    records = run_search(RandomSampler, toy_evaluator(), 40, pruner="median")
    stopped = [one for one in records if one.stopped is not None]
    whole = [one.score for one in records if one.stopped is None]
    assert 5 <= len(stopped) <= 35
    assert all(one.stopped < 10 and one.seconds < 1.5 for one in stopped)
    assert max(whole) == max(score_of(one) for one in records)  # the best was not among them


def score_of(record: TrialRecord) -> float:
    evaluator = toy_evaluator()
    return evaluator.evaluate(evaluator.space.parse(record.architecture), 1, 0).score


def test_a_pruned_search_is_resumed_to_the_same(run_search: Any) -> None:
    unbroken = run_search(PredictorSampler, toy_evaluator(), 25, pruner="median", folder="a")
    for budget in (9, 13, 25):
        resumed = run_search(PredictorSampler, toy_evaluator(), budget, pruner="median", folder="b")
    assert resumed == unbroken


SCRIPT = """
import os, random, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from search_toys import toy_evaluator, toy_sampler
from nasplatform.executors.store import open_store
from nasplatform.search import open_study, search
from nasplatform.search.predictor_sampler import PredictorSampler

def run(home, done):
    evaluator = toy_evaluator(8, log=str(home / "log"))
    sampler = toy_sampler(PredictorSampler, evaluator, batch=2)
    with open_study(home / "s.db", "s", sampler) as study, open_store(home / "m.db") as store:
        search(study, evaluator, store, 30, progress=lambda step: os.write(done, b"."))

def in_a_process_of_its_own(home, seconds=None, after=0):
    read, write = os.pipe()
    child = os.fork()
    if not child:
        run(home, write)
        os._exit(0)
    os.close(write)
    while after and os.read(read, 1):
        after -= 1
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(read)
    return status

unbroken, killed = Path(sys.argv[2]), Path(sys.argv[3])
assert in_a_process_of_its_own(unbroken) == 0
rng = random.Random(0)
for _ in range(10):
    in_a_process_of_its_own(killed, 0.1 * rng.random(), after=rng.randrange(1, 4))
assert in_a_process_of_its_own(killed) == 0
"""


@pytest.mark.slow
def test_killed_at_ten_random_moments_it_loses_and_repeats_nothing(tmp_path: Path) -> None:
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    unbroken.mkdir()
    killed.mkdir()
    toy = str(Path(__file__).parents[1] / "toy")
    command = [sys.executable, "-c", SCRIPT, toy, str(unbroken), str(killed)]
    subprocess.run(command, check=True, timeout=300)
    assert attributes(killed) == attributes(unbroken)
    paid = (killed / "log").read_text().split()
    assert len(set(paid)) == 30
    assert len(paid) - len(set(paid)) <= 1  # killed between measuring and writing it down


def attributes(home: Path) -> list[str]:
    with optuna_study(home / "s.db") as study:
        return [
            json.dumps([t.number, t.params, t.user_attrs, t.values]) for t in study.get_trials()
        ]


def optuna_study(file: Path) -> Any:
    return open_study(file, "s")


def test_a_trial_left_running_is_taken_up_with_its_number(tmp_path: Path) -> None:
    evaluator = toy_evaluator()
    distributions = evaluator.space.distributions()
    with (
        open_study(tmp_path / "s.db", "s", toy_sampler(RandomSampler, evaluator)) as study,
        open_store(tmp_path / "m.db") as store,
    ):
        search(study, evaluator, store, 3)
        left = study.ask(distributions)  # asked, then killed
        search(study, evaluator, store, 5)
        trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 5
    assert trials[3].params == left.params


def test_any_optuna_study_can_use_the_sampler(tmp_path: Path) -> None:
    evaluator = toy_evaluator()
    space = evaluator.space
    study = optuna.create_study(
        sampler=toy_sampler(PredictorSampler, evaluator), direction="minimize"
    )

    def objective(trial: optuna.Trial) -> float:
        params = {n: trial.suggest_categorical(n, d.choices) for n, d in kinds.items()}
        trial.suggest_float("learning_rate", 0.1, 1.0, log=True)
        return -evaluator.evaluate(space.from_params(params), 1, 0).score

    kinds: dict[str, Any] = space.distributions()
    study.optimize(objective, n_trials=40, n_jobs=2)
    assert len(study.trials) == 40
    assert -study.best_value >= sorted(evaluator.known_scores())[-3]
