"""Every frame has the columns and dtypes that are documented, whatever has happened to its run."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

import nasplatform
from nasplatform import plugins
from nasplatform.runs import columns
from nasplatform.runtimes.measure import Measurements

ROOT = Path(__file__).parents[2]
READERS: dict[str, tuple[Any, columns.Columns, tuple[str, ...]]] = {
    "list_runs": (nasplatform.list_runs, columns.RUNS, ()),
    "read_runs": (nasplatform.read_runs, columns.EVALUATIONS, ("attribute_*", "metric_*")),
    "read_predictions": (nasplatform.read_predictions, columns.PREDICTIONS, ()),
    "read_stages": (nasplatform.read_stages, columns.STAGES, ("metric_*",)),
    "read_epochs": (nasplatform.read_epochs, columns.EPOCHS, ("metric_*",)),
    "read_timings": (nasplatform.read_timings, columns.TIMINGS, ()),
}
SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "predictor": {"name": "ridge"},
    "search": {"budget": 12, "sampler": {"name": "predictor", "initial": 5}},
}


def documented() -> dict[str, dict[str, str]]:
    """Return reader -> column -> dtype, as the reference tells them."""
    found: dict[str, dict[str, str]] = {}
    text = (ROOT / "docs/reference/frames.md").read_text()
    for part in text.split("\n## ")[1:]:
        reader = re.search(r"`(\w+)\(path\)`", part.splitlines()[0])
        if reader is None:
            continue
        rows = re.findall(r"^\| (`.*?) \| ([^|]*) \|", part, re.MULTILINE)
        named = [(name, kind) for names, kind in rows for name in re.findall(r"`(.*?)`", names)]
        found[reader[1]] = dict(named)
    return found


@pytest.mark.parametrize("reader", READERS)
def test_the_reference_tells_the_columns_and_dtypes(reader: str) -> None:
    _, always, prefixes = READERS[reader]
    told = {name: kind for name, kind in documented()[reader].items() if name != "pareto"}
    assert set(told) == {*always, *prefixes}
    assert {name: told[name] for name in always} == dict(always)


def test_stages_have_what_is_measured_of_a_network() -> None:
    kinds = {"float": "float64", "int": "int64", "str": "str"}
    for when in ("before", "after"):
        for field in fields(Measurements):
            assert columns.STAGES[f"{when}_{field.name}"] == kinds[str(field.type)]
    assert len(columns.STAGES) == 5 + 2 * len(fields(Measurements))


@pytest.fixture
def run(toy: Path, tmp_path: Path) -> Path:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    nasplatform.run(file, tmp_path / "runs" / "a")
    return tmp_path / "runs" / "a"


@pytest.mark.parametrize("reader", READERS)
def test_real_frames_have_them_also_without_a_row(reader: str, run: Path) -> None:
    read, always, prefixes = READERS[reader]
    frame = read(run)
    assert len(frame) == {"read_runs": 12, "read_predictions": 7, "list_runs": 1}.get(
        reader, len(frame)
    )
    known = always if reader == "list_runs" else {**columns.PLACE, **always}
    assert {name: str(frame[name].dtype) for name in known} == dict(known)
    assert list(frame)[: len(columns.PLACE)] == list(known)[: len(columns.PLACE)]
    starts = tuple(prefix.removesuffix("*") for prefix in prefixes)
    others = frame.drop(columns=list(known))
    assert all(str(name).startswith(starts) for name in others)
    assert all(kind == "float64" for kind in others.dtypes)


def test_predictions_are_the_rows_that_were_predicted(run: Path) -> None:
    evaluations, said = nasplatform.read_runs(run), nasplatform.read_predictions(run)
    both = evaluations.merge(said, on=["run", "number"], suffixes=("", "_said"))
    assert len(both) == len(said) == evaluations["mean"].notna().sum()
    assert (both["residual"] == both["score"] - both["mean"]).all()
    inside = (both["residual"].abs() / both["std"]) <= 1.6448536
    assert said["within90"].tolist() == inside.tolist()
    assert said["std"].gt(0).all()


def test_a_failed_measurement_is_neither_inside_nor_outside() -> None:
    from nasplatform.runs.predictions import predictions

    rows = columns.empty_frame({**columns.PLACE, **columns.EVALUATIONS})
    rows = rows.reindex(range(3))
    rows["mean"], rows["std"], rows["score"] = [0.5, 0.5, None], 0.1, [None, 0.6, 0.6]
    said = predictions(rows)
    assert said["within90"].isna().tolist() == [True, False]
    assert said["within90"].iloc[1]


def test_what_is_known_unmeasured_is_an_attribute_and_no_metric(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = plugins.get("evaluators", "bits")
    plain = kind.attributes
    monkeypatch.setattr(kind, "attribute_names", lambda self: ("params", "flops", "energy"))
    monkeypatch.setattr(
        kind,
        "attributes",
        lambda self, asked: {**plain(self, asked), "energy": asked.matrix.sum(axis=1) + 1.0},
    )
    limits = {"objectives": {"energy": "minimize"}, "constraints": {"max_params": 1e9}}
    file = tmp_path / "energy.yaml"
    search = {"budget": 25, "sampler": {"name": "nsga2"}, **limits}
    file.write_text(yaml.safe_dump({**SEARCH, "predictor": None, "search": search}))
    nasplatform.run(file, tmp_path / "run")
    frame = nasplatform.read_runs(tmp_path / "run")
    ones = frame["architecture"].str.count("1")
    assert frame["attribute_energy"].tolist() == (ones + 1.0).tolist()
    assert not {"metric_energy", "metric_params", "attribute_params"} & set(frame)
    assert frame["metric_ones"].notna().all()
    assert "energy" in (tmp_path / "run" / "report.html").read_text()


def test_what_an_older_version_did_not_write_is_named_and_empty(run: Path) -> None:
    file = run / "evaluations.parquet"
    pd.read_parquet(file).drop(columns=["stopped", "started"]).to_parquet(file)
    shutil.copytree(run, run.parent / "b")
    with pytest.warns(UserWarning, match="values are empty: stopped, started") as told:
        frame = nasplatform.read_runs(run.parent)
    assert [str(one.message).partition(":")[0] for one in told] == [str(run), str(run.parent / "b")]
    assert len(frame) == 24
    for name in ("stopped", "started"):
        assert frame[name].isna().all()
        assert str(frame[name].dtype) == columns.EVALUATIONS[name]
