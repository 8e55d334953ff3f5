"""What the documents show works as typed."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nasplatform.training.recipe import Recipe

ROOT = Path(__file__).parents[1]


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)


def test_documents_name_files_that_exist() -> None:
    for document in ("README.md", "CONTRIBUTING.md"):
        text = (ROOT / document).read_text()
        named = re.findall(r"`((?:analysis|searches|nasplatform|data|docs|tests)/[\w/.-]+)`", text)
        for path in named:
            assert (ROOT / path).exists(), f"{document} names {path}"


def test_links_lead_to_files() -> None:
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name} leads to {link}"


def test_python_of_the_readme_runs_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "searches", tmp_path / "searches")
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    exec(blocks("README.md", "python")[0], shown)
    assert len(shown["frame"]) == 20  # type: ignore[arg-type]
    assert len(shown["prediction"]) == 1000  # type: ignore[arg-type]


def test_pruning_of_a_network_runs_as_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown: dict[str, object] = {}
    exec(
        next(text for text in blocks("docs/networks.md", "python") if "Network.named" in text),
        shown,
    )
    last = shown["records"][-1]  # type: ignore[index]
    assert last["after"]["macs"] <= 0.45 * last["before"]["macs"]


def test_docs_on_training_work_as_typed() -> None:
    recipe = yaml.safe_load(blocks("docs/training.md", "yaml")[0])["recipe"]
    assert set(recipe) == set(Recipe.model_fields)  # every option is shown
    Recipe.model_validate(recipe)
    shown: dict[str, Any] = {}
    exec(blocks("docs/training.md", "python")[0], shown)
    columns = ["epoch", "train_loss", "valid_accuracy", "learning_rate", "seconds", "teacher_loss"]
    assert list(shown["history"].frame().columns) == columns
