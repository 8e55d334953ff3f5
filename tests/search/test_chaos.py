"""Many workers at one PostgreSQL, and all that may befall them: every measurement counts once.

``make chaos`` plays the same at length (CHAOS=10).
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import postgresql
import pytest
from optuna.trial import TrialState
from search_toys import toy_evaluator, toy_sampler

from nasplatform.errors import EvaluationError, RunError
from nasplatform.executors.store import Unsent, open_store
from nasplatform.executors.store.status import status_of
from nasplatform.search import TrialRecord, open_study, search
from nasplatform.search.random_sampler import RandomSampler
from nasplatform.search.requeue import requeue

pytestmark = pytest.mark.postgres
SCALE = int(os.environ.get("CHAOS", "1"))
_FORK = multiprocessing.get_context("fork")


@pytest.fixture
def storage(postgresql_server: postgresql.Server) -> str:
    return postgresql_server.new_database()


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process count as dead after a second; forks inherit it."""
    monkeypatch.setattr("nasplatform.search.loop.LEASE", 1.0)


def worker(
    storage: str, budget: int, *, n: int = 8, unsent: Path | None = None, **options: Any
) -> BaseProcess:
    """Start a process that opens everything anew and searches to the end."""

    def work() -> None:
        evaluator = toy_evaluator(n, **options)
        sampler = toy_sampler(RandomSampler, evaluator, seed=os.getpid())
        kept = None if unsent is None else Unsent(unsent)
        with open_study(storage, "s", sampler) as study, open_store(storage) as store:
            search(study, evaluator, store, budget, exclusive=False, unsent=kept)

    process = _FORK.Process(target=work, daemon=True)
    process.start()
    return process


def until(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def ended(storage: str, budget: int) -> list[TrialRecord]:
    """Check the books of a search that has ended; return the records that count."""
    with open_study(storage, "s") as study, open_store(storage) as store:
        trials = study.get_trials(deepcopy=False)
        assert len(store) == budget
    assert [t.number for t in trials if not t.state.is_finished()] == []
    records = [record for t in trials if (record := TrialRecord.of(t)) is not None]
    first = [record for record in records if record.repeats is None]
    assert len({record.hash for record in records}) == budget
    assert len(first) == len({record.hash for record in first}) == budget
    return first


def joined(processes: list[BaseProcess], seconds: float = 120.0) -> list[int | None]:
    for process in processes:
        process.join(seconds)
    return [process.exitcode for process in processes]


def test_sixteen_workers_start_together_on_an_empty_database_and_keep_the_budget(
    storage: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    workers = [worker(storage, 40, log=str(log)) for _ in range(16)]
    assert joined(workers) == [0] * 16
    ended(storage, 40)
    paid = log.read_text().split()
    assert len(paid) == len(set(paid)) == 40


def test_the_database_restarts_and_cuts_connections_in_mid_run(
    storage: str, postgresql_server: postgresql.Server, tmp_path: Path
) -> None:
    log, budget = tmp_path / "log", 40 * SCALE
    slow = {"log": str(log), "seconds": 0.1, "n": 10, "unsent": tmp_path / "unsent"}
    workers = [worker(storage, budget, **slow) for _ in range(3)]
    for part in (0.2, 0.4, 0.6):
        until(lambda part=part: log.exists() and len(log.read_text().split()) >= part * budget)
        if part == 0.4:
            with postgresql_server.away():
                time.sleep(1.0)
        else:
            postgresql_server.cut_connections(storage)
    assert joined(workers) == [0] * 3
    ended(storage, budget)
    paid = Counter(log.read_text().split())
    assert set(paid.values()) == {1}
    assert list(Unsent(tmp_path / "unsent")) == []


@pytest.mark.slow
def test_what_was_paid_for_while_the_database_was_away_survives_a_kill(
    storage: str, postgresql_server: postgresql.Server, tmp_path: Path
) -> None:
    log, kept = tmp_path / "log", tmp_path / "unsent"
    dying = worker(storage, 3, log=str(log), seconds=1.5, unsent=kept)
    until(lambda: _measuring(storage))
    with postgresql_server.away():
        until(lambda: list(Unsent(kept)))
        dying.kill()
    dying.join(10)
    paid_before = log.read_text().split()
    assert len(paid_before) == 1
    living = worker(storage, 3, log=str(log), unsent=kept)
    assert joined([living], 150) == [0]
    ended(storage, 3)
    assert log.read_text().split().count(paid_before[0]) == 1
    assert list(Unsent(kept)) == []


def _measuring(storage: str) -> bool:
    """Return whether a measurement was claimed and admitted: it is being made."""
    looking = status_of(storage)
    try:
        found = looking.look()
    except RunError:  # no tables yet
        return False
    finally:
        looking.close()
    return bool(found["leases"]) and bool(found["searches"][0]["admitted"])


@pytest.mark.slow
def test_workers_that_are_killed_at_random_lose_nothing(
    storage: str, short_leases: None, tmp_path: Path
) -> None:
    """The whole space is the budget, so that the best is the truth of the table."""
    n, budget = 6, 36
    log, draw = tmp_path / "log", random.Random(0)
    truth = max(toy_evaluator(n).known_scores())  # type: ignore[type-var]  # known here
    begin: Callable[[], BaseProcess] = lambda: worker(  # noqa: E731
        storage, budget, n=n, log=str(log), seconds=0.15
    )
    workers = [begin() for _ in range(4)]
    for _ in range(5 * SCALE):
        time.sleep(draw.uniform(0.2, 0.6))
        victim = draw.randrange(len(workers))
        if workers[victim].is_alive():
            os.kill(workers[victim].pid or 0, signal.SIGKILL)
            workers[victim].join(10)
            workers[victim] = begin()
    codes = joined(workers)
    assert set(codes) <= {0, -signal.SIGKILL}
    assert 0 in codes
    best = max(record.score or -np.inf for record in ended(storage, budget))
    assert best == pytest.approx(truth)


def test_a_mistake_in_the_evaluator_ends_all_and_is_mended_by_requeue(
    storage: str, short_leases: None, tmp_path: Path
) -> None:
    evaluator = toy_evaluator(8, bug=True)
    sampler = toy_sampler(RandomSampler, evaluator)
    with open_study(storage, "s", sampler) as study, open_store(storage) as store:
        for _ in range(2):
            with pytest.raises(EvaluationError, match="a mistake in the evaluator") as broke:
                search(study, evaluator, store, 5, exclusive=False)
            assert any("Traceback" in note for note in broke.value.__notes__)
    assert requeue(storage) >= 1
    assert joined([worker(storage, 5)]) == [0]
    ended(storage, 5)


def test_what_died_is_begun_again_after_requeue_though_the_budget_is_spent(
    storage: str, tmp_path: Path
) -> None:
    """Its connection was lost as often as is tried; then it is measured after all."""
    flaky = tmp_path / "lost"
    flaky.write_text("one\ntwo\nthree\n")
    assert joined([worker(storage, 4, flaky=str(flaky))]) == [0]
    failed = [record for record in ended(storage, 4) if record.error is not None]
    assert ["three" in str(record.error) for record in failed] == [True]
    assert requeue(storage, "fatal") == 0
    assert requeue(storage) == 1
    assert joined([worker(storage, 4)]) == [0]
    with open_study(storage, "s") as study:
        records = [r for t in study.get_trials() if (r := TrialRecord.of(t)) is not None]
    assert [r.hash for r in records if r.hash == failed[0].hash] == [failed[0].hash] * 2
    assert records[-1].score is not None
    assert len({record.hash for record in records}) == 4


def test_a_full_disk_is_tried_again_and_then_dead_until_there_is_room(storage: str) -> None:
    """What really writes to a full disk, three times for each architecture."""
    assert joined([worker(storage, 3, writes="/dev/full")]) == [0]
    failed = ended(storage, 3)
    assert all("No space left on device" in str(record.error) for record in failed)
    assert requeue(storage, "transient") == 3
    assert joined([worker(storage, 3)]) == [0]
    with open_study(storage, "s") as study:
        assert len([t for t in study.get_trials() if t.state == TrialState.COMPLETE]) == 3


def test_what_dead_workers_were_admitted_for_does_not_keep_the_budget_from_being_spent(
    storage: str, short_leases: None
) -> None:
    with open_store(storage) as store:
        for name in ("11111111", "no architecture of anybody's trial"):
            assert store.admit("s", name, 4)
    assert joined([worker(storage, 4)]) == [0]
    ended(storage, 4)
