"""Several processes at one study: nothing is chosen twice, nothing measured is measured again."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import postgresql
import pytest
import sqlalchemy as sa
import yaml
from optuna.trial import TrialState
from search_toys import toy_evaluator, toy_sampler

import nasplatform
from nasplatform.cli import main
from nasplatform.executors.store import open_store
from nasplatform.executors.store.database import engine_of
from nasplatform.search import TrialRecord, open_study, search
from nasplatform.search.random_sampler import RandomSampler

SEARCH = {
    "name": "shared",
    "space": {"name": "bits", "n": 8},
    "predictor": {"name": "ridge"},
    "search": {"sampler": {"name": "predictor", "initial": 8}, "budget": 30},
}


class Alike(RandomSampler[Any]):
    """Takes its time, so that both are asked before either answers, and answers alike."""

    def propose(self, number: int, history: Any) -> Any:
        time.sleep(0.3)
        return super().propose(0, history)


def at_once(work: Callable[[int], None], processes: int = 2) -> None:
    """Fork; all begin at the same moment. Forks need no second import of everything."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)

    def begin(number: int) -> None:
        barrier.wait(60)
        work(number)

    all_of_them = [context.Process(target=begin, args=(number,)) for number in range(processes)]
    for one in all_of_them:
        one.start()
    for one in all_of_them:
        one.join(120)
    assert [one.exitcode for one in all_of_them] == [0] * processes


@pytest.fixture
def postgres(postgresql_server: postgresql.Server) -> str:
    return postgresql_server.new_database()


SERVER = pytest.param("postgresql", marks=pytest.mark.postgres)


@pytest.fixture(params=["sqlite", "journal", SERVER])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres"))
    scheme = str(request.param)
    return f"{scheme}:///{tmp_path / 'shared'}"


def test_several_processes_make_the_tables_of_a_new_database_at_once(storage: str) -> None:
    """One makes them; the others wait, or try again where they began too early to see them."""

    def work(number: int) -> None:
        with open_study(storage, "s") as study, open_store(storage) as store:
            study.set_user_attr(str(number), True)
            store.release_all()

    at_once(work, 4)
    with open_study(storage, "s") as study, open_store(storage) as store:
        assert sorted(study.user_attrs) == list("0123")
        assert len(store) == 0


def test_two_processes_that_would_choose_alike_measure_nothing_twice(
    storage: str, tmp_path: Path
) -> None:
    evaluator = toy_evaluator(8, log=str(tmp_path / "log"), seconds=0.05)
    with open_study(storage, "s"):
        pass

    def work(number: int) -> None:
        sampler = Alike(evaluator.space, candidates=evaluator.candidates)
        with (
            open_study(storage, "s", sampler) as study,
            open_store(storage) as store,
        ):
            search(study, evaluator, store, 8, exclusive=False)

    at_once(work)
    paid = Counter((tmp_path / "log").read_text().split())
    assert set(paid.values()) == {1}
    assert len(paid) == 8
    with open_study(storage, "s") as study:
        given_up = [t for t in study.get_trials() if t.state == TrialState.FAIL]
    assert given_up  # they did choose alike
    assert all(TrialRecord.of(trial) is None for trial in given_up)


@pytest.mark.usefixtures("toy")
def test_a_search_in_a_journal_goes_on_and_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, url = tmp_path / "search.yaml", f"journal:///{tmp_path / 'shared.log'}"
    file.write_text(yaml.safe_dump({**SEARCH, "evaluator": {"name": "bits"}}))
    told = ["run", str(file), "--set", f"storage={url}", "--out", str(tmp_path / "run")]
    assert main([*told, "--set", "search.budget=12"]) == 0
    assert main([*told, "--set", "search.budget=15", "--resume"]) == 0
    assert len(nasplatform.read_runs(tmp_path / "run")) == 15
    assert main([*told, "--set", "seed=9", "--out", str(tmp_path / "other")]) == 2
    assert "seed is 0 there, 9 given" in capsys.readouterr().err
    assert main(["status", "--storage", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["searches"] == [{"name": SEARCH["name"], "budget": 15, "admitted": 15}]
    assert [one["state"] for one in found["workers"]] == ["left", "left"]
    assert (found["records"], found["leases"], found["dead"]) == (15, [], [])


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.usefixtures("toy")
def test_run_and_worker_share_a_search_through_postgresql(postgres: str, tmp_path: Path) -> None:
    log, file = tmp_path / "log", tmp_path / "search.yaml"
    evaluator = {"name": "bits", "log": str(log), "seconds": 0.1}
    file.write_text(yaml.safe_dump({**SEARCH, "evaluator": evaluator}))
    code = "import sys; from nasplatform.cli import main; sys.exit(main())"
    told = ["--set", f"storage={postgres}", "--out", str(tmp_path / "run"), "--json"]
    runner = [sys.executable, "-c", code, "run", str(file), *told]
    helper = [sys.executable, "-c", code, "worker", str(file), "--storage", postgres, "--json"]
    with (
        subprocess.Popen(runner, stdout=subprocess.PIPE, text=True) as first,
        subprocess.Popen(helper, stdout=subprocess.PIPE, text=True) as second,
    ):
        summary = json.loads(first.communicate(timeout=120)[0])
        made = json.loads(second.communicate(timeout=120)[0])
    assert (first.returncode, second.returncode) == (0, 0)
    paid = log.read_text().split()
    assert len(paid) == len(set(paid))
    assert summary["evaluations"] == len(paid) == 30
    assert 1 <= made["evaluations"] < len(paid)
    assert (tmp_path / "run" / "report.html").is_file()


def test_what_another_process_measured_is_not_measured_again(tmp_path: Path) -> None:
    evaluator = toy_evaluator(3, log=str(tmp_path / "log"))
    sampler = optuna.samplers.RandomSampler(seed=0)  # repeats itself: 8 strings, 6 classes
    url = f"sqlite:///{tmp_path / 's.db'}"
    with open_study(url, "s", sampler) as study:
        with open_store(url) as theirs:
            assert search(study, evaluator, theirs, 4, exclusive=False) == 4
        with open_store(url) as ours:
            assert search(study, evaluator, ours, 6, exclusive=False) == 2
        records = [TrialRecord.of(trial) for trial in study.get_trials()]
    paid = (tmp_path / "log").read_text().split()
    assert len(paid) == len(set(paid)) == 6
    for one in records:
        assert one is not None
        if one.repeats is not None:
            first = records[one.repeats]
            assert first is not None
            assert (first.hash, first.score, first.repeats) == (one.hash, one.score, None)


def test_a_trial_that_never_chose_keeps_nobody(tmp_path: Path) -> None:
    evaluator = toy_evaluator()
    sampler = toy_sampler(RandomSampler, evaluator)
    with open_study(tmp_path / "s.db", "s", sampler) as study, open_store(":memory:") as store:
        study.ask()  # killed before it chose
        begun = time.monotonic()
        assert search(study, evaluator, store, 5, exclusive=False) == 5
        assert time.monotonic() - begun < 10


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let a process count as dead after a second; forks inherit it."""
    monkeypatch.setattr("nasplatform.search.loop.LEASE", 1.0)
    return 1.0


def in_a_fork(storage: str, budget: int, **options: Any) -> multiprocessing.process.BaseProcess:
    """Search in another process that shares a storage."""
    evaluator = toy_evaluator(8, **options)

    def work() -> None:
        sampler = toy_sampler(RandomSampler, evaluator)
        with open_study(storage, "s", sampler) as study, open_store(storage) as store:
            search(study, evaluator, store, budget, exclusive=False)

    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    return process


def wait_for_running(storage: str) -> optuna.trial.FrozenTrial:
    """Return the trial whose measurement has begun."""
    names = toy_evaluator().space.distributions().keys()
    with open_study(storage, "s") as study:
        while True:
            for trial in study.get_trials(states=(TrialState.RUNNING,)):
                if names <= trial.params.keys():
                    time.sleep(0.3)  # from choosing to claiming
                    return trial
            time.sleep(0.02)


def test_the_trial_of_a_killed_worker_is_taken_up_by_another(
    storage: str, tmp_path: Path, short_leases: float
) -> None:
    log = tmp_path / "log"
    with open_study(storage, "s"), open_store(storage):
        pass
    dying = in_a_fork(storage, 6, seconds=60.0)
    left = wait_for_running(storage)
    dying.kill()
    dying.join(10)
    living = in_a_fork(storage, 6, log=str(log))
    living.join(60)
    assert living.exitcode == 0
    with open_study(storage, "s") as study, open_store(storage) as store:
        trials = study.get_trials()
        assert len(store) == 6
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 6
    assert trials[left.number].params == left.params
    paid = log.read_text().split()
    assert len(paid) == len(set(paid)) == 6
    assert paid.index(hash_of(left)) >= 1  # not before its lease ran out


def hash_of(trial: optuna.trial.FrozenTrial) -> str:
    return str(toy_evaluator().space.from_params(trial.params).hash)


def test_a_worker_that_wakes_up_late_changes_nothing(
    storage: str, tmp_path: Path, short_leases: float
) -> None:
    log = tmp_path / "log"
    with open_study(storage, "s"), open_store(storage):
        pass
    sleeping = in_a_fork(storage, 4, seconds=1.5, log=str(log))
    left = wait_for_running(storage)
    assert sleeping.pid is not None
    os.kill(sleeping.pid, signal.SIGSTOP)
    living = in_a_fork(storage, 4, log=str(log))
    living.join(60)
    with open_study(storage, "s") as study:
        before = [(t.number, t.state, t.user_attrs, t.values) for t in study.get_trials()]
    os.kill(sleeping.pid, signal.SIGCONT)
    sleeping.join(60)
    assert (living.exitcode, sleeping.exitcode) == (0, 0)
    with open_study(storage, "s") as study, open_store(storage) as store:
        after = [(t.number, t.state, t.user_attrs, t.values) for t in study.get_trials()]
        assert len(store) == 4
    assert after == before
    paid = Counter(log.read_text().split())
    assert paid.pop(hash_of(left)) == 2  # made twice, recorded once
    assert set(paid.values()) == {1}


def test_a_worker_that_froze_within_a_transaction_keeps_nobody(
    storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another takes the row that it holds: the server ends its transaction."""
    if not storage.startswith("postgresql"):
        pytest.skip("only a server outlives the process that holds a lock")
    with open_study(storage, "s"), open_store(storage):
        pass
    monkeypatch.setattr("nasplatform.executors.store.database._FROZEN", 1)
    frozen, living = engine_of(storage), engine_of(storage)
    held = sa.text("SELECT study_id FROM studies FOR UPDATE")
    with frozen.connect() as one, living.connect() as other:
        one.execute(held)
        other.execute(sa.text("SET lock_timeout = '10s'"))  # else a wait without end
        begun = time.monotonic()
        assert len(other.execute(held).all()) == 1
        assert 0.5 < time.monotonic() - begun < 10
        one.invalidate()
    frozen.dispose()
    living.dispose()


def test_living_workers_keep_their_trials(
    storage: str, tmp_path: Path, short_leases: float
) -> None:
    log = tmp_path / "log"
    with open_study(storage, "s"), open_store(storage):
        pass
    both = [in_a_fork(storage, 4, seconds=2.5, log=str(log)) for _ in range(2)]
    for one in both:
        one.join(60)
    assert [one.exitcode for one in both] == [0, 0]
    paid = Counter(log.read_text().split())
    assert set(paid.values()) == {1}  # measured for longer than a lease, yet by one alone
    assert len(paid) == 4


def test_waiting_for_others_is_quiet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short_leases: float
) -> None:
    """The trials are read a few times a second at most, less often the longer it takes."""
    url = f"sqlite:///{tmp_path / 's.db'}"
    evaluator = toy_evaluator()
    with open_study(url, "s"), open_store(url):
        pass
    other = in_a_fork(url, 1, seconds=3.0)
    wait_for_running(url)
    looks = []
    sampler = toy_sampler(RandomSampler, evaluator)
    with open_study(url, "s", sampler) as study, open_store(url) as store:
        read = study.get_trials
        monkeypatch.setattr(study, "get_trials", lambda **k: looks.append(1) or read(**k))
        assert search(study, evaluator, store, 1, exclusive=False) == 0
    other.join(30)
    assert 2 <= len(looks) <= 12
