"""One damaged or foreign run stops no list: it is left out and named."""

from __future__ import annotations

import shutil
import sqlite3
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

import nasplatform
from nasplatform.cli import main
from nasplatform.errors import InputError
from nasplatform.runs import tables
from nasplatform.runs.run import Run

pytestmark = pytest.mark.usefixtures("toy")
SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "search": {"budget": 4, "sampler": {"name": "random"}},
}


def text(value: str | bytes, file: str = "resolved.yaml") -> Callable[[Path], Any]:
    data = value if isinstance(value, bytes) else value.encode()
    return lambda run: (run / file).write_bytes(data)


def frame(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        file = run / "evaluations.parquet"
        change(pd.read_parquet(file)).to_parquet(file)

    return damage


def study(change: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / "evaluations.parquet").unlink()
        change(run / "study.db")

    return damage


def sql(statement: str) -> Callable[[Path], None]:
    return study(lambda file: sqlite3.connect(file).executescript(statement))


def of_space(**options: object) -> Callable[[Path], None]:
    def damage(run: Path) -> None:
        (run / "evaluations.parquet").unlink()
        values = yaml.safe_load((run / "resolved.yaml").read_text())
        (run / "resolved.yaml").write_text(yaml.safe_dump({**values, "space": options}))

    return damage


DAMAGES = {
    "empty": text(""),
    "no-text": text(bytes(range(256))),
    "a-list": text("[1]"),
    "foreign": text("a: 1"),
    "a-tag": text("!!python/object:os.x {}"),
    "deep": text("[" * 5000),
    "frame-empty": text(b"", "evaluations.parquet"),
    "frame-no-parquet": text(b"junk" * 9, "evaluations.parquet"),
    "frame-without-numbers": frame(lambda found: found.drop(columns="number")),
    "frame-with-words": frame(lambda found: found.assign(score="a")),
    "frame-with-maybe": frame(lambda found: found.assign(feasible="yes")),
    "frame-of-durations": frame(lambda found: found.assign(mean=pd.Timedelta(1))),
    "frame-without-times": frame(lambda found: found.assign(ended=0.5)),
    "frame-of-lists": frame(lambda found: found.assign(metric_x=[[1]] * len(found))),
    "stages-no-parquet": text(b"junk", "stages.parquet"),
    "study-junk": study(lambda file: file.write_bytes(b"junk" * 100)),
    "study-cut": study(lambda file: file.write_bytes(file.read_bytes()[:20_000])),
    "records-empty": sql("update trial_user_attributes set value_json='{}'"),
    "records-numbers": sql("update trial_user_attributes set value_json='3'"),
    "records-broken": sql("update trial_user_attributes set value_json='{bad'"),
    "space-gone": of_space(name="gone"),
    "space-other": of_space(name="bits", n=9),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    nasplatform.run(file, tmp_path / "runs" / "good")
    for name, damage in DAMAGES.items():
        shutil.copytree(tmp_path / "runs" / "good", tmp_path / "runs" / name)
        damage(tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_damaged_runs_are_left_out_and_named(folder: Path) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        listed = nasplatform.list_runs(folder)
    assert listed["run"].tolist() == ["good"]
    words = [str(one.message) for one in told if "a run is left out" in str(one.message)]
    assert len(words) == len(DAMAGES)
    for name in DAMAGES:
        assert any(f"left out: {folder / name}" in one for one in words), name
    assert all(len(one) < 700 and "Errno" not in one for one in words)
    with pytest.warns(UserWarning, match="a run is left out"):
        assert set(nasplatform.read_runs(folder)["run"]) == {"good", "stages-no-parquet"}


@pytest.mark.parametrize("read", [nasplatform.list_runs, lambda run: Run(run).summary()])
def test_alone_a_damaged_run_is_one_line(folder: Path, read: Callable[[Path], Any]) -> None:
    for name in DAMAGES:
        with pytest.raises(InputError):
            read(folder / name)


def test_a_run_whose_columns_do_not_fit_those_of_others_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(SEARCH))
    for name, value in {"a": 0.5, "b": "words", "c": 1}.items():
        nasplatform.run(tmp_path / "toy.yaml", tmp_path / "runs" / name)
        frame(lambda found, value=value: found.assign(metric_x=value))(tmp_path / "runs" / name)
    with pytest.warns(UserWarning, match="left out: .*/b: cannot be read .*metric_x"):
        found = nasplatform.read_runs(tmp_path / "runs")
    assert set(found["run"]) == {"a", "c"}
    assert set(found["metric_x"]) == {0.5, 1.0}


def test_a_frame_of_stages_that_lacks_columns_is_shown(tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(SEARCH))
    nasplatform.run(tmp_path / "toy.yaml", tmp_path / "run")
    staged = pd.DataFrame({"stage": ["train"], "after_accuracy": [0.5]})
    staged.to_parquet(tmp_path / "run" / "stages.parquet")
    assert main(["results", "show", str(tmp_path / "run")]) == 0
    assert main(["results", "compare", str(tmp_path / "run")]) == 0
    with pytest.warns(UserWarning, match="columns are missing.*before_params"):
        assert nasplatform.read_stages(tmp_path / "run")["before_params"].isna().all()


def test_what_pandas_wrote_beside_a_frame_is_not_needed(tmp_path: Path) -> None:
    frame = pd.DataFrame({"text": ["a"], "number": [1.0]})
    tables.write_frame(frame, tmp_path / "whole")
    broken = pq.read_table(tmp_path / "whole").replace_schema_metadata({b"pandas": b"\x80{"})
    pq.write_table(broken, tmp_path / "broken")
    read = [
        tables.to_frame([tables.read_table(tmp_path / name, {})], {})
        for name in ("whole", "broken")
    ]
    pd.testing.assert_frame_equal(*read)
