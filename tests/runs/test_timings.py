"""Where the time of a run went: finished, live, half-written, without a search."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import nasplatform
from nasplatform.runs.events import Event

SEARCH = {
    "name": "toy",
    "space": {"name": "bits", "n": 8},
    "evaluator": {"name": "bits", "seconds": 0.02},
    "predictor": {"name": "ridge"},
    "search": {"budget": 12, "sampler": {"name": "predictor", "initial": 5}},
}
PARTS = ["setup", "proposing", "fitting", "evaluating", "predictor", "report"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "toy.yaml"
    file.write_text(yaml.safe_dump(SEARCH))
    return file


@pytest.mark.usefixtures("toy")
def test_the_parts_of_a_run_add_up_to_its_trials(file: Path, tmp_path: Path) -> None:
    nasplatform.run(file, tmp_path / "run")
    frame = nasplatform.read_timings(tmp_path / "run")
    assert frame["part"].tolist() == PARTS
    found = frame.set_index("part")
    assert found.loc[["proposing", "evaluating"], "count"].tolist() == [12, 12]
    assert found.loc["fitting", "count"] == 7  # of 12 trials, 5 are initial
    assert (found["seconds"] > 0).all()
    assert found.loc["evaluating", "seconds"] >= 12 * 0.02
    evaluations = nasplatform.read_runs(tmp_path / "run")
    spans = (evaluations["ended"] - evaluations["started"]).dt.total_seconds().sum()
    parts = found.loc[["proposing", "fitting", "evaluating"], "seconds"].sum()
    assert parts == pytest.approx(spans, rel=0.1)


@pytest.mark.usefixtures("toy")
def test_a_live_run_tells_what_it_has(file: Path, tmp_path: Path) -> None:
    def stop(event: Event) -> None:
        if event.phase == "search" and event.done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nasplatform.run(file, tmp_path / "run", watch=stop)
    live = nasplatform.read_timings(tmp_path / "run").set_index("part")
    assert live["count"].to_dict() == {"setup": 1, "proposing": 4, "fitting": 0, "evaluating": 4}
    nasplatform.run(file, tmp_path / "run", resume=True)
    whole = nasplatform.read_timings(tmp_path / "run").set_index("part")
    assert whole.loc[["setup", "evaluating"], "count"].tolist() == [2, 12]


@pytest.mark.usefixtures("toy")
def test_a_run_that_kept_no_times_says_so(file: Path, tmp_path: Path) -> None:
    done = nasplatform.run(file, tmp_path / "run")
    done.folder.timings.unlink()
    with pytest.warns(UserWarning, match=r"timings.json tells nothing of its search"):
        assert nasplatform.read_timings(tmp_path / "run").empty
