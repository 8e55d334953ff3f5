"""The script that searches transformers by training each of them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

from nasplatform.training.datasets import FASHION_FOLDER

SCRIPT = Path(__file__).parents[2] / "analysis" / "vit.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("analysis_vit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(not FASHION_FOLDER.is_dir(), reason="Fashion-MNIST is not installed")
def test_searches_go_on_where_they_stood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    vit = script()
    monkeypatch.setattr(
        vit, "FASHION", {"pool": 4, "train_size": 64, "valid_size": 100, "test_size": 100}
    )
    vit.searches(tmp_path, seeds=1, budget=5, most=1)
    assert "| predictor |" in capsys.readouterr().out
    first = pd.read_parquet(tmp_path / "vit-search.parquet")
    vit.searches(tmp_path, seeds=1, budget=5, most=None)
    every = pd.read_parquet(tmp_path / "vit-search.parquet")
    pd.testing.assert_frame_equal(every[:5], first)  # the first was not run again
    assert every["sampler"].tolist() == 5 * ["predictor"] + 5 * ["random"]
    assert every["architecture"].is_unique
    text = (tmp_path / "vit-search.md").read_text()
    best = every.loc[every.groupby("sampler")["valid_accuracy"].idxmax()]
    for row in best.itertuples():
        assert f"| {row.sampler} | {100 * row.valid_accuracy:.2f}" in text
