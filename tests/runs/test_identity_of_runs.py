"""What makes two searches one, what may grow, and executors named in a search file."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nasplatform.errors import ConfigError, RunError
from nasplatform.runs.driver import run, run_worker
from nasplatform.runs.resolved import ResolvedSearch
from nasplatform.search import open_study

pytestmark = pytest.mark.usefixtures("toy")
SEARCH: dict[str, Any] = {
    "name": "toy",
    "seed": 3,
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "predictor": {"name": "ridge"},
    "search": {"budget": 12, "sampler": {"name": "predictor", "initial": 5}},
}


def write(folder: Path, **changes: object) -> Path:
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump({**SEARCH, **changes}))
    return file


@pytest.fixture
def shared(tmp_path: Path) -> str:
    """A storage that holds the study of a finished search."""
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    run(write(tmp_path), tmp_path / "first", {"storage": storage})
    return storage


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 4}, r"seed is 3 there, 4 given"),
        ({"evaluator.unknown": True}, r"evaluator\.unknown is False there, True given"),
        ({"predictor.strength": 2.0}, r"predictor\.strength is 1\.0 there, 2\.0 given"),
        ({"search.sampler.initial": 6}, r"search\.sampler\.initial is 5 there, 6 given"),
        ({"search.constraints": {"max_params": 5}}, r"constraints.*max_params is not set there, 5"),
        ({"space.n": 9}, r"space\.n is 8 there, 9 given"),
    ],
)
@pytest.mark.parametrize("who", ["run", "worker"])
def test_another_search_of_that_name_is_refused_by_what_differs(
    tmp_path: Path, shared: str, who: str, changes: dict[str, Any], words: str
) -> None:
    file = write(tmp_path)
    start: dict[str, Callable[[], Any]] = {
        "run": lambda: run(file, tmp_path / "second", {**changes, "storage": shared}),
        "worker": lambda: run_worker(file, shared, changes),
    }
    with pytest.raises(RunError, match=rf"study 'toy' in sqlite.* is another search: .*{words}"):
        start[who]()
    with open_study(shared, "toy") as study:
        assert len(study.get_trials()) == 12


def test_two_processes_that_start_together_are_one_search_or_one_is_refused(
    tmp_path: Path,
) -> None:
    storage = f"sqlite:///{tmp_path / 'new.db'}"
    file = write(tmp_path, evaluator={"name": "bits", "seconds": 0.1})
    code = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = [
        sys.executable,
        "-c",
        code,
        "run",
        str(file),
        "--json",
        "--set",
        f"storage={storage}",
    ]
    workers = [
        subprocess.Popen(
            [*command, "--set", f"seed={seed}", "--out", str(tmp_path / str(seed))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (3, 4)
    ]
    said = [worker.communicate(timeout=120) for worker in workers]
    codes = [worker.returncode for worker in workers]
    assert sorted(codes) == [0, 2], said
    winner, loser = codes.index(0), codes.index(2)
    assert json.loads(said[winner][0])["evaluations"] == 12
    assert f"seed is {3 + winner} there, {3 + loser} given" in said[loser][1]


def test_a_study_that_no_search_made_is_left_alone(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    with open_study(storage, "toy") as study:
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(RunError, match=r"study 'toy' in sqlite.* was not made by a search"):
        run(write(tmp_path), tmp_path / "run", {"storage": storage})


def test_workers_may_stop_by_rules_of_their_own(tmp_path: Path, shared: str) -> None:
    assert run_worker(write(tmp_path), shared, {"search.budget": 15}) == 3
    assert run_worker(write(tmp_path), shared, {"search.target": 0.1}) == 0


def test_a_finished_run_goes_on_with_more_budget(tmp_path: Path) -> None:
    file = write(tmp_path)
    whole = run(file, tmp_path / "whole", {"search.budget": 20})
    short = run(file, tmp_path / "run")
    assert len(short.evaluations) == 12
    report = short.folder.report.stat().st_mtime_ns
    grown = run(file, tmp_path / "run", {"search.budget": 20}, resume=True)
    clock = ["started", "ended"]
    pd.testing.assert_frame_equal(
        grown.evaluations.drop(columns=clock), whole.evaluations.drop(columns=clock)
    )
    assert isinstance(grown.config, ResolvedSearch)
    assert grown.config.search.budget == 20
    assert grown.folder.report.stat().st_mtime_ns > report
    assert same_files(grown.folder.predictor, whole.folder.predictor)


def same_files(left: Path, right: Path) -> bool:
    names = sorted(path.name for path in left.iterdir())
    return names == sorted(path.name for path in right.iterdir()) and all(
        (left / name).read_bytes() == (right / name).read_bytes() for name in names
    )


def test_the_name_of_the_executor_is_no_part_of_the_search(tmp_path: Path) -> None:
    file = write(tmp_path)
    log = tmp_path / "log"
    told = {"evaluator.log": str(log)}
    run(file, tmp_path / "run", {**told, "search.budget": 6})
    processes = {"executor": {"name": "process", "workers": 2}, "search.budget": 12}
    done = run(file, tmp_path / "run", {**told, **processes}, resume=True)
    assert isinstance(done.config, ResolvedSearch)
    assert done.config.executor.options["workers"] == 2
    assert done.evaluations["hash"].nunique() == 12
    paid = log.read_text().split()
    assert len(paid) == len(set(paid)) == 12


def test_a_worker_with_processes_of_its_own(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    processes = {"executor": {"name": "process", "workers": 2}}
    begun = run(write(tmp_path), tmp_path / "run", {"storage": storage, "search.budget": 6})
    assert len(begun.evaluations) == 6
    assert run_worker(write(tmp_path), storage, processes) == 6
    done = run(write(tmp_path), tmp_path / "run", {"storage": storage}, resume=True)
    assert len(done.evaluations) == 12


def test_a_worker_helps_nobody_who_has_not_begun(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    with pytest.raises(RunError, match=r"nobody has started a search 'toy' in sqlite"):
        run_worker(write(tmp_path), storage)
    run(write(tmp_path), tmp_path / "run", {"storage": storage})
    with pytest.raises(RunError, match=r"a search 'toi' in .*did you mean 'toy'"):
        run_worker(write(tmp_path, name="toi"), storage)


def test_nothing_is_resumed_where_nothing_stands(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"run: no run stands here that could go on"):
        run(write(tmp_path), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        ({"name": "proces"}, r"search\.yaml:\d+: executor\.name: .*did you mean 'process'"),
        ({"name": "process", "worker": 2}, r"executor\.worker: .*did you mean 'workers'"),
        ({"name": "process", "workers": 0}, r"executor\.workers: .*at least 1"),
        ({"name": "inline", "workers": 2}, r"executor\.workers: unknown key"),
    ],
)
def test_executors_that_cannot_be(tmp_path: Path, executor: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(write(tmp_path, executor=executor), tmp_path / "run")


def test_measurements_of_another_run_are_taken_over(tmp_path: Path) -> None:
    first = run(write(tmp_path), tmp_path / "first")
    file = write(tmp_path, seed=4)
    again = {"search.warm_start": str(tmp_path / "first"), "search.budget": 16}
    warm = run(file, tmp_path / "warm", again)
    known, found = first.evaluations, warm.evaluations
    taken = found.sort_values("number").head(12)
    assert taken["hash"].tolist() == known.sort_values("number")["hash"].tolist()
    assert taken["score"].tolist() == known.sort_values("number")["score"].tolist()
    assert (taken["source"] == "enqueued").all()
    assert found["hash"].nunique() == 16
    assert (found["source"] == "initial").sum() == 0  # there are labels to learn from
    grown = {**again, "search.budget": 18}
    assert run(file, tmp_path / "warm", grown, resume=True).evaluations["hash"].nunique() == 18


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search.budget": 12}, r"12 measurements of .*first count in the budget of 12"),
        ({"space.n": 9}, r"first: its measurements are of another task: space\.n is 8 there, 9"),
        ({"search.warm_start": "nowhere"}, r"warm_start: nowhere: no run stands here"),
    ],
)
def test_measurements_that_cannot_be_taken_over(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    run(write(tmp_path), tmp_path / "first")
    wanted = {"search.warm_start": str(tmp_path / "first"), "search.budget": 16, **changes}
    with pytest.raises(ConfigError, match=words):
        run(write(tmp_path), tmp_path / "warm", wanted)
    assert not (tmp_path / "warm").exists()
