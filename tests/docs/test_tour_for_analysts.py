"""The tour for analysts runs from frames to figures on a run with stages and on one without."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

import nasplatform

ROOT = Path(__file__).parents[2]
ALWAYS = {
    *("search", "regret", "predictions", "calibration", "front", "workers", "table", "winner"),
}


@pytest.mark.slow
@pytest.mark.parametrize("stages", [[], [{"name": "train", "recipe": {"epochs": 2}}]])
def test_the_tour_draws_every_picture(
    stages: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"search.budget": 12, "stages": stages}
    nasplatform.run(ROOT / "searches" / "quickstart.yaml", tmp_path / "run", changes)
    monkeypatch.setattr(sys, "argv", ["figures.py", str(tmp_path / "run"), str(tmp_path / "out")])
    runpy.run_path(str(ROOT / "examples" / "figures.py"))
    drawn = {file.stem for file in (tmp_path / "out").glob("*.svg")}
    assert drawn == ALWAYS | ({"stages", "learning"} if stages else set())
    for file in (tmp_path / "out").glob("*.svg"):
        assert len(list(ElementTree.parse(file).iter())) > 8, file
    assert len(pd.read_csv(tmp_path / "out" / "evaluations.csv")) >= 12


def test_it_is_in_the_percent_format() -> None:
    text = (ROOT / "examples" / "figures.py").read_text()
    cells = [line for line in text.splitlines() if line.startswith("# %%")]
    assert cells[0] == "# %% [markdown]"
    assert len(cells) > 8
