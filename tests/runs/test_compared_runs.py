"""Runs side by side, fronts, the newest run, and times that have a zone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

import nasplatform
from nasplatform.cli import main
from nasplatform.errors import RunError
from nasplatform.runs.comparison import compare_runs, compare_settings

pytestmark = pytest.mark.usefixtures("toy")
SEARCH: dict[str, Any] = {
    "name": "toy",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits"},
    "search": {"budget": 12, "sampler": {"name": "random"}},
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(SEARCH))
    return tmp_path


def test_settings_are_compared_over_the_seeds_they_share(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1, 2):
        for sampler in ("random", "local-search"):
            wanted = {"seed": seed, "search.sampler": {"name": sampler}}
            nasplatform.run("toy.yaml", f"runs/{sampler}-{seed}", wanted)
    runs = compare_runs(["runs/local-search-0", "runs", "runs/random-0"])
    assert len(runs) == 6
    assert set(runs["metric"]) == {"score"}
    settings = compare_settings(runs).set_index("sampler")
    scores = runs.pivot_table(index="seed", columns="sampler", values="score")
    first, second = scores["local-search"], scores["random"]
    row = settings.loc["random"]
    assert row["score_mean"] == pytest.approx(second.mean())
    assert row["score_sem"] == pytest.approx(stats.sem(second))
    assert row["score_gain"] == pytest.approx((second - first).mean())
    assert row["score_p"] == pytest.approx(stats.ttest_rel(second, first).pvalue)
    assert settings.loc["local-search", "score_gain"] == 0
    assert np.isnan(settings.loc["local-search", "score_p"])
    assert main(["results", "compare", "runs", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [len(told["runs"]), len(told["settings"])] == [6, 2]
    assert main(["results", "compare", "runs"]) == 0
    assert "settings over seeds" in capsys.readouterr().out


def test_scores_of_different_tasks_are_not_compared(place: Path) -> None:
    nasplatform.run("toy.yaml", "runs/toy")
    values = SEARCH | {"evaluator": {"name": "table", "table": "cells-digits"}}
    values.pop("space")
    Path("other.yaml").write_text(yaml.safe_dump(values))
    nasplatform.run("other.yaml", "other/run")
    with pytest.raises(RunError, match="different tasks cannot be compared"):
        compare_runs(["runs", "other"])


def test_fronts_are_told_everywhere(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasplatform.run("toy.yaml", "front/o", {"search.objectives": {"params": "minimize"}})
    frame = nasplatform.read_runs("front")
    rows = frame[["score", "params"]].to_numpy(float) * [1, -1]
    beaten = [((rows >= row).all(1) & (rows > row).any(1)).any() for row in rows]
    assert (frame["pareto"] == ~np.array(beaten)).all()
    unique = frame[frame["pareto"]]["hash"].nunique()
    assert nasplatform.list_runs("front")["front"].tolist() == [unique]
    assert main(["results", "show", "front/o"]) == 0
    assert f"Pareto front of {unique}" in capsys.readouterr().out
    report = Path("front/o/report.html").read_text()
    assert all(text in report for text in frame[frame["pareto"]]["architecture"])


def test_the_newest_run_is_shown_without_a_name(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nasplatform.run("toy.yaml", "runs/z")
    nasplatform.run("toy.yaml", "runs/last", {"seed": 9})
    assert main(["results", "show"]) == 0
    assert "newest: runs/last" in capsys.readouterr().err


def test_times_have_a_zone(place: Path) -> None:
    nasplatform.run("toy.yaml", "runs/random-0")
    started = nasplatform.read_runs("runs/random-0")["started"]
    assert str(started.dt.tz) == "UTC"
    assert abs(pd.Timestamp.now("UTC") - started.max()) < pd.Timedelta(minutes=10)
    assert str(nasplatform.list_runs("runs")["started"].dt.tz) == "UTC"
