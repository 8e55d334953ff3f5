"""What the documents show works as typed."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from nasplatform.spaces import get_space
from nasplatform.training.recipe import Recipe

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_predictor_of_contributing_learns_and_survives_the_disk(tmp_path: Path) -> None:
    shown: dict[str, object] = {}
    exec(blocks("CONTRIBUTING.md", "python")[0], shown)
    ridge = shown["Ridge"]
    space = get_space("nasbench101", stem_channels=8)
    graphs = space.graphs(space.sample(60, np.random.default_rng(0)))
    scores = np.log(graphs.total_params.astype(float))
    fitted = ridge().fit(graphs[:40], scores[:40])  # type: ignore[operator]
    fitted.save(tmp_path / "ridge")
    again = ridge.load(tmp_path / "ridge").predict(graphs[40:])  # type: ignore[attr-defined]
    assert np.corrcoef(again.mean, scores[40:])[0, 1] > 0.95
    assert np.array_equal(again.mean, fitted.predict(graphs[40:]).mean)


def test_documents_name_files_that_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        for path in re.findall(r"`((?:analysis|searches|nasplatform|data)/[\w/.-]+)`", text):
            assert (ROOT / path).exists(), f"{document} names {path}"


def test_python_of_the_readme_runs_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "searches", tmp_path / "searches")
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    exec(blocks("README.md", "python")[0], shown)
    assert len(shown["frame"]) == 20  # type: ignore[arg-type]
    assert len(shown["prediction"]) == 1000  # type: ignore[arg-type]


def test_pruning_of_the_readme_runs_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    exec(next(text for text in blocks("README.md", "python") if "Network.named" in text), shown)
    last = shown["records"][-1]  # type: ignore[index]
    assert last["after"]["macs"] <= 0.45 * last["before"]["macs"]


def test_docs_on_training_work_as_typed() -> None:
    recipe = yaml.safe_load(blocks("docs/training.md", "yaml")[0])["recipe"]
    assert set(recipe) == set(Recipe.model_fields)  # every option is shown
    Recipe.model_validate(recipe)
    shown: dict[str, Any] = {}
    exec(blocks("docs/training.md", "python")[0], shown)
    columns = ["epoch", "train_loss", "valid_accuracy", "teacher_loss"]
    assert list(shown["history"].frame().columns) == columns
