"""Several processes at one study: nothing is chosen twice, nothing measured is measured again."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import postgresql
import pytest
import yaml
from optuna.trial import TrialState
from search_toys import toy_evaluator, toy_sampler

from nasplatform.executors.store import open_store
from nasplatform.search import TrialRecord, coordination, open_study, search
from nasplatform.search.coordination import Coordinator
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
        time.sleep(0.05)
        return super().propose(0, history)


def in_two_processes(work: Callable[[int], None]) -> None:
    """Fork twice; both begin at the same moment. Forks need no second import of everything."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)

    def begin(number: int) -> None:
        barrier.wait(60)
        work(number)

    both = [context.Process(target=begin, args=(number,)) for number in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(120)
    assert [one.exitcode for one in both] == [0, 0]


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    reason = postgresql.missing()
    if reason is not None:
        pytest.skip(reason)
    with postgresql.server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres"))
    return f"sqlite:///{tmp_path / 'shared.db'}"


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
            open_store(tmp_path / f"{number}.db") as store,
        ):
            search(study, evaluator, store, 20, exclusive=False)

    in_two_processes(work)
    paid = Counter((tmp_path / "log").read_text().split())
    assert set(paid.values()) == {1}
    assert 20 <= len(paid) <= 21  # the last two at once
    with open_study(storage, "s") as study:
        given_up = [t for t in study.get_trials() if t.state == TrialState.FAIL]
    assert given_up  # they did choose alike
    assert all(TrialRecord.of(trial) is None for trial in given_up)


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
    assert 30 <= summary["evaluations"] <= len(paid) <= 31
    assert 1 <= made["evaluations"] < len(paid)
    assert (tmp_path / "run" / "report.html").is_file()


def test_what_another_process_measured_is_not_measured_again(tmp_path: Path) -> None:
    evaluator = toy_evaluator(3, log=str(tmp_path / "log"))
    sampler = optuna.samplers.RandomSampler(seed=0)  # repeats itself: 8 strings, 6 classes
    with open_study(f"sqlite:///{tmp_path / 's.db'}", "s", sampler) as study:
        with open_store(tmp_path / "theirs.db") as theirs:
            search(study, evaluator, theirs, 4, exclusive=False)
        with open_store(tmp_path / "ours.db") as ours:
            search(study, evaluator, ours, 6, exclusive=False)
            assert len(ours) == 2
        records = [TrialRecord.of(trial) for trial in study.get_trials()]
    paid = (tmp_path / "log").read_text().split()
    assert len(paid) == len(set(paid)) == 6
    for one in records:
        assert one is not None
        if one.repeats is not None:
            first = records[one.repeats]
            assert first is not None
            assert (first.hash, first.score, first.repeats) == (one.hash, one.score, None)


def test_a_trial_that_never_chooses_is_waited_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordination, "_PATIENCE", 0.2)
    evaluator = toy_evaluator()
    distributions: Any = evaluator.space.distributions()
    sampler = toy_sampler(RandomSampler, evaluator)
    with open_study(tmp_path / "s.db", "s", sampler) as study:
        study.ask()  # killed before it chose
        coordinator = Coordinator(study, evaluator.space)
        waits = []
        for _ in range(2):
            trial = study.ask(distributions)
            begun = time.monotonic()
            assert coordinator.same_before(trial) is None
            waits.append(time.monotonic() - begun)
    assert waits[0] > 0.2 > waits[1]
