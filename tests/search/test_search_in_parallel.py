"""Several measurements in flight: worker processes under one search, and what breaks on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.samplers import RandomSampler as OptunaRandom
from optuna.trial import TrialState
from search_toys import SAMPLERS, toy_evaluator, toy_sampler

from nasplatform.errors import EvaluationError
from nasplatform.evaluators.base import Evaluation
from nasplatform.executors import EvaluatorSpec, Executor
from nasplatform.executors.inline import InlineOptions
from nasplatform.executors.measure import measure
from nasplatform.executors.process import ProcessExecutor, ProcessOptions
from nasplatform.executors.store import open_store
from nasplatform.search import TrialRecord, open_study, search
from nasplatform.search.random_sampler import RandomSampler


class Shuffled(Executor):
    """Three threads; of three requests in a row the last one is done first."""

    name = "shuffled"
    Options = InlineOptions
    capacity = 3

    def __init__(self, evaluator: Any) -> None:
        super().__init__(InlineOptions())
        self._made = {EvaluatorSpec.of(evaluator).key: evaluator}
        self._pool = ThreadPoolExecutor(self.capacity)
        self._delays = cycle([0.2, 0.1, 0.0])
        self.running = 0
        self.most = 0

    def submit(self, request: Any, report: Any = None) -> Future[Evaluation]:
        self.running += 1
        self.most = max(self.most, self.running)
        return self._pool.submit(self._work, request, report, next(self._delays))

    def _work(self, request: Any, report: Any, delay: float) -> Evaluation:
        time.sleep(delay)
        found = measure(request, self._made, report)
        self.running -= 1
        return found

    def close(self) -> None:
        self._pool.shutdown()


def searched(
    kind: Any, home: Path, evaluator: Any, executor: Executor, budget: int, **told: Any
) -> list[optuna.trial.FrozenTrial]:
    sampler = kind if isinstance(kind, OptunaRandom) else toy_sampler(kind, evaluator)
    with open_study(home / "s.db", "s", sampler) as study, open_store(home / "m.db") as store:
        search(study, evaluator, store, budget, executor=executor, **told)
        return study.get_trials()


@pytest.mark.parametrize("kind", SAMPLERS, ids=lambda kind: kind.name)
def test_what_is_in_flight_is_not_proposed_again(kind: Any, tmp_path: Path) -> None:
    evaluator = toy_evaluator(log=str(tmp_path / "log"))
    with Shuffled(evaluator) as executor:
        trials = searched(kind, tmp_path, evaluator, executor, 16)
        assert executor.most == 3
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 16
    paid = Counter((tmp_path / "log").read_text().split())
    assert len(paid) == 16
    assert set(paid.values()) == {1}
    ended = [trial.datetime_complete for trial in trials]
    assert ended != sorted(ended, key=lambda t: t.timestamp() if t else 0.0)


def test_the_budget_is_exact_though_a_sampler_repeats_itself(tmp_path: Path) -> None:
    evaluator = toy_evaluator(3, log=str(tmp_path / "log"))
    with Shuffled(evaluator) as executor:
        trials = searched(OptunaRandom(seed=0), tmp_path, evaluator, executor, 5)
    assert len((tmp_path / "log").read_text().split()) == 5
    records = [TrialRecord.of(trial) for trial in trials]
    assert {one.hash for one in records if one and one.repeats is None} == set(
        (tmp_path / "log").read_text().split()
    )


def test_a_target_ends_it_when_all_in_flight_have_landed(tmp_path: Path) -> None:
    evaluator = toy_evaluator()
    with Shuffled(evaluator) as executor:
        trials = searched(RandomSampler, tmp_path, evaluator, executor, 100, target=0.6)
    assert all(trial.state == TrialState.COMPLETE for trial in trials)
    assert len(trials) < 100
    assert max(trial.values[0] for trial in trials) >= 0.6


@pytest.mark.usefixtures("toy")
def test_worker_processes_measure_what_this_process_would(tmp_path: Path, toy: Path) -> None:
    evaluator = toy_evaluator(log=str(tmp_path / "log"))
    (tmp_path / "inline").mkdir()
    with ProcessExecutor(ProcessOptions(workers=2)) as executor:
        trials = searched(RandomSampler, tmp_path, evaluator, executor, 12)
    alone = run_alone(tmp_path / "inline")
    assert {hash_and_score(trial) for trial in trials} == {hash_and_score(t) for t in alone}


def run_alone(home: Path) -> list[optuna.trial.FrozenTrial]:
    evaluator = toy_evaluator()
    sampler = toy_sampler(RandomSampler, evaluator)
    with open_study(home / "s.db", "s", sampler) as study, open_store(home / "m.db") as store:
        search(study, evaluator, store, 12)
        return study.get_trials()


def hash_and_score(trial: optuna.trial.FrozenTrial) -> tuple[str, float | None]:
    record = TrialRecord.of(trial)
    assert record is not None
    return record.hash, record.score


def test_a_lost_connection_is_tried_again(run_search: Any, tmp_path: Path) -> None:
    flaky = tmp_path / "flaky"
    flaky.write_text("first\nsecond")
    records = run_search(RandomSampler, toy_evaluator(flaky=str(flaky)), 5)
    assert [one.error for one in records] == [None] * 5
    flaky.write_text("first\nsecond\nthird")
    records = run_search(RandomSampler, toy_evaluator(flaky=str(flaky)), 5, folder="other")
    assert [one.error for one in records] == ["ConnectionError: third", None, None, None, None]


def test_a_mistake_in_the_evaluator_ends_the_search_and_is_shown(tmp_path: Path) -> None:
    broken, mended = toy_evaluator(bug=True), toy_evaluator()
    sampler = toy_sampler(RandomSampler, mended)
    with open_study(tmp_path / "s.db", "s", sampler) as study, open_store(":memory:") as store:
        with pytest.raises(EvaluationError, match=r"'bits' broke on [01]{8}: KeyError") as ended:
            search(study, broken, store, 3)
        assert "Traceback" in ended.value.__notes__[0]
        assert len(store) == 1  # told as dead, with the traceback
        search(study, mended, store, 3)
        assert [trial.state for trial in study.get_trials()] == [TrialState.COMPLETE] * 3


SCRIPT = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
from search_toys import toy_evaluator, toy_sampler
from nasplatform.executors.process import ProcessExecutor, ProcessOptions
from nasplatform.executors.store import open_store
from nasplatform.search import open_study, search
from nasplatform.search.random_sampler import RandomSampler

home = Path(sys.argv[1])
evaluator = toy_evaluator(8, log=str(home / "log"), seconds=0.3)
sampler = toy_sampler(RandomSampler, evaluator)
with open_study(home / "s.db", "s", sampler) as study, open_store(home / "m.db") as store:
    with ProcessExecutor(ProcessOptions(workers=2)) as executor:
        try:
            search(study, evaluator, store, int(sys.argv[3]), executor=executor)
        except KeyboardInterrupt:
            print("interrupted")
"""


@pytest.mark.parametrize(
    "how", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)]
)
def test_broken_off_with_two_in_flight_it_goes_on(
    tmp_path: Path, toy: Path, how: signal.Signals
) -> None:
    paths = f"{toy}:{toy / 'installed'}"
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), paths]
    log = tmp_path / "log"
    with subprocess.Popen(
        [*command, "12"], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        while first.poll() is None and (not log.exists() or len(log.read_text().split()) < 4):
            time.sleep(0.02)
        os.killpg(first.pid, how)
        said = first.communicate(timeout=60)[0]
    assert said == ("interrupted\n" if how == signal.SIGINT else "")
    with open_study(tmp_path / "s.db", "s") as study:
        left = study.get_trials(states=(TrialState.RUNNING,))
    assert 1 <= len(left) <= 2  # one of them may just have ended
    subprocess.run([*command, "12"], check=True, timeout=120)
    with open_study(tmp_path / "s.db", "s") as study:
        trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 12
    # one may have been broken off while it chose: what it had chosen is kept
    assert all(one.params.items() <= trials[one.number].params.items() for one in left)
    paid = Counter(log.read_text().split())
    assert len(paid) == 12
    assert sum(paid.values()) <= 14  # what was in flight may have been made twice
