"""A run from a search file: what it leaves, and that a kill costs nothing."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import nasplatform
from nasplatform.errors import ConfigError, RunError
from nasplatform.runs import frames
from nasplatform.runs.driver import run
from nasplatform.runs.events import Event
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.resolved import ResolvedSearch, dump_resolved
from nasplatform.runs.run import Run
from nasplatform.visualization.searches import best_of_run

pytestmark = pytest.mark.usefixtures("toy")
SEARCH = {
    "name": "toy",
    "seed": 3,
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "predictor": {"name": "ridge"},
    "search": {"sampler": {"name": "predictor", "initial": 5}, "budget": 20},
}


def write(folder: Path, **changes: object) -> Path:
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump({**SEARCH, **changes}))
    return file


def same(left: pd.DataFrame, right: pd.DataFrame) -> None:
    clock = ["started", "ended"]
    pd.testing.assert_frame_equal(left.drop(columns=clock), right.drop(columns=clock))


def test_run_leaves_what_the_design_names(tmp_path: Path) -> None:
    events: list[Event] = []
    done = run(write(tmp_path), tmp_path / "run", watch=events.append)
    assert {p.name for p in (tmp_path / "run").iterdir()} >= {
        "resolved.yaml", "study.db", "evaluations.parquet", "predictor", "report.html"
    }  # fmt: skip
    assert len(done.evaluations) == done.evaluations["hash"].nunique() == 20
    assert done.best["score"] == done.evaluations["score"].max()
    assert [e.done for e in events if e.phase == "search"] == list(range(21))
    assert {e.phase for e in events} == {"setup", "search", "predictor", "report"}
    fitted = [e.words for e in events if e.phase == "predictor"]
    assert fitted == ["fitting ridge to all 20 labels", f"kept in {tmp_path / 'run' / 'predictor'}"]
    assert {path.name for path in tmp_path.iterdir()} == {"search.yaml", "run"}  # no lock beside it
    assert list(done.evaluations["source"][:5]) == ["initial"] * 5
    assert (done.evaluations["source"][5:] == "predicted").all()


def test_resolved_search_is_a_search_file_with_the_same_result(tmp_path: Path) -> None:
    first = run(write(tmp_path), tmp_path / "first")
    second = run(tmp_path / "first" / "resolved.yaml", tmp_path / "second")
    same(first.evaluations, second.evaluations)
    assert first.config == second.config


def test_seed_decides(tmp_path: Path) -> None:
    file = write(tmp_path)
    first = run(file, tmp_path / "a").evaluations
    same(first, run(file, tmp_path / "b").evaluations)
    other = run(file, tmp_path / "c", {"seed": 4}).evaluations
    assert list(first["hash"]) != list(other["hash"])


@pytest.mark.parametrize("after", [1, 6, 20])
def test_killed_run_resumes_to_the_same_and_pays_once(tmp_path: Path, after: int) -> None:
    whole = run(write(tmp_path), tmp_path / "whole")
    log = tmp_path / "log"
    file = write(tmp_path, evaluator={"name": "bits", "log": str(log), "kill_after": after})
    code = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", str(file), "--out", str(tmp_path / "run")]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    resumed = run(file, tmp_path / "run", resume=True)
    same(whole.evaluations, resumed.evaluations)
    paid = log.read_text().splitlines()
    # the measurement that the kill interrupted was not kept; nothing else is made twice
    assert len(paid) <= 21
    assert len(set(paid)) == 20


def test_stopped_between_phases_goes_on(tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.phase == "report":
            raise KeyboardInterrupt

    file = write(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(file, tmp_path / "run", watch=stop)
    assert not (tmp_path / "run" / "report.html").exists()
    assert nasplatform.list_runs(tmp_path / "run")["state"].tolist() == ["stages"]
    run(file, tmp_path / "run", resume=True)
    assert nasplatform.list_runs(tmp_path / "run")["state"].tolist() == ["finished"]


def test_folder_in_the_way(tmp_path: Path) -> None:
    file = write(tmp_path)
    run(file, tmp_path / "run")
    before = (tmp_path / "run" / "report.html").read_bytes()
    with pytest.raises(RunError, match="resume=True"):
        run(file, tmp_path / "run")
    with pytest.raises(RunError, match=r"another search: seed is 3 there, 4 given; "):
        run(file, tmp_path / "run", {"seed": 4}, resume=True)
    assert (tmp_path / "run" / "report.html").read_bytes() == before
    assert run(file, tmp_path / "run", {"seed": 4}, force=True).config.seed == 4


def test_force_removes_runs_only(tmp_path: Path) -> None:
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("years of work")
    with pytest.raises(RunError, match="other files"):
        run(write(tmp_path), tmp_path / "run", force=True)
    assert precious.read_text() == "years of work"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"serch": {}}, r"search.yaml:\d+: serch: unknown key 'serch'; did you mean 'search'"),
        ({"seed": -1}, r"search.yaml:\d+: seed: .*at least 0"),
        ({"predictor": {"name": "ridg"}}, r"unknown predictor 'ridg'; did you mean 'ridge'"),
        ({"predictor": {"name": "ridge", "strenght": 1}}, r"predictor.strenght: .*'strength'"),
        ({"space": {"name": "bits", "n": 1}}, r"n: .*at least 2"),
        ({"search": {"budget": 200}}, r"200 evaluations asked for, .* 136 architectures"),
        ({"search": {"bugdet": 20}}, r"search.yaml:\d+: search.bugdet: .*did you mean 'budget'"),
        (
            {"search": {"budget": 20, "sampler": {"name": "predictor", "inital": 3}}},
            r"search.yaml:\d+: search.sampler.inital: .*did you mean 'initial'",
        ),
        (
            {"search": {"budget": 3, "sampler": {"name": "tpe", "initial": 4}}},
            r"search.yaml:\d+: search.budget: 3 evaluations do not pay for the 4 initial ones",
        ),
        (
            {"search": {"sampler": "tpe", "budget": 9, "initial": 4}},
            r"search.yaml:\d+: search.sampler: .*beside its name: sampler: {name: tpe, initial: 4}",
        ),
        (
            {"search": {"budget": 9, "initial": 4}},
            r"search.yaml:\d+: search.initial: .* sampler: {name: predictor, initial: 4}",
        ),
        (
            {"search": {"sampler": {"name": "rando"}, "budget": 1}},
            r"search.yaml:\d+: search.sampler.name: .*did you mean 'random'",
        ),
        (
            {"search": {"budget": 9, "enqueue": ["00000001", "0000012"]}},
            r"search.yaml:\d+: search.enqueue.1: expected 8 bits, found '0000012'",
        ),
        (
            {"search": {"budget": 3, "enqueue": ["00000001", "00000011", "00000111", "00001111"]}},
            r"search.yaml:\d+: search.enqueue: 4 architectures, the budget pays for 3",
        ),
        (
            {"network": {"name": "resnet"}},
            r"search.yaml:\d+: network: excludes 'evaluator': a file starts from a network or a se",
        ),
        ({"predictor": None}, r"needs a predictor"),
        ({"stages": [{"name": "disout"}]}, r"needs data"),
        (
            {"task": {"dataset": "digits"}, "stages": [{"name": "disout", "block": 0}]},
            r"search.yaml:\d+: stages.0.block: .*at least 1",
        ),
        ({"task": {"dataset": "digit"}}, r"unknown dataset 'digit'; did you mean 'digits'"),
        ({"evaluator": {"name": "table", "table": "cells-digit"}}, r"unknown table"),
        ({"storage": "nonsense://x"}, r"storage 'nonsense://x'"),
        ({"name": "../up"}, r"name: "),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    file = write(tmp_path, **changes)
    with pytest.raises(ConfigError, match=words) as caught:
        run(file, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert str(file) in str(caught.value) or "storage" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_frames_join_runs(tmp_path: Path) -> None:
    file = write(tmp_path)
    for seed in (0, 1):
        run(file, tmp_path / "runs" / f"s{seed}", {"seed": seed})
    frame = nasplatform.read_runs(tmp_path / "runs")
    assert frame.groupby("run")["hash"].nunique().to_dict() == {"s0": 20, "s1": 20}
    assert (frame["params"] >= 1).all()
    assert set(frame.columns[:5]) == {"run", "search", "sampler", "predictor", "run_seed"}
    with pytest.raises(RunError, match="no run stands"):
        nasplatform.read_runs(tmp_path / "nothing")


def test_saved_predictor_answers(tmp_path: Path) -> None:
    from nasplatform.runs.saved import load_predictor

    done = run(write(tmp_path), tmp_path / "run")
    predictor, space = load_predictor(tmp_path / "run")
    assert space.describe() == {"name": "bits", "n": 8, "enumerable": True}
    labels = done.evaluations
    graphs = space.graphs([space.parse(text) for text in labels["architecture"]])
    mean = predictor.predict(graphs).mean
    assert np.corrcoef(mean, labels["score"])[0, 1] > 0.9


def test_another_process_holds_the_run(tmp_path: Path) -> None:
    file = write(tmp_path)
    run(file, tmp_path / "run")

    def second(event: Event) -> None:
        with pytest.raises(RunError, match="another process"):
            run(file, tmp_path / "run", force=True)

    (tmp_path / "run" / "report.html").unlink()
    run(file, tmp_path / "run", resume=True, watch=lambda e: second(e) if e.done else None)


def resolved(changes: dict[str, Any]) -> ResolvedSearch:
    without = {key: value for key, value in SEARCH.items() if key != "predictor"}
    provenance = {"measured": "ones", "versions": {}}
    return ResolvedSearch.model_validate({**without, "provenance": provenance, **changes})


STAGES = [{"name": "train", "recipe": {"epochs": epochs}} for epochs in (1, 2)]


@pytest.mark.parametrize(
    ("known", "given", "words"),
    [
        ({"stages": STAGES}, {"stages": [STAGES[0], {**STAGES[1], "recipe": {"epochs": 9}}]},
         "stages.1.recipe.epochs is 2 there, 9 given"),
        ({"stages": STAGES}, {"stages": STAGES[:1]}, "stages is [train, train] there, [train]"),
        ({"stages": STAGES}, {}, "stages is [train, train] there, [] given"),
        ({"predictor": {"name": "gp", "steps": 60}}, {}, "predictor is gp there, not set given"),
    ],
)  # fmt: skip
def test_another_search_is_told_by_one_key(
    tmp_path: Path, known: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.claimed(resolved(known)):
        finish(folder, len(known.get("stages", ())))
    with pytest.raises(RunError) as caught, folder.claimed(resolved(given), resume=True):
        pass
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 250 + len(str(tmp_path))


@pytest.mark.parametrize("given", [[], STAGES[:1], [STAGES[0], {"name": "disout"}]])
def test_stages_that_left_no_result_may_be_others(tmp_path: Path, given: list[Any]) -> None:
    folder = RunFolder(tmp_path / "run")
    with folder.claimed(resolved({"stages": STAGES})):
        finish(folder, len(given[:1]))
    with folder.claimed(resolved({"stages": given} if given else {}), resume=True):
        known = dump_resolved(folder.read()).get("stages", [])
        assert [stage["name"] for stage in known] == [stage["name"] for stage in given]


def finish(folder: RunFolder, stages: int) -> None:
    """Leave what finished stages called ``train`` leave."""
    for index in range(stages):
        home = folder.models / f"{index}-train"
        home.mkdir(parents=True)
        (home / "record.json").touch()


def test_a_folder_that_was_only_claimed_is_nobodys(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()  # killed before the search was written
    assert len(run(write(tmp_path), tmp_path / "run").evaluations) == 20


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"", None])
def test_a_damaged_study_of_a_finished_run_is_noticed(
    tmp_path: Path, content: bytes | None
) -> None:
    file = write(tmp_path)
    run(file, tmp_path / "run")
    study = tmp_path / "run" / "study.db"
    study.unlink() if content is None else study.write_bytes(content)
    with pytest.raises(RunError, match=r"study\.db: (not a study|holds no trial|is missing)"):
        run(file, tmp_path / "run", resume=True)


def test_open_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"resolved\.yaml is missing"):
        Run(tmp_path)


def test_workers_share_a_search(tmp_path: Path) -> None:
    log, storage = tmp_path / "log", f"sqlite:///{tmp_path / 'shared.db'}"
    file = write(tmp_path, evaluator={"name": "bits", "log": str(log), "seconds": 0.05})
    code = "import sys; from nasplatform.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "worker", str(file), "--storage", storage, "--json"]
    run(file, tmp_path / "run", {"storage": storage, "search.budget": 6})
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as helper:
        while len(log.read_text().split()) == 6 and helper.poll() is None:
            time.sleep(0.02)  # the helper is at work; now there are two
        done = run(file, tmp_path / "run", {"storage": storage}, resume=True)
        made, _ = helper.communicate()
    assert helper.returncode == 0
    paid = log.read_text().split()
    assert 1 <= json.loads(made)["evaluations"] < len(paid)
    assert 20 <= done.evaluations["hash"].nunique() <= len(set(paid)) <= 21  # the last at once


def test_what_breaks_a_limit_or_was_given_up_is_never_the_best() -> None:
    found = pd.DataFrame(
        {
            "number": [0, 1, 2],
            "hash": ["a", "b", "c"],
            "score": [0.9, 0.5, 0.6],
            "feasible": [False, True, True],
        }
    )
    best = frames.best_row(found)
    assert best is not None
    assert best["hash"] == "c"
    assert np.array_equal(best_of_run(found), [np.nan, 0.5, 0.6], equal_nan=True)
