"""The scripts that draw the project's own tables of predictors."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from nasplatform.predictors.baselines import BASELINES

ANALYSIS = Path(__file__).parents[2] / "analysis"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"analysis_{name}", ANALYSIS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_protocols_resume_and_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protocols, predictors = script("protocols"), script("predictors")
    asked = [str(tmp_path), "--protocols", "digits", "--predictors", "gp", "--labels", "15"]
    assert protocols.main([*asked, "--draws", "1"]) == 0
    first = pd.read_parquet(tmp_path / "draws.parquet")
    assert sorted(first["predictor"]) == sorted([*BASELINES, "gp"])
    capsys.readouterr()
    assert protocols.main([*asked, "--draws", "1"]) == 0
    assert "draw 0" not in capsys.readouterr().err  # what was measured is kept
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "draws.parquet"), first)
    assert "| gp | 15 | 1 |" in (tmp_path / "protocols.md").read_text()
    assert predictors.main([str(tmp_path)]) == 0
    assert (tmp_path / "predictors-digits.svg").stat().st_size > 1000
    assert "| gp | 15 | 1 |" in (tmp_path / "predictors.md").read_text()


def test_bad_requests_end_with_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script("protocols").main([str(tmp_path), "--protocols", "nonsense"]) == 2
    assert script("predictors").main([str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
