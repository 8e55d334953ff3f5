"""The epochs of a run: of its search and of its stages, finished, live and half-written."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import postgresql
import pytest
import yaml

import nasplatform
from nasplatform.cli import main
from nasplatform.errors import RunError
from nasplatform.runs.driver import run
from nasplatform.runs.events import Event
from nasplatform.runs.folder import RunFolder
from nasplatform.runs.run import Run

RECIPE = {"epochs": 2, "batch_size": 16}
EPOCHS = ["epoch", "train_loss", "valid_accuracy", "learning_rate", "seconds"]


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 1, 8, 8), np.uint8), np.arange(60) % 3
    np.savez(folder / "images.npz", x=images, y=labels)
    content: dict[str, Any] = {
        "name": "trained",
        "space": {"name": "nasbench201", "stem_channels": 4, "cells_per_stage": 1},
        "evaluator": {"name": "trained", "recipe": RECIPE},
        "search": {"sampler": {"name": "random"}, "budget": 2},
        "task": {"dataset": "npz", "path": str(folder / "images.npz")},
        "stages": [{"name": "train", "recipe": RECIPE | {"epochs": 3}}],
        "runtime": "torch",
    }
    file = folder / "search.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@pytest.fixture(scope="module")
def finished(search: Path) -> Run:
    return run(search, search.parent / "run")


def test_every_training_has_its_epochs_with_keys_to_join(finished: Run) -> None:
    folder = finished.folder.path
    found, evaluations = nasplatform.read_epochs(folder), nasplatform.read_runs(folder)
    assert found.columns.tolist()[:5] == ["run", "search", "sampler", "predictor", "run_seed"]
    assert found[EPOCHS].notna().all().all()
    trained = found[found["stage"].isna()]
    assert trained["epoch"].tolist() == [1, 2, 1, 2]
    last = trained[trained["epoch"] == 2].merge(evaluations, on=["run", "number", "hash"])
    assert len(last) == 2
    assert (last["valid_accuracy"] == last["score"]).all()
    cost = trained.groupby("number")["seconds"].sum()
    assert np.allclose(cost.to_numpy(), evaluations["seconds"].to_numpy())
    parts = nasplatform.read_timings(folder)
    assert parts.loc[parts["stage"] == "train", "part"].tolist() == ["stage", "measuring"]
    walked = found[found["stage"].notna()].merge(finished.stages, on=["index", "stage"])
    assert walked["epoch"].tolist() == [1, 2, 3]
    assert walked["valid_accuracy"].iloc[-1] == walked["metric_valid_accuracy"].iloc[-1]


def test_a_run_that_is_not_finished_shows_what_it_has(search: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.phase == "search" and event.done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(search, tmp_path / "run", watch=stop)
    found = nasplatform.read_epochs(tmp_path / "run")
    assert (found["number"].tolist(), found["epoch"].tolist()) == ([0, 0], [1, 2])
    run(search, tmp_path / "run", {"stages": []}, resume=True)
    again = nasplatform.read_epochs(tmp_path / "run")
    assert again[EPOCHS].iloc[:2].equals(found[EPOCHS])


def test_a_run_that_kept_no_epochs_says_so(finished: Run, tmp_path: Path) -> None:
    older = RunFolder(tmp_path / "older")
    shutil.copytree(finished.folder.path, older.path)
    older.epochs.unlink()
    with pytest.warns(UserWarning, match="epochs.parquet is missing"):
        assert nasplatform.read_epochs(older.path)["stage"].unique().tolist() == ["train"]
    record = next(older.models.glob("*/record.json"))
    values = json.loads(record.read_text())
    del values["curve"]
    record.write_text(json.dumps(values))
    older.evaluations.unlink()
    older.study.unlink()
    with pytest.warns(UserWarning, match="its stage 'train' kept no epochs"):
        assert nasplatform.read_epochs(older.path).empty


@pytest.mark.postgres
def test_epochs_of_workers_are_in_their_database(
    search: Path, tmp_path: Path, postgresql_server: postgresql.Server
) -> None:
    url = postgresql_server.new_database()
    done = run(search, tmp_path / "run", {"storage": url, "stages": []})
    whole = nasplatform.read_epochs(done.folder.path)
    assert whole["epoch"].tolist() == [1, 2, 1, 2]
    for file in (done.folder.evaluations, done.folder.epochs):
        file.unlink()
    with pytest.warns(UserWarning, match="not contacted"):
        assert nasplatform.read_epochs(done.folder.path).empty
    assert nasplatform.read_epochs(done.folder.path, contact=True).equals(whole)
    stored = nasplatform.read_epochs(url)
    assert stored.drop(columns="run").equals(whole.drop(columns="run"))
    frame = nasplatform.read_runs(url)
    assert (frame["run"].unique().tolist(), len(frame)) == (["trained"], 2)
    assert nasplatform.list_runs(url)["evaluations"].tolist() == [2]
    assert nasplatform.read_timings(url)["part"].tolist() == ["proposing", "fitting", "evaluating"]
    with pytest.raises(RunError, match="holds no search"):
        nasplatform.read_runs(postgresql_server.new_database())


def test_the_reference_tells_every_column_with_its_dtype(finished: Run) -> None:
    documented: dict[str, dict[str, str]] = {}
    for section in Path("docs/reference/frames.md").read_text().split("\n## ")[1:]:
        name = re.findall(r"`(\w+)\(path\)`", section.splitlines()[0])
        rows = re.findall(r"^\| (`.+?) \| (.*?) \|", section, re.MULTILINE)
        columns = {one: kind for names, kind in rows for one in re.findall(r"`([^`]+)`", names)}
        documented |= dict.fromkeys(name, columns)
    assert set(documented) == {n for n in nasplatform.__all__ if n.startswith(("read_", "list_"))}
    first = ["run", "search", "sampler", "predictor", "run_seed"]
    for name, columns in documented.items():
        frame = getattr(nasplatform, name)(finished.folder.path)
        if name != "list_runs":
            assert frame.columns.tolist()[:5] == first
            frame = frame.drop(columns=first)
        families = tuple(one.removesuffix("*") for one in columns if one.endswith("*"))
        plain = [one for one in frame if not (families and one.startswith(families))]
        assert set(plain) == {one for one in columns if not one.endswith("*")} - {"pareto"}
        assert {one: str(frame[one].dtype) for one in plain} == {one: columns[one] for one in plain}


@pytest.mark.parametrize("frame", ["runs", "evaluations", "stages", "epochs", "timings"])
def test_every_frame_is_exported(finished: Run, frame: str, tmp_path: Path) -> None:
    out = tmp_path / f"{frame}.parquet"
    told = ["results", "export", str(finished.folder.path), "--out", str(out), "--frame", frame]
    assert main(told) == 0
    rows = {"runs": 1, "evaluations": 2, "stages": 1, "epochs": 7, "timings": 7}
    assert len(pd.read_parquet(out)) == rows[frame]
